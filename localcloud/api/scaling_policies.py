"""Auto Scaling's target tracking policies as records; `localcloud.scaling` does what they say."""

from __future__ import annotations

import uuid
from typing import Any

from moto.core.responses import ActionResult, EmptyResult

from localcloud.api import cloudwatch
from localcloud.api.asg_records import Policy
from localcloud.api.autoscaling import SERVICE, find_group, page_of
from localcloud.api.registry import AwsError, Call, unsupported
from localcloud.settings import ACCOUNT_ID

__all__ = ["SERVICE"]

_MODELLED = "ASGAverageCPUUtilization"
_PREDEFINED = (_MODELLED, "ASGAverageNetworkIn", "ASGAverageNetworkOut", "ALBRequestCountPerTarget")


@SERVICE.action("PutScalingPolicy")
def put_scaling_policy(call: Call) -> ActionResult:
    """Record a target tracking policy and make its alarms, which begin without data (`INSUFFICIENT_DATA`)."""
    params, plane = call.params, call.plane
    group = find_group(plane, params.get("AutoScalingGroupName"))
    if params.get("PolicyType") != "TargetTrackingScaling":
        raise unsupported(f"{params.get('PolicyType') or 'SimpleScaling'} policies (PolicyType)")
    configuration = _configuration(params)
    name = str(params.get("PolicyName") or "")
    known = group.policies.get(name)
    enabled = params.get("Enabled")
    warmup = params.get("EstimatedInstanceWarmup")
    policy = Policy(
        name=name,
        arn=known.arn
        if known
        else f"arn:aws:autoscaling:{plane.settings.region}:{ACCOUNT_ID}:scalingPolicy:{uuid.uuid4()}:"
        f"autoScalingGroupName/{group.name}:policyName/{name}",
        group_name=group.name,
        configuration=configuration,
        warmup=None if warmup is None else int(warmup),
        enabled=True if enabled is None else bool(enabled),
    )
    group.policies[name] = policy
    if known is not None and known.configuration == configuration:
        policy.alarms = known.alarms
        return ActionResult({"PolicyARN": policy.arn, "Alarms": policy.alarms})
    if known is not None:
        cloudwatch.remove_alarms(plane, [alarm["AlarmName"] for alarm in known.alarms])
    policy.alarms = cloudwatch.put_target_tracking_alarms(
        plane,
        group_name=group.name,
        policy_arn=policy.arn,
        metric_name=cloudwatch.CPU_UTILIZATION,
        namespace=cloudwatch.EC2_NAMESPACE,
        target=float(configuration["TargetValue"]),
        scale_in=not configuration["DisableScaleIn"],
    )
    return ActionResult({"PolicyARN": policy.arn, "Alarms": policy.alarms})


@SERVICE.action("DescribePolicies")
def describe_policies(call: Call) -> ActionResult:
    """List policies."""
    name = call.params.get("AutoScalingGroupName")
    groups = [find_group(call.plane, name)] if name else list(call.plane.groups.values())
    names, types = call.params.get("PolicyNames") or [], call.params.get("PolicyTypes") or []
    found = [
        {
            "AutoScalingGroupName": policy.group_name,
            "PolicyName": policy.name,
            "PolicyARN": policy.arn,
            "PolicyType": "TargetTrackingScaling",
            "TargetTrackingConfiguration": policy.configuration,
            "EstimatedInstanceWarmup": policy.warmup,
            "Enabled": policy.enabled,
            "Alarms": policy.alarms,
        }
        for group in groups
        for policy in group.policies.values()
        if (not names or policy.name in names or policy.arn in names)
        and (not types or "TargetTrackingScaling" in types)
    ]
    page, token = page_of(found, call.params)
    return ActionResult({"ScalingPolicies": page, "NextToken": token})


@SERVICE.action("DeletePolicy")
def delete_policy(call: Call) -> EmptyResult:
    """Delete a policy and its alarms."""
    wanted = call.params.get("PolicyName")
    for group in call.plane.groups.values():
        for policy in list(group.policies.values()):
            if wanted in (policy.name, policy.arn) and call.params.get("AutoScalingGroupName") in (None, group.name):
                cloudwatch.remove_alarms(call.plane, [alarm["AlarmName"] for alarm in policy.alarms])
                del group.policies[policy.name]
                return EmptyResult()
    raise AwsError("ValidationError", f"No scaling policy found for {wanted}")


def _configuration(params: dict[str, Any]) -> dict[str, Any]:
    """Check a target tracking configuration and fill in AWS's defaults.

    Raises:
        AwsError: AWS would refuse it, or no metric moves it here.
    """
    configuration = dict(params.get("TargetTrackingConfiguration") or {})
    if configuration.get("CustomizedMetricSpecification"):
        raise unsupported("target tracking of custom metrics (CustomizedMetricSpecification)")
    metric = (configuration.get("PredefinedMetricSpecification") or {}).get("PredefinedMetricType")
    if metric in _PREDEFINED and metric != _MODELLED:
        raise unsupported(f"the metric {metric} (PredefinedMetricType); it has {_MODELLED}")
    if metric != _MODELLED:
        raise AwsError("ValidationError", f"{metric} is not one of the metric types {', '.join(_PREDEFINED)}")
    if configuration.get("TargetValue") is None:
        raise AwsError("ValidationError", "TargetValue is required")
    if float(configuration["TargetValue"]) <= 0:
        raise AwsError("ValidationError", "TargetValue must be greater than 0")
    configuration.setdefault("DisableScaleIn", False)
    return configuration
