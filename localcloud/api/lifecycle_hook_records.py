"""Lifecycle hooks as they are written: by PutLifecycleHook, or together with their group."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from localcloud.api.asg_records import LAUNCHING, TERMINATING, Hook
from localcloud.api.registry import AwsError, unsupported

MOST_HOOKS = 50
"""For one group (Auto Scaling User Guide, "Add lifecycle hooks")."""

RESULTS = ("CONTINUE", "ABANDON")

_NAME = re.compile(r"[A-Za-z0-9\-_/]{1,255}")
_SHORTEST_HEARTBEAT, _LONGEST_HEARTBEAT = 30, 7200


def hooks_of(specifications: list[dict[str, Any]]) -> dict[str, Hook]:
    """Return the hooks that a new group is given (API Reference, "LifecycleHookSpecification").

    Raises:
        AwsError: one of them will not do.
    """
    if len(specifications) > MOST_HOOKS:
        raise AwsError("LimitExceeded", f"You have reached the limit of {MOST_HOOKS} lifecycle hooks for a group.")
    hooks = [hook_of(one, None) for one in specifications]
    return {hook.name: hook for hook in hooks}


def hook_of(given: dict[str, Any], known: Hook | None) -> Hook:
    """Return a hook as the API describes it (API Reference, "PutLifecycleHook").

    Args:
        given: the parameters; those that are missing keep their value or get AWS's default.
        known: the hook that is changed.

    Raises:
        AwsError: AWS would refuse it, or it asks for notifications, which are not modelled.
    """
    name = str(given.get("LifecycleHookName") or "")
    if not _NAME.fullmatch(name):
        raise AwsError(
            "ValidationError", f"The lifecycle hook name {name!r} must be 1 to 255 letters, digits, and any of - _ /"
        )
    for parameter in ("NotificationTargetARN", "RoleARN"):
        if given.get(parameter):
            raise unsupported(f"notifications of lifecycle hooks ({parameter})")
    transition = given.get("LifecycleTransition")
    if transition is None and known is None:
        raise AwsError("ValidationError", "LifecycleTransition is required for a new lifecycle hook.")
    if transition not in (None, LAUNCHING, TERMINATING):
        raise AwsError("ValidationError", f"LifecycleTransition must be {LAUNCHING} or {TERMINATING}")
    hook = replace(known) if known else Hook(name, str(transition))
    if transition is not None:
        hook.transition = str(transition)
    if given.get("HeartbeatTimeout") is not None:
        hook.heartbeat = int(given["HeartbeatTimeout"])
    if not _SHORTEST_HEARTBEAT <= hook.heartbeat <= _LONGEST_HEARTBEAT:
        raise AwsError(
            "ValidationError", f"HeartbeatTimeout must be from {_SHORTEST_HEARTBEAT} to {_LONGEST_HEARTBEAT} seconds."
        )
    if given.get("DefaultResult") is not None:
        hook.default_result = check_result(given["DefaultResult"])
    if given.get("NotificationMetadata") is not None:
        hook.metadata = str(given["NotificationMetadata"])
    return hook


def check_result(result: object) -> str:
    """Return the result of a lifecycle action.

    Raises:
        AwsError: it is neither CONTINUE nor ABANDON.
    """
    if result not in RESULTS:
        raise AwsError("ValidationError", f"A lifecycle action's result must be {' or '.join(RESULTS)}, not {result}")
    return str(result)
