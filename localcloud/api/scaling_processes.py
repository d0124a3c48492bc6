"""Auto Scaling's processes, which can be suspended: `localcloud.groups` and what it drives leave them out then."""

from __future__ import annotations

from moto.core.responses import EmptyResult

from localcloud.api.autoscaling import SERVICE, find_group
from localcloud.api.registry import AwsError, Call, unsupported

__all__ = ["SERVICE"]

_NOT_MODELLED = ("AZRebalance", "ScheduledActions")
_PROCESSES = (
    "Launch",
    "Terminate",
    "AddToLoadBalancer",
    "AlarmNotification",
    "HealthCheck",
    "InstanceRefresh",
    "ReplaceUnhealthy",
    *_NOT_MODELLED,
)


@SERVICE.action("SuspendProcesses")
def suspend_processes(call: Call) -> EmptyResult:
    """Suspend the processes named, or all; one by name that never runs here is refused."""
    group = find_group(call.plane, call.params.get("AutoScalingGroupName"))
    group.suspended |= set(_named(call))
    return EmptyResult()


@SERVICE.action("ResumeProcesses")
def resume_processes(call: Call) -> EmptyResult:
    """Resume the processes named, or all."""
    group = find_group(call.plane, call.params.get("AutoScalingGroupName"))
    group.suspended -= set(_named(call))
    return EmptyResult()


def _named(call: Call) -> tuple[str, ...]:
    given = tuple(call.params.get("ScalingProcesses") or ())
    for name in given:
        if name not in _PROCESSES:
            raise AwsError("ValidationError", f"{name} is not one of the processes {', '.join(_PROCESSES)}")
        if name in _NOT_MODELLED:
            raise unsupported(f"the process {name} (ScalingProcesses)")
    return given or _PROCESSES
