"""Instance refreshes as they act: a group's instances are replaced within the healthy percentages, or put back.

`step` does what can be done at once and says how many instances the group may hold above its desired capacity;
the group's own resizing launches them. Sources: Auto Scaling User Guide, "How an instance refresh works",
"Undo changes with a rollback", "Add checkpoints", "Use skip matching"; API Reference, "RefreshPreferences".
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from localcloud.api import autoscaling, cloudwatch
from localcloud.api.asg_records import Group, Member, Refresh, Rollback
from localcloud.api.ec2 import templates
from localcloud.model import HealthState, TargetHealth

if TYPE_CHECKING:
    from localcloud.api import ControlPlane

Health = Callable[[str], dict[str, TargetHealth]]

_PATIENCE = 3600.0
"""AWS waits an hour for protected instances; here it is the bound for anything that does not go forward."""
_TRIES = 3
"""How many replacements may fail before the refresh does. AWS does not document its own number."""


def step(plane: ControlPlane, group: Group, now: float, health: Health) -> None:
    """Do what can be done for the group's refresh.

    Args:
        plane: the control plane, whose lock is held.
        group: the group.
        now: seconds on the control plane's clock.
        health: what the probes saw of a target group, by `TARGET_ID:PORT`.
    """
    refresh = group.refresh
    if refresh is None or group.deleting:
        return
    if refresh.status == "Cancelling":
        _finish_cancelling(group, refresh)
        return
    if "InstanceRefresh" in group.suspended:
        return
    if refresh.status == "Pending":
        _begin(plane, group, refresh, now)
    if refresh.status in ("InProgress", "Baking") and (alarm := _alarm(plane, refresh)):
        _fail(plane, group, refresh, f"The CloudWatch alarm {alarm} is in the ALARM state.", now, health)
        return
    if refresh.status == "Baking":
        _bake(group, refresh, now)
    elif refresh.status in ("InProgress", "RollbackInProgress"):
        _go_forward(plane, group, refresh, now, health)


def cancel(plane: ControlPlane, group: Group, refresh: Refresh, *, wait: bool) -> None:
    """Stop replacing; what was launched above the desired capacity and does not serve goes, the rest stays.

    Args:
        plane: the control plane, whose lock is held.
        group: the group.
        refresh: its refresh.
        wait: stay `Cancelling` until launches and terminations under way are over.
    """
    _drop_surplus(plane, group, refresh, "its refresh was cancelled")
    refresh.status, refresh.reason, refresh.extra = "Cancelling", "Cancelled due to user request.", 0
    if not wait:
        refresh.end("Cancelled", refresh.reason)


def roll_back(plane: ControlPlane, group: Group, refresh: Refresh, reason: str) -> None:
    """Turn round: what the refresh launched is replaced by what the group had saved.

    Args:
        plane: the control plane, whose lock is held.
        group: the group.
        refresh: its refresh.
        reason: why, for RollbackDetails.
    """
    refresh.rollback = Rollback(reason, refresh.percentage, refresh.to_update)
    launched = {m.instance_id for m in _serving(group) if m.instance_id not in refresh.known}
    refresh.status, refresh.reason = "RollbackInProgress", reason
    refresh.known = set(group.members)
    refresh.outdated, refresh.total = launched, len(launched)
    refresh.failed, refresh.extra = {}, 0
    refresh.since = plane.clock()
    group.failures, group.retry_at = 0, 0.0


def _begin(plane: ControlPlane, group: Group, refresh: Refresh, now: float) -> None:
    skip_matching, protected = refresh.preferences["SkipMatching"], refresh.preferences["ScaleInProtectedInstances"]
    refresh.known = set(group.members)
    # "Ignore" leaves out what is in standby; "Wait" and "Terminate" replace it as well ("RefreshPreferences").
    standby = [] if refresh.preferences["StandbyInstances"] == "Ignore" else _in_standby(group)
    refresh.outdated = {
        m.instance_id
        for m in [*_serving(group), *standby]
        if not (skip_matching and _matches(plane, group, refresh, m)) and not (protected == "Ignore" and m.protected)
    }
    refresh.total = refresh.to_update = len(refresh.outdated)
    refresh.status, refresh.since = "InProgress", now
    group.failures, group.retry_at = 0, 0.0


def _matches(plane: ControlPlane, group: Group, refresh: Refresh, member: Member) -> bool:
    wanted = refresh.desired or group.template
    template = templates.find(plane, wanted["LaunchTemplateId"], None)
    number = str(templates.version_of(template, wanted["Version"]).number)
    return (member.template_id, member.template_version) == (template.id, number)


def _go_forward(plane: ControlPlane, group: Group, refresh: Refresh, now: float, health: Health) -> None:
    _take_note_of_failures(group, refresh)
    standby = _standby(plane, group, refresh)
    serving = _serving(group)
    old = [m for m in serving if m.instance_id in refresh.outdated]
    new = [m for m in serving if m.instance_id not in refresh.known]
    waiting = {m.instance_id: reason for m in new if (reason := _unready(group, refresh, m, now, health))}
    unhealthy = {m.instance_id for m in old if not _serves(group, m, health)}
    _report(refresh, len(old), len(new) - len(waiting), now)
    if len(refresh.failed) >= _TRIES or group.failures >= _TRIES:
        _fail(plane, group, refresh, _why(group, refresh), now, health)
        return
    if not old and not standby and not waiting and len(serving) >= group.desired:
        refresh.extra = 0
        if not any(m.terminating for m in group.members.values()):
            _arrive(group, refresh, now)
        return
    budget = _budget(refresh, len(old), now)
    if budget is None:
        _arrive(group, refresh, now)
        return
    blocked = refresh.preferences["ScaleInProtectedInstances"] == "Wait"
    free = [m for m in old if not (m.protected and blocked)]
    going: list[Member] = []
    # "How suspended processes affect other processes": without either, nothing is replaced.
    if not group.suspended & {"Launch", "Terminate"}:
        ready = len(serving) - len(waiting) - len(unhealthy)
        going = _chosen(group, refresh, free, unhealthy, budget, ready)
    for member in going:
        cause = f"an instance was taken out of service in response to an instance refresh ({refresh.refresh_id})."
        autoscaling.begin_termination(plane, group, member, cause)
    refresh.extra = _extra(group, refresh, min(budget, len(free)) - len(going))
    refresh.reason = _told(waiting, [m for m in old if m not in free], free, standby)
    if now - refresh.since > _PATIENCE:
        reason = f"Nothing went forward for an hour. {refresh.reason or ''}".strip()
        _fail(plane, group, refresh, reason, now, health)


def _in_standby(group: Group) -> list[Member]:
    return [m for m in group.members.values() if m.lifecycle in ("EnteringStandby", "Standby")]


def _standby(plane: ControlPlane, group: Group, refresh: Refresh) -> list[Member]:
    """Deal with outdated members in standby as the preferences say; return those that are waited for."""
    found = [m for m in _in_standby(group) if m.instance_id in refresh.outdated]
    if refresh.preferences["StandbyInstances"] != "Terminate" or "Terminate" in group.suspended:
        return found
    for member in found:
        cause = f"an instance was taken out of service in response to an instance refresh ({refresh.refresh_id})."
        autoscaling.begin_termination(plane, group, member, cause)
    # They have no successors: the desired capacity does not count them.
    refresh.outdated -= {member.instance_id for member in found}
    refresh.total -= len(found)
    return []


def _take_note_of_failures(group: Group, refresh: Refresh) -> None:
    for member in group.members.values():
        if member.instance_id not in refresh.known and member.health != "Healthy":
            refresh.failed[member.instance_id] = member.cause or "it was unhealthy"


def _why(group: Group, refresh: Refresh) -> str:
    if refresh.failed:
        ids = ", ".join(sorted(refresh.failed))
        return f"Replacement instances failed their health checks: {ids}. {next(iter(refresh.failed.values()))}"
    failed = next((a.message for a in group.activities if a.status == "Failed"), None)
    return f"Replacement instances could not be launched. {failed or ''}".strip()


def _report(refresh: Refresh, old: int, updated: int, now: float) -> None:
    """Say how far it got: an instance is updated once it is healthy and warmed up, and its predecessor goes."""
    remaining = max(old, refresh.total - updated, 0)
    done = 1.0 if refresh.total == 0 else (refresh.total - remaining) / refresh.total
    if refresh.rollback is None:
        percentage = int(100 * done)
        if remaining != refresh.to_update or percentage != refresh.percentage:
            refresh.since = now
        refresh.to_update, refresh.percentage = remaining, percentage
        return
    # "This value gradually goes back down to zero during a rollback" (API Reference, "InstanceRefresh").
    gone = 1.0 if refresh.total == 0 else (refresh.total - old) / refresh.total
    percentage = int(refresh.rollback.percentage * (1 - gone))
    if percentage != refresh.percentage:
        refresh.since = now
    refresh.percentage = percentage


def _budget(refresh: Refresh, old: int, now: float) -> int | None:
    """How many more instances may be replaced before the next checkpoint; None after the last one."""
    points = refresh.preferences.get("CheckpointPercentages") or []
    if not points or refresh.rollback is not None:
        return old
    while True:
        limit = math.ceil(refresh.total * int(points[refresh.checkpoint]) / 100)
        if refresh.total - refresh.to_update < limit:
            return limit - (refresh.total - old)
        if refresh.checkpoint + 1 == len(points):
            return None
        if refresh.reached is None:
            refresh.reached = now
        if now - refresh.reached < int(refresh.preferences["CheckpointDelay"]):
            refresh.since = now
            return 0
        refresh.checkpoint, refresh.reached = refresh.checkpoint + 1, None


def _floor(group: Group, refresh: Refresh) -> int:
    return math.ceil(group.desired * int(refresh.preferences["MinHealthyPercentage"]) / 100)


def _extra(group: Group, refresh: Refresh, left: int) -> int:
    """How many instances to hold above the desired capacity, so that the new are there before the old go.

    With MaxHealthyPercentage given and both bounds at the desired capacity AWS launches one more first; without it
    an instance is terminated and its replacement launched at the same time ("RefreshPreferences").
    The group's maximum size does not count, as with AWS's instance maintenance policies.
    """
    most = refresh.preferences.get("MaxHealthyPercentage")
    if most is None:
        return 0
    room = math.floor(group.desired * int(most) / 100) - group.desired
    if room == 0 and _floor(group, refresh) >= group.desired:
        room = 1
    return max(min(room, left), 0)


def _chosen(
    group: Group, refresh: Refresh, free: list[Member], unhealthy: set[str], budget: int, ready: int
) -> list[Member]:
    """Choose what may go now: the unhealthy first, which serve nobody, then the oldest, down to the healthy minimum."""
    floor = _floor(group, refresh)
    if refresh.preferences.get("MaxHealthyPercentage") is None:
        # "Terminates an instance and launches its replacement simultaneously": one at least, whatever the percentage.
        floor = min(floor, max(group.desired - 1, 0))
    chosen: list[Member] = []
    for member in sorted(free, key=lambda m: (m.instance_id not in unhealthy, m.changed)):
        serves = member.instance_id not in unhealthy
        # On the way back a failed replacement goes at once; on the way there even a doubtful old one stays
        # until the minimum is served by others: the load balancer may still send to it when no target is healthy.
        bound = floor if serves or refresh.rollback is None else 0
        if len(chosen) >= budget or ready - serves < bound:
            break
        ready -= serves
        chosen.append(member)
    return chosen


def _drop_surplus(plane: ControlPlane, group: Group, refresh: Refresh, why: str) -> None:
    """End replacements that do not serve, above the desired capacity: the old ones that still serve shall stay."""
    young = [
        m
        for m in _serving(group)
        if m.instance_id not in refresh.known and not _serves(group, m, plane.machine.target_health)
    ]
    surplus = max(len(_serving(group)) - group.desired, 0)
    for member in young[:surplus]:
        cause = f"instance {member.instance_id} was no longer needed: {why}."
        autoscaling.begin_termination(plane, group, member, cause)


def _serves(group: Group, member: Member, health: Health) -> bool:
    return member.lifecycle == "InService" and member.health == "Healthy" and _sees_healthy(group, member, health)


def _unready(group: Group, refresh: Refresh, member: Member, now: float, health: Health) -> str:
    """Say why a new instance does not count yet, or nothing."""
    if member.launching or member.health != "Healthy":
        return f"{member.instance_id} has insufficient data to evaluate its health with Amazon EC2."
    if not _sees_healthy(group, member, health):
        return f"{member.instance_id} has insufficient data to evaluate its health with Elastic Load Balancing."
    if now - member.changed < int(refresh.preferences["InstanceWarmup"]):
        return f"{member.instance_id} is warming up."
    return ""


def _sees_healthy(group: Group, member: Member, health: Health) -> bool:
    if group.health_check_type != "ELB":
        return True
    for arn in group.target_group_arns:
        seen = [h for key, h in health(arn).items() if key.rpartition(":")[0] == member.instance_id]
        if not seen or any(h.state is not HealthState.HEALTHY for h in seen):
            return False
    return True


def _told(waiting: dict[str, str], blocked: list[Member], free: list[Member], standby: list[Member]) -> str | None:
    if waiting:
        example = next(iter(waiting.values()))
        if "warming up" in example:
            return f"Waiting for instances to warm up before continuing. For example: {example}"
        return f"Waiting for remaining instances to be available. For example: {example}"
    if blocked and not free:
        return (
            f"Waiting for remaining instances to be available. For example: {blocked[0].instance_id} is protected. "
            "Remove instance scale-in protection to continue."
        )
    if standby and not free:
        return (
            f"Waiting for remaining instances to be available. For example: {standby[0].instance_id} is in standby. "
            "Return it to service to continue."
        )
    return None


def _alarm(plane: ControlPlane, refresh: Refresh) -> str | None:
    alarms = cloudwatch.backend(plane).alarms
    for name in (refresh.preferences.get("AlarmSpecification") or {}).get("Alarms") or []:
        if name in alarms and alarms[name].state_value == "ALARM":
            return str(name)
    return None


def _fail(plane: ControlPlane, group: Group, refresh: Refresh, reason: str, now: float, health: Health) -> None:
    if refresh.status == "RollbackInProgress":
        refresh.end("RollbackFailed", reason)
    elif refresh.preferences["AutoRollback"]:
        roll_back(plane, group, refresh, reason)
        # At once, so that the failed ones are what goes when the group is resized.
        _go_forward(plane, group, refresh, now, health)
    else:
        _drop_surplus(plane, group, refresh, "its refresh failed")
        refresh.end("Failed", reason)


def _arrive(group: Group, refresh: Refresh, now: float) -> None:
    if refresh.status == "RollbackInProgress":
        refresh.percentage = 0
        refresh.end("RollbackSuccessful", refresh.rollback.reason if refresh.rollback else None)
    elif refresh.preferences.get("BakeTime"):
        refresh.status, refresh.reason, refresh.extra, refresh.reached = "Baking", None, 0, now
    else:
        _succeed(group, refresh)


def _bake(group: Group, refresh: Refresh, now: float) -> None:
    if refresh.reached is None or now - refresh.reached >= int(refresh.preferences["BakeTime"]):
        _succeed(group, refresh)


def _succeed(group: Group, refresh: Refresh) -> None:
    if refresh.desired is not None:
        group.template = dict(refresh.desired)
    refresh.end("Successful")


def _finish_cancelling(group: Group, refresh: Refresh) -> None:
    if not any(m.launching or m.terminating for m in group.members.values()):
        refresh.end("Cancelled", refresh.reason)


def _serving(group: Group) -> list[Member]:
    return [m for m in group.members.values() if m.serving]
