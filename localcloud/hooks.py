"""Lifecycle hooks as they act: a member waits until its actions are complete or their time is up.

Sources: Auto Scaling User Guide, "How lifecycle hooks work", "Complete a lifecycle action"; API Reference,
"PutLifecycleHook", "CompleteLifecycleAction".
"""

from __future__ import annotations

from localcloud.api.asg_records import Group, Hook, Member, Wait

CONTINUE, ABANDON = "CONTINUE", "ABANDON"

_LONGEST_WAIT = 172_800
_MOST_HEARTBEATS = 100


def longest_wait(hook: Hook) -> int:
    """Return how long a member may wait however many heartbeats come, in seconds (the API's GlobalTimeout)."""
    return min(_LONGEST_WAIT, _MOST_HEARTBEATS * hook.heartbeat)


def begin(group: Group, member: Member, transition: str, now: float) -> bool:
    """Start the lifecycle actions of a transition.

    Args:
        group: the group with its hooks.
        member: who is to wait.
        transition: LAUNCHING or TERMINATING of `asg_records`.
        now: seconds on the control plane's clock.

    Returns:
        Whether there is anything to wait for.
    """
    member.waits = {
        hook.name: Wait(hook, now + hook.heartbeat, now + longest_wait(hook))
        for hook in group.hooks.values()
        if hook.transition == transition
    }
    return bool(member.waits)


def outcome(member: Member, now: float) -> str | None:
    """Say how the actions ended: one that is abandoned ends them all.

    Args:
        member: who waits.
        now: seconds on the control plane's clock.

    Returns:
        CONTINUE or ABANDON; None while there is something to wait for.
    """
    for wait in member.waits.values():
        if wait.result is None and now >= min(wait.deadline, wait.latest):
            wait.result = wait.hook.default_result
    results = {wait.result for wait in member.waits.values()}
    if ABANDON in results:
        return ABANDON
    return None if None in results else CONTINUE
