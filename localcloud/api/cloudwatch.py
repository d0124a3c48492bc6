"""CloudWatch's alarms as records; `localcloud.alarms` moves their states by what `localcloud.monitoring` publishes."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from moto.cloudwatch.models import CloudWatchBackend, cloudwatch_backends
from moto.cloudwatch.responses import CloudWatchResponse

from localcloud.api.registry import AwsError, Call, Service, unsupported
from localcloud.settings import ACCOUNT_ID

if TYPE_CHECKING:
    from localcloud.api import ControlPlane

SERVICE = Service("cloudwatch", CloudWatchResponse)

EC2_NAMESPACE = "AWS/EC2"
CPU_UTILIZATION = "CPUUtilization"

_COMPARISONS = (
    "GreaterThanThreshold",
    "GreaterThanOrEqualToThreshold",
    "LessThanThreshold",
    "LessThanOrEqualToThreshold",
)
_MISSING = ("missing", "ignore", "breaching", "notBreaching")
_STATISTICS = ("SampleCount", "Average", "Sum", "Minimum", "Maximum")


def backend(plane: ControlPlane) -> CloudWatchBackend:
    """Return moto's records of the cloud's alarms."""
    return cloudwatch_backends[ACCOUNT_ID][plane.settings.region]


@SERVICE.action("PutMetricAlarm")
def put_metric_alarm(call: Call) -> object:
    """Make an alarm that has no data yet, or change one that keeps its state: moto says OK to both.

    API Reference, "PutMetricAlarm": "When an alarm is created, the alarm state is immediately set to
    INSUFFICIENT_DATA"; "When you update an existing alarm, its state is left unchanged".
    """
    params, alarms = call.params, backend(call.plane).alarms
    call.refuse_parameters(
        {
            "Metrics": "alarms on metric math",
            "ExtendedStatistic": "percentiles",
            "ThresholdMetricId": "anomaly detection",
            "EvaluateLowSampleCountPercentile": "percentiles",
            "AlarmActions": "alarm actions other than those of scaling policies, which make their own alarms",
            "OKActions": "alarm actions",
            "InsufficientDataActions": "alarm actions",
            "Unit": "alarms on one unit of a metric",
        }
    )
    _check_alarm(params)
    known = alarms.get(str(params.get("AlarmName")))
    result = call.forward()
    alarm = alarms[str(params.get("AlarmName"))]
    alarm.state_value = "INSUFFICIENT_DATA"
    if known is not None:
        for field in ("state_value", "state_reason", "state_reason_data", "state_updated_timestamp", "history"):
            setattr(alarm, field, getattr(known, field))
    return result


def _check_alarm(params: dict[str, Any]) -> None:
    for name in ("MetricName", "Namespace", "Statistic", "Period", "Threshold"):
        if params.get(name) is None:
            raise AwsError("ValidationError", f"The parameter {name} is required for an alarm on one metric.")
    for name, choices in (
        ("ComparisonOperator", _COMPARISONS),
        ("Statistic", _STATISTICS),
        ("TreatMissingData", _MISSING),
    ):
        if params.get(name) is not None and params[name] not in choices:
            raise unsupported(f"{params[name]!r} of alarms ({name})")
    periods = int(params.get("EvaluationPeriods") or 0)
    needed = params.get("DatapointsToAlarm")
    if periods < 1:
        raise AwsError("ValidationError", "EvaluationPeriods must be 1 or more.")
    if needed is not None and not 1 <= int(needed) <= periods:
        raise AwsError("ValidationError", f"DatapointsToAlarm must be from 1 to EvaluationPeriods ({periods}).")
    period = int(params["Period"])
    if period not in (10, 20, 30) and (period < 60 or period % 60):
        raise AwsError("ValidationError", "Period must be 10, 20, 30 or a multiple of 60 seconds.")


def put_target_tracking_alarms(
    plane: ControlPlane,
    *,
    group_name: str,
    policy_arn: str,
    metric_name: str,
    namespace: str,
    target: float,
    scale_in: bool,
) -> list[dict[str, str]]:
    """Make the alarms of a target tracking policy, as AWS does; without scale-in there is no AlarmLow.

    Above the target for 3 minutes means out; below 90 % of it for 15 minutes means in (seen in accounts; the
    Auto Scaling User Guide, "Target tracking scaling policies", says that such alarms are made and not to touch them).

    Returns:
        AlarmName and AlarmARN of each.
    """
    wanted = [("AlarmHigh", "GreaterThanThreshold", target, 3)]
    if scale_in:
        wanted.append(("AlarmLow", "LessThanThreshold", target * 0.9, 15))
    made = []
    for kind, comparison, threshold, periods in wanted:
        alarm = backend(plane).put_metric_alarm(
            name=f"TargetTracking-{group_name}-{kind}-{uuid.uuid4()}",
            namespace=namespace,
            metric_name=metric_name,
            comparison_operator=comparison,
            evaluation_periods=periods,
            period=plane.settings.metric_period,
            threshold=threshold,
            statistic="Average",
            description=f"DO NOT EDIT OR DELETE. For TargetTrackingScaling policy {policy_arn}.",
            dimensions=[{"Name": "AutoScalingGroupName", "Value": group_name}],
            alarm_actions=[policy_arn],
        )
        alarm.state_value = "INSUFFICIENT_DATA"
        made.append({"AlarmName": alarm.name, "AlarmARN": alarm.alarm_arn})
    return made


def remove_alarms(plane: ControlPlane, names: list[str]) -> None:
    """Delete alarms."""
    backend(plane).delete_alarms(names)
