"""CloudWatch: alarms as records. No metrics are collected yet, so every alarm says `INSUFFICIENT_DATA`."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from moto.cloudwatch.models import CloudWatchBackend, cloudwatch_backends
from moto.cloudwatch.responses import CloudWatchResponse

from localcloud.api.registry import Service
from localcloud.settings import ACCOUNT_ID

if TYPE_CHECKING:
    from localcloud.api import ControlPlane

SERVICE = Service("cloudwatch", CloudWatchResponse)


def backend(plane: ControlPlane) -> CloudWatchBackend:
    """Return moto's records of the cloud's alarms."""
    return cloudwatch_backends[ACCOUNT_ID][plane.settings.region]


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
    """Make the alarms of a target tracking policy, as AWS does.

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
            period=60,
            threshold=threshold,
            statistic="Average",
            description=f"DO NOT EDIT OR DELETE. For TargetTrackingScaling policy {policy_arn}.",
            dimensions=[{"Name": "AutoScalingGroupName", "Value": group_name}],
            alarm_actions=[policy_arn],
        )
        alarm.update_state("Unchecked: Initial alarm creation", "{}", "INSUFFICIENT_DATA")
        made.append({"AlarmName": alarm.name, "AlarmARN": alarm.alarm_arn})
    return made


def remove_alarms(plane: ControlPlane, names: list[str]) -> None:
    """Delete alarms."""
    backend(plane).delete_alarms(names)
