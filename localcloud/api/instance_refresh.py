"""Auto Scaling's instance refreshes: writes down what is wanted; `localcloud.refreshes` goes there step by step."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from moto.core.responses import ActionResult

from localcloud import refreshes
from localcloud.api import cloudwatch
from localcloud.api.asg_records import Group, Refresh
from localcloud.api.autoscaling import SERVICE, check_launch, find_group, page_of, template_of
from localcloud.api.ec2 import templates
from localcloud.api.registry import AwsError, Call, unsupported

if TYPE_CHECKING:
    from localcloud.api import ControlPlane

__all__ = ["SERVICE"]

_KEPT = 100
_LONGEST_DELAY = 172_800
_DEFAULTS = {
    "MinHealthyPercentage": 90,
    "SkipMatching": False,
    "AutoRollback": False,
    "ScaleInProtectedInstances": "Wait",
    "StandbyInstances": "Wait",
}
_CHOICES = {
    "ScaleInProtectedInstances": ("Refresh", "Ignore", "Wait"),
    "StandbyInstances": ("Terminate", "Ignore", "Wait"),
}
_RANGES = {
    "MinHealthyPercentage": (0, 100),
    "MaxHealthyPercentage": (100, 200),
    "InstanceWarmup": (0, None),
    "CheckpointDelay": (0, _LONGEST_DELAY),
    "BakeTime": (0, _LONGEST_DELAY),
}


@SERVICE.action("StartInstanceRefresh")
def start_instance_refresh(call: Call) -> ActionResult:
    """Record a refresh, which begins with the next step; there is one at a time."""
    plane, params = call.plane, call.params
    group = find_group(plane, params.get("AutoScalingGroupName"))
    if (params.get("Strategy") or "Rolling") != "Rolling":
        raise unsupported(f"refreshes by {params['Strategy']} (Strategy)")
    if group.refresh is not None:
        raise AwsError(
            "InstanceRefreshInProgress",
            f"An Instance Refresh is already in progress and blocks the execution of this Instance Refresh "
            f"({group.refresh.refresh_id}).",
        )
    desired = _desired(plane, group, params.get("DesiredConfiguration") or {})
    preferences = _preferences(plane, group, params.get("Preferences") or {})
    if preferences["AutoRollback"]:
        reason = _irreversible(plane, group, desired) or _unnumbered(desired, "desired configuration")
        if reason:
            raise AwsError("ValidationError", f"AutoRollback cannot be enabled: {reason}")
    refresh = Refresh(group_name=group.name, desired=desired, preferences=preferences)
    group.refreshes.insert(0, refresh)
    del group.refreshes[_KEPT:]
    return ActionResult({"InstanceRefreshId": refresh.refresh_id})


@SERVICE.action("DescribeInstanceRefreshes")
def describe_instance_refreshes(call: Call) -> ActionResult:
    """List a group's refreshes, newest first."""
    group = find_group(call.plane, call.params.get("AutoScalingGroupName"))
    wanted = call.params.get("InstanceRefreshIds") or []
    found = [r for r in group.refreshes if not wanted or r.refresh_id in wanted]
    page, token = page_of(found, call.params)
    return ActionResult({"InstanceRefreshes": [_describe(r) for r in page], "NextToken": token})


@SERVICE.action("CancelInstanceRefresh")
def cancel_instance_refresh(call: Call) -> ActionResult:
    """Stop a refresh or a rollback where it is; nothing is undone."""
    group = find_group(call.plane, call.params.get("AutoScalingGroupName"))
    refresh = _active(group)
    if refresh.status != "Cancelling":
        wait = call.params.get("WaitForTransitioningInstances")
        refreshes.cancel(call.plane, group, refresh, wait=True if wait is None else bool(wait))
    return ActionResult({"InstanceRefreshId": refresh.refresh_id})


@SERVICE.action("RollbackInstanceRefresh")
def rollback_instance_refresh(call: Call) -> ActionResult:
    """Turn a refresh that is under way back to what the group had saved before it."""
    group = find_group(call.plane, call.params.get("AutoScalingGroupName"))
    refresh = _active(group)
    if refresh.status in ("RollbackInProgress", "Cancelling"):
        raise AwsError(
            "ActiveInstanceRefreshNotFound",
            f"No instance refresh that can be rolled back is in progress: the last one is {refresh.status}.",
        )
    reason = _irreversible(call.plane, group, refresh.desired)
    if reason:
        raise AwsError("IrreversibleInstanceRefresh", reason)
    refreshes.roll_back(call.plane, group, refresh, "Rollback was requested by RollbackInstanceRefresh.")
    return ActionResult({"InstanceRefreshId": refresh.refresh_id})


def _active(group: Group) -> Refresh:
    if group.refresh is None:
        raise AwsError(
            "ActiveInstanceRefreshNotFound",
            f"No in progress or pending Instance Refresh found for Auto Scaling group {group.name}",
        )
    return group.refresh


