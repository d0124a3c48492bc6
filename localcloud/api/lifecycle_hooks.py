"""Auto Scaling's lifecycle hooks: what is wanted of them and told to them; `localcloud.hooks` lets members wait."""

from __future__ import annotations

from typing import Any

from moto.core.responses import ActionResult, EmptyResult

from localcloud.api.asg_records import LAUNCHING, Group, Wait
from localcloud.api.autoscaling import SERVICE, find_group
from localcloud.api.lifecycle_hook_records import MOST_HOOKS, check_result, hook_of
from localcloud.api.registry import AwsError, Call
from localcloud.hooks import longest_wait

__all__ = ["SERVICE"]


@SERVICE.action("PutLifecycleHook")
def put_lifecycle_hook(call: Call) -> EmptyResult:
    """Add or change a hook; members that wait already keep to what it was."""
    group = find_group(call.plane, call.params.get("AutoScalingGroupName"))
    known = group.hooks.get(str(call.params.get("LifecycleHookName")))
    hook = hook_of(call.params, known)
    if known is None and len(group.hooks) >= MOST_HOOKS:
        raise AwsError("LimitExceeded", f"You have reached the limit of {MOST_HOOKS} lifecycle hooks for a group.")
    group.hooks[hook.name] = hook
    return EmptyResult()


@SERVICE.action("DescribeLifecycleHooks")
def describe_lifecycle_hooks(call: Call) -> ActionResult:
    """List a group's hooks."""
    group = find_group(call.plane, call.params.get("AutoScalingGroupName"))
    names = call.params.get("LifecycleHookNames") or []
    hooks: list[dict[str, Any]] = [
        {
            "LifecycleHookName": hook.name,
            "AutoScalingGroupName": group.name,
            "LifecycleTransition": hook.transition,
            "NotificationMetadata": hook.metadata,
            "HeartbeatTimeout": hook.heartbeat,
            "GlobalTimeout": longest_wait(hook),
            "DefaultResult": hook.default_result,
        }
        for hook in group.hooks.values()
        if not names or hook.name in names
    ]
    return ActionResult({"LifecycleHooks": hooks})


@SERVICE.action("DeleteLifecycleHook")
def delete_lifecycle_hook(call: Call) -> EmptyResult:
    """Delete a hook; its actions under way are completed: ABANDON of launches, CONTINUE of terminations (moto: not)."""
    group, name = _hook(call)
    hook = group.hooks.pop(name)
    for member in group.members.values():
        wait = member.waits.get(name)
        if wait is not None and wait.result is None:
            wait.result = "ABANDON" if hook.transition == LAUNCHING else "CONTINUE"
    return EmptyResult()


@SERVICE.action("CompleteLifecycleAction")
def complete_lifecycle_action(call: Call) -> EmptyResult:
    """End a member's wait for one hook."""
    result = check_result(call.params.get("LifecycleActionResult"))
    _waiting(call).result = result
    return EmptyResult()


@SERVICE.action("RecordLifecycleActionHeartbeat")
def record_heartbeat(call: Call) -> EmptyResult:
    """Begin the heartbeat time-out of a member's wait anew."""
    wait = _waiting(call)
    wait.deadline = call.plane.clock() + wait.hook.heartbeat
    return EmptyResult()


def _hook(call: Call) -> tuple[Group, str]:
    group = find_group(call.plane, call.params.get("AutoScalingGroupName"))
    name = str(call.params.get("LifecycleHookName"))
    if name not in group.hooks:
        raise AwsError(
            "ValidationError", f"No Lifecycle Hook found with name: {name} for Auto Scaling Group: {group.name}"
        )
    return group, name


def _waiting(call: Call) -> Wait:
    """Find the action by its instance: tokens come with notifications, which are not modelled, so nobody has one."""
    group, name = _hook(call)
    token, instance_id = call.params.get("LifecycleActionToken"), call.params.get("InstanceId")
    if token:
        raise AwsError("ValidationError", f"No active Lifecycle Action found with token {token}")
    member = group.members.get(str(instance_id))
    wait = member.waits.get(name) if member is not None and member.lifecycle.endswith(":Wait") else None
    if wait is None or wait.result is not None:
        raise AwsError("ValidationError", f"No active Lifecycle Action found with instance ID {instance_id}")
    return wait
