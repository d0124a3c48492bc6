"""Auto Scaling as it acts: launches, puts into and takes out of service, replaces what is dead or unhealthy.

One `step` looks at every group once and does what can be done at once; nothing waits.
Instance refreshes are `refreshes`, lifecycle hooks `hooks`; `scaling` changes the desired capacity by metrics.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from localcloud import hooks, placement, refreshes
from localcloud.api import autoscaling, ec2, elbv2
from localcloud.api.asg_records import LAUNCHING, TERMINATING, Group, Member, at_this_time
from localcloud.api.ec2 import instances, launching
from localcloud.api.registry import AwsError
from localcloud.model import HealthState, InstanceState, TargetHealth

if TYPE_CHECKING:
    from moto.ec2.models.instances import Instance

    from localcloud.api import ControlPlane
    from localcloud.state import State

log = logging.getLogger(__name__)

_FIRST_RETRY = 15.0
_LONGEST_RETRY = 300.0
_DIFFERENCE = "a difference between desired and actual capacity"


class Groups:
    """The control loop of all Auto Scaling groups.

    Args:
        plane: the control plane.
        state: the desired state (kept for symmetry with the other parts; the records are read directly).
        health: what the probes saw of a target group, by `TARGET_ID:PORT`.
    """

    def __init__(self, plane: ControlPlane, state: State, health: Callable[[str], dict[str, TargetHealth]]) -> None:
        self._plane = plane
        self._state = state
        self._health = health

    def step(self, now: float | None = None) -> None:
        """Go over every group once.

        Args:
            now: seconds on the control plane's clock, when the caller has just read it.
        """
        with self._plane.lock:
            moment = self._plane.clock() if now is None else now
            for group in list(self._plane.groups.values()):
                self._step_group(group, moment)

    def _step_group(self, group: Group, now: float) -> None:
        for member in list(group.members.values()):
            self._follow(group, member, now)
        if "HealthCheck" not in group.suspended:
            self._check_health(group, now)
        if not group.suspended & {"ReplaceUnhealthy", "Terminate"}:
            for member in group.members.values():
                if member.lifecycle == "InService" and member.health == "Unhealthy":
                    cause = f"an instance was taken out of service because {member.cause or 'it was unhealthy'}."
                    autoscaling.begin_termination(self._plane, group, member, cause)
        self._keep_registered(group)
        refreshes.step(self._plane, group, now, self._health)
        self._resize(group, now)
        for member in list(group.members.values()):
            if member.terminating:
                self._finish_termination(group, member, now)
        if group.deleting and not group.members:
            del self._plane.groups[group.name]

    def _instance(self, member: Member) -> Instance | None:
        return ec2.backend(self._plane).get_instance_by_id(member.instance_id)

    def _follow(self, group: Group, member: Member, now: float) -> None:
        """Take note of what became of a member's instance."""
        instance = self._instance(member)
        state = InstanceState.TERMINATED if instance is None else InstanceState(instance.state)
        if member.launching:
            if state is InstanceState.RUNNING:
                self._go_into_service(group, member, now)
            elif state is not InstanceState.PENDING:
                reason = instance.state_reason.message if instance is not None else "the instance is gone"
                self._launch_failed(group, now, f"Instance failed to start. {reason}", member)
                member.lifecycle, member.changed = "Terminating", now
        elif member.lifecycle == "InService" and state is not InstanceState.RUNNING:
            if state is InstanceState.PENDING:
                return
            if "HealthCheck" not in group.suspended:
                member.health = "Unhealthy"
            cause = (
                "an instance was taken out of service in response to an EC2 health check "
                f"indicating it has been terminated or stopped ({state.value})."
            )
            if not group.suspended & {"HealthCheck", "ReplaceUnhealthy", "Terminate"}:
                autoscaling.begin_termination(self._plane, group, member, cause)
        elif member.lifecycle == "EnteringStandby" and not elbv2.is_draining(self._plane, member.instance_id):
            member.lifecycle, member.changed = "Standby", now
            if member.activity is not None:
                member.activity.end()
        if state is InstanceState.TERMINATED:
            if member.activity is not None and member.activity.ended is None:
                member.activity.end()
            del group.members[member.instance_id]

    def _go_into_service(self, group: Group, member: Member, now: float) -> None:
        """Lead a member whose instance runs through its launch hooks into service, a state in each step."""
        if member.lifecycle == "Pending" and hooks.begin(group, member, LAUNCHING, now):
            member.lifecycle, member.changed = "Pending:Wait", now
            if member.activity is not None:
                member.activity.status = "MidLifecycleAction"
        elif member.lifecycle == "Pending:Wait":
            match hooks.outcome(member, now):
                case hooks.CONTINUE:
                    member.lifecycle, member.changed = "Pending:Proceed", now
                case hooks.ABANDON:
                    abandoned = "Instance failed to complete user's Lifecycle Action: Lifecycle Action was abandoned"
                    self._launch_failed(group, now, abandoned, member)
                    cause = "an instance was taken out of service in response to a launch that was abandoned."
                    autoscaling.begin_termination(self._plane, group, member, cause)
        else:
            member.lifecycle, member.changed = "InService", now
            group.failures = 0
            if member.activity is not None:
                member.activity.end()

    def _check_health(self, group: Group, now: float) -> None:
        if group.health_check_type != "ELB":
            return
        seen = [self._health(arn) for arn in group.target_group_arns]
        for member in group.members.values():
            if member.lifecycle != "InService" or now - member.changed < group.grace_period:
                continue
            for by_target in seen:
                for key, health in by_target.items():
                    if key.rpartition(":")[0] == member.instance_id and health.state is HealthState.UNHEALTHY:
                        member.health = "Unhealthy"
                        member.cause = f"of an ELB system health check failure: {health.description}"

    def _keep_registered(self, group: Group) -> None:
        """Register members in service once: also those that were there before a target group was attached.

        Auto Scaling User Guide, "How suspended processes affect other processes": what comes into service while
        AddToLoadBalancer is suspended is not registered later either.
        """
        for arn in group.target_group_arns:
            record = elbv2.backend(self._plane).target_groups.get(arn)
            for member in group.members.values():
                if record is None or member.lifecycle != "InService" or arn in member.offered:
                    continue
                member.offered.add(arn)
                if "AddToLoadBalancer" not in group.suspended:
                    elbv2.register(record, member.instance_id, self._plane.clock())

    def _resize(self, group: Group, now: float) -> None:
        if group.deleting:
            for member in group.members.values():
                if not member.terminating:
                    cause = "a user request deleted the AutoScalingGroup with its instances."
                    autoscaling.begin_termination(self._plane, group, member, cause)
            return
        count = sum(m.serving for m in group.members.values())
        wanted = group.desired + (group.refresh.extra if group.refresh else 0)
        if count < wanted and "Launch" not in group.suspended and now >= group.retry_at:
            for _ in range(wanted - count):
                if not self._launch(group, now, f"increasing the capacity from {count} to {wanted}"):
                    break
        elif count > wanted and "Terminate" not in group.suspended:
            for _ in range(count - wanted):
                victim = placement.choose_victim(group)
                if victim is None:
                    break
                autoscaling.begin_termination(self._plane, group, victim, _shrinking(group, victim, count, wanted))
        if sum(m.serving for m in group.members.values()) == wanted:
            group.causes.clear()

    def _launch(self, group: Group, now: float, change: str) -> bool:
        template = group.launch_from
        request = {
            "LaunchTemplate": {"LaunchTemplateId": template["LaunchTemplateId"], "Version": template["Version"]},
            "TagSpecifications": [{"ResourceType": "instance", "Tags": _instance_tags(group)}],
        }
        started = at_this_time(f"an instance was started in response to {_DIFFERENCE}, {change}.")
        activity = group.log("Launching a new EC2 instance.", "  ".join([*group.causes, started]))
        try:
            spec = launching.resolve(self._plane, request, subnet_id=placement.choose_subnet(self._plane, group))
        except AwsError as error:
            activity.end("Failed", f"{error.message}. Launching EC2 instance failed.")
            self._launch_failed(group, now, str(error))
            return False
        instance = launching.launch(self._plane, spec).instances[0]
        tags = {t["key"]: t["value"] for t in instance.get_tags()}
        activity.description = f"Launching a new EC2 instance: {instance.id}"
        activity.progress = 30
        group.members[instance.id] = Member(
            instance_id=instance.id,
            instance_type=instance.instance_type,
            zone=str(instance.availability_zone),
            template_id=str(template["LaunchTemplateId"]),
            template_name=str(template["LaunchTemplateName"]),
            template_version=tags["aws:ec2launchtemplate:version"],
            changed=now,
            protected=group.new_protected,
            activity=activity,
        )
        return True

    def _launch_failed(self, group: Group, now: float, reason: str, member: Member | None = None) -> None:
        """Wait longer after each failure in a row, so that a broken template does not launch without end."""
        group.failures += 1
        group.retry_at = now + min(_FIRST_RETRY * 2 ** (group.failures - 1), _LONGEST_RETRY)
        if member is not None and member.activity is not None:
            member.activity.end("Failed", reason)
        log.warning("group %s: launch failed (%d in a row): %s", group.name, group.failures, reason)

    def _finish_termination(self, group: Group, member: Member, now: float) -> None:
        """Terminate once nothing drains any more and the hooks are done; a forced deletion does not wait for them.

        Auto Scaling User Guide, "How lifecycle hooks work": a load balancer lets go of the instance first.
        """
        instance = self._instance(member)
        if instance is None or ("Terminate" in group.suspended and not group.deleting):
            return
        activity = member.activity
        if not group.deleting:
            if instance.state == InstanceState.RUNNING and elbv2.is_draining(self._plane, member.instance_id):
                if activity is not None:
                    activity.status = "WaitingForELBConnectionDraining"
                return
            if member.lifecycle == "Terminating" and hooks.begin(group, member, TERMINATING, now):
                member.lifecycle, member.changed = "Terminating:Wait", now
                if activity is not None:
                    activity.status = "MidLifecycleAction"
            if member.lifecycle == "Terminating:Wait":
                # Abandoned or not, a termination goes on.
                if hooks.outcome(member, now) is not None:
                    member.lifecycle, member.changed = "Terminating:Proceed", now
                return
        if activity is not None and activity.ended is None:
            activity.status = "InProgress"
        instances.request_termination(self._plane, instance, "Server.AutoScaling")


def _shrinking(group: Group, victim: Member, count: int, wanted: int) -> str:
    """Word the cause of a scale-in after what led to it."""
    causes = [
        *group.causes,
        at_this_time(
            f"an instance was taken out of service in response to {_DIFFERENCE}, "
            f"shrinking the capacity from {count} to {wanted}."
        ),
        at_this_time(f"instance {victim.instance_id} was selected for termination."),
    ]
    return "  ".join(causes)


def _instance_tags(group: Group) -> list[dict[str, str]]:
    propagated = [{"Key": tag["Key"], "Value": tag["Value"]} for tag in group.tags.values() if tag["PropagateAtLaunch"]]
    return [*propagated, {"Key": "aws:autoscaling:groupName", "Value": group.name}]
