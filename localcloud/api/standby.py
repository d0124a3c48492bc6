"""Standby: members that are taken out of service for a while and put back (API Reference, "EnterStandby")."""

from __future__ import annotations

from moto.core.responses import ActionResult

from localcloud.api.asg_records import Activity, Group, Member, at_this_time
from localcloud.api.autoscaling import SERVICE, describe_activity, find_group, leave_target_groups, members_of
from localcloud.api.registry import AwsError, Call

__all__ = ["SERVICE"]


@SERVICE.action("EnterStandby")
def enter_standby(call: Call) -> ActionResult:
    """Take members out of service; they drain, and are replaced unless the desired capacity goes down with them."""
    group, members = _members(call, "InService")
    before = group.desired
    if call.params.get("ShouldDecrementDesiredCapacity"):
        if before - len(members) < group.minimum:
            raise _refused(group, "place into standby", len(members))
        group.desired -= len(members)
    activities = []
    for number, member in enumerate(members, start=1):
        cause = f"instance {member.instance_id} was moved to standby in response to a user request"
        if group.desired != before:
            cause += f", shrinking the capacity from {before - number + 1} to {before - number}"
        member.activity = group.log(f"Moving EC2 instance to Standby: {member.instance_id}", at_this_time(cause + "."))
        member.activity.progress = 50
        member.lifecycle, member.changed = "EnteringStandby", call.plane.clock()
        leave_target_groups(call.plane, group, member)
        activities.append(member.activity)
    return _told(activities)


@SERVICE.action("ExitStandby")
def exit_standby(call: Call) -> ActionResult:
    """Put members back into service by way of Pending; the desired capacity goes up with them."""
    group, members = _members(call, "Standby")
    if group.desired + len(members) > group.maximum:
        raise _refused(group, "move out of standby", len(members))
    activities = []
    for member in members:
        cause = (
            f"instance {member.instance_id} was moved out of standby in response to a user request, "
            f"increasing the capacity from {group.desired} to {group.desired + 1}."
        )
        group.desired += 1
        member.activity = group.log(f"Moving EC2 instance out of Standby: {member.instance_id}", at_this_time(cause))
        member.activity.status, member.activity.progress = "PreInService", 30
        member.lifecycle, member.changed = "Pending", call.plane.clock()
        activities.append(member.activity)
    return _told(activities)


def _members(call: Call, lifecycle: str) -> tuple[Group, list[Member]]:
    group = find_group(call.plane, call.params.get("AutoScalingGroupName"))
    instance_ids = call.params.get("InstanceIds") or []
    if not instance_ids:
        raise AwsError("ValidationError", "InstanceIds must name at least one instance.")
    members = members_of(group, instance_ids)
    for member in members:
        if member.lifecycle != lifecycle:
            raise AwsError("ValidationError", f"The instance {member.instance_id} is not in {lifecycle}.")
    return group, members


def _refused(group: Group, what: str, count: int) -> AwsError:
    return AwsError(
        "ValidationError",
        f"AutoScalingGroup {group.name} has min-size={group.minimum}, max-size={group.maximum}, and "
        f"desired-size={group.desired}. To {what} {count} instance{'' if count == 1 else 's'}, please update the "
        "AutoScalingGroup sizes appropriately.",
    )


def _told(activities: list[Activity]) -> ActionResult:
    return ActionResult({"Activities": [describe_activity(activity) for activity in activities]})
