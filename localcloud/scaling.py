"""Target tracking as it acts: an alarm that is in ALARM changes its group's desired capacity.

Sources: Auto Scaling User Guide, "Target tracking scaling policies" (with its "Considerations"), "How suspended
processes affect other processes"; API Reference, "PutScalingPolicy". AWS does not publish its arithmetic: here the
capacity for which the load of the last period would come to the target, rounded up; inwards one instance at a time,
because AWS "scales in more gradually".
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from localcloud.api import cloudwatch
from localcloud.api.asg_records import Group, Policy
from localcloud.api.metric_records import Datapoint

if TYPE_CHECKING:
    from moto.cloudwatch.models import Alarm

    from localcloud.api import ControlPlane


def follow(plane: ControlPlane, alarm: Alarm, action: str, point: Datapoint) -> None:
    """Do what an alarm in ALARM asks for, within the group's bounds.

    Args:
        plane: the control plane, whose lock is held.
        alarm: the alarm.
        action: the ARN of the policy it calls.
        point: the newest data point of its metric: a value for each instance that counts.
    """
    group, policy = _find(plane, action)
    if group is None or policy is None or not policy.enabled or group.deleting:
        return
    if "AlarmNotification" in group.suspended:
        return
    needed = math.ceil(round(point.statistic("Sum") / float(policy.configuration["TargetValue"]), 6))
    if alarm.comparison_operator == "GreaterThanThreshold":
        wanted = min(needed, group.maximum)
        may = wanted > group.desired and "Launch" not in group.suspended
    else:
        wanted = max(needed, group.desired - 1, group.minimum)
        may = wanted < group.desired and _may_scale_in(plane, group, policy)
    if may:
        why = f"a monitor alarm {alarm.name} in state ALARM triggered policy {policy.name}"
        group.set_desired(wanted, why)


def _find(plane: ControlPlane, arn: str) -> tuple[Group, Policy] | tuple[None, None]:
    for group in plane.groups.values():
        for policy in group.policies.values():
            if policy.arn == arn:
                return group, policy
    return None, None


def _may_scale_in(plane: ControlPlane, group: Group, policy: Policy) -> bool:
    """Whether nothing speaks against fewer instances.

    "A scale-in activity can't start while a scale-out activity is in progress", which lasts until the new instances
    have warmed up; and several policies scale in only when all of them that may are ready to.
    """
    if "Terminate" in group.suspended:
        return False
    now, warmup = plane.clock(), _warmup(group, policy)
    for member in group.members.values():
        young = member.lifecycle == "InService" and now - member.changed < warmup
        if young or member.launching or member.terminating:
            return False
    alarms = cloudwatch.backend(plane).alarms
    lows = [
        alarms.get(name)
        for other in group.policies.values()
        if other.enabled
        for name in (one["AlarmName"] for one in other.alarms)
        if "-AlarmLow-" in name
    ]
    return all(low is not None and low.state_value == "ALARM" for low in lows)


def _warmup(group: Group, policy: Policy) -> int:
    """Seconds: the policy's own, else the group's default warm-up, else its cooldown ("PutScalingPolicy")."""
    if policy.warmup is not None:
        return policy.warmup
    return group.cooldown if group.warmup is None else group.warmup