def _desired(plane: ControlPlane, group: Group, given: dict[str, Any]) -> dict[str, Any] | None:
    if not given:
        return None
    if given.get("MixedInstancesPolicy"):
        raise unsupported("mixed instances (DesiredConfiguration.MixedInstancesPolicy)")
    if not given.get("LaunchTemplate"):
        raise AwsError(
            "ValidationError", "A desired configuration must have either a LaunchTemplate or a MixedInstancesPolicy."
        )
    desired = template_of(plane, given["LaunchTemplate"])
    check_launch(plane, replace(group, template=desired))
    return desired


def _preferences(plane: ControlPlane, group: Group, given: dict[str, Any]) -> dict[str, Any]:
    for name, (low, high) in _RANGES.items():
        value = given.get(name)
        if value is not None and (int(value) < low or (high is not None and int(value) > high)):
            raise AwsError("ValidationError", f"{name} must be from {low} to {high if high is not None else 'any'}")
    for name, choices in _CHOICES.items():
        if given.get(name) is not None and given[name] not in choices:
            raise AwsError("ValidationError", f"{name} must be one of {', '.join(choices)}")
    merged = {**_DEFAULTS, **{name: value for name, value in given.items() if value is not None}}
    if merged.get("MaxHealthyPercentage") is not None:
        if given.get("MinHealthyPercentage") is None:
            raise AwsError("ValidationError", "MaxHealthyPercentage needs MinHealthyPercentage to be given as well.")
        if int(merged["MaxHealthyPercentage"]) - int(merged["MinHealthyPercentage"]) > 100:
            raise AwsError(
                "ValidationError",
                "The difference between MaxHealthyPercentage and MinHealthyPercentage cannot be greater than 100.",
            )
    points = [int(p) for p in merged.get("CheckpointPercentages") or []]
    if any(not 1 <= p <= 100 for p in points) or any(a >= b for a, b in pairwise(points)):
        raise AwsError("ValidationError", "CheckpointPercentages must be unique, ascending and from 1 to 100.")
    if merged.get("CheckpointDelay") is not None and not points:
        raise AwsError("ValidationError", "CheckpointDelay needs CheckpointPercentages to be given as well.")
    if points:
        merged.setdefault("CheckpointDelay", 3600)
    merged.setdefault("InstanceWarmup", group.grace_period if group.warmup is None else group.warmup)
    _check_alarms(plane, (merged.get("AlarmSpecification") or {}).get("Alarms") or [])
    return merged


def _check_alarms(plane: ControlPlane, names: list[str]) -> None:
    if len(names) > 10:
        raise AwsError("ValidationError", "AlarmSpecification takes up to 10 alarms.")
    for name in names:
        if name not in cloudwatch.backend(plane).alarms:
            raise AwsError("ValidationError", f"The CloudWatch alarm {name} in AlarmSpecification does not exist.")


def _irreversible(plane: ControlPlane, group: Group, desired: dict[str, Any] | None) -> str:
    """Say why AWS could not roll this back, or nothing (API Reference, "RollbackInstanceRefresh")."""
    if desired is None:
        return "There is no desired configuration specified for the instance refresh."
    reason = _unnumbered(group.template, f"Auto Scaling group {group.name}")
    if reason:
        return reason
    wanted = {name: group.template[name] for name in ("LaunchTemplateId", "Version")}
    data, _ = templates.data_of(plane, wanted)
    if str(data.get("ImageId") or "").startswith("resolve:ssm:"):
        return "The group's launch template uses a Systems Manager parameter instead of an AMI ID."
    return ""


def _unnumbered(template: dict[str, Any] | None, whose: str) -> str:
    version = str((template or {}).get("Version") or "$Default")
    return "" if version.isdigit() else f"The {whose} uses the launch template's {version} version."


def _describe(refresh: Refresh) -> dict[str, Any]:
    told: dict[str, Any] = {
        "InstanceRefreshId": refresh.refresh_id,
        "AutoScalingGroupName": refresh.group_name,
        "Status": refresh.status,
        "StatusReason": refresh.reason,
        "StartTime": refresh.started,
        "EndTime": refresh.ended,
        "PercentageComplete": refresh.percentage,
        "InstancesToUpdate": refresh.to_update,
        "Preferences": refresh.preferences,
        "Strategy": "Rolling",
    }
    if refresh.desired is not None:
        told["DesiredConfiguration"] = {
            "LaunchTemplate": {name: value for name, value in refresh.desired.items() if value is not None}
        }
    if refresh.rollback is not None:
        told["RollbackDetails"] = {
            "RollbackReason": refresh.rollback.reason,
            "RollbackStartTime": refresh.rollback.started,
            "PercentageCompleteOnRollback": refresh.rollback.percentage,
            "InstancesToUpdateOnRollback": refresh.rollback.to_update,
        }
    return told
