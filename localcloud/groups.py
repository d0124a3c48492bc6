"""Auto Scaling as it acts: launches, puts into and takes out of service, replaces what is dead or unhealthy.

One `step` looks at every group once and does what can be done at once; nothing waits.
Instance refreshes are `refreshes`. Metrics do not scale anything yet.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

from localcloud import refreshes
from localcloud.api import autoscaling, ec2, elbv2
from localcloud.api.asg_records import Group, Member
from localcloud.api.ec2 import instance_types, instances, launching, templates
from localcloud.api.registry import AwsError
from localcloud.model import HealthState, InstanceState, TargetHealth

if TYPE_CHECKING:
    from moto.ec2.models.instances import Instance

    from localcloud.api import ControlPlane
    from localcloud.state import State

log = logging.getLogger(__name__)

_FIRST_RETRY = 15.0
_LONGEST_RETRY = 300.0
_SERVING = ("Pending", "InService")


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
        if "ReplaceUnhealthy" not in group.suspended:
            for member in group.members.values():
                if member.lifecycle == "InService" and member.health == "Unhealthy":
                    cause = f"an instance was taken out of service because {member.cause or 'it was unhealthy'}."
                    autoscaling.begin_termination(self._plane, group, member, cause)
        self._keep_registered(group)
        refreshes.step(self._plane, group, now, self._health)
        self._resize(group, now)
        for member in list(group.members.values()):
            if member.lifecycle == "Terminating":
                self._finish_termination(group, member)
        if group.deleting and not group.members:
            del self._plane.groups[group.name]

    def _instance(self, member: Member) -> Instance | None:
        return ec2.backend(self._plane).get_instance_by_id(member.instance_id)

    def _follow(self, group: Group, member: Member, now: float) -> None:
        """Take note of what became of a member's instance."""
        instance = self._instance(member)
        state = InstanceState.TERMINATED if instance is None else InstanceState(instance.state)
        if member.lifecycle == "Pending":
            if state is InstanceState.RUNNING:
                member.lifecycle, member.changed = "InService", now
                group.failures = 0
                if member.activity is not None:
                    member.activity.end()
            elif state is not InstanceState.PENDING:
                reason = instance.state_reason.message if instance is not None else "the instance is gone"
                self._launch_failed(group, now, f"Instance failed to start. {reason}", member)
                member.lifecycle, member.changed = "Terminating", now
        elif member.lifecycle == "InService" and state is not InstanceState.RUNNING:
            if state is InstanceState.PENDING:
                return
            member.health = "Unhealthy"
            cause = (
                "an instance was taken out of service in response to an EC2 health check "
                f"indicating it has been terminated or stopped ({state.value})."
            )
            if "HealthCheck" not in group.suspended and "ReplaceUnhealthy" not in group.suspended:
                autoscaling.begin_termination(self._plane, group, member, cause)
        if state is InstanceState.TERMINATED:
            if member.activity is not None and member.activity.ended is None:
                member.activity.end()
            del group.members[member.instance_id]

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
        """Members in service are targets: also those that were there before a target group was attached."""
        if "AddToLoadBalancer" in group.suspended:
            return
        for arn in group.target_group_arns:
            record = elbv2.backend(self._plane).target_groups.get(arn)
            for member in group.members.values():
                if record is None:
                    break
                if member.lifecycle == "InService" and member.instance_id not in record.targets:
                    elbv2.register(record, member.instance_id, self._plane.clock())

    def _resize(self, group: Group, now: float) -> None:
        serving = [m for m in group.members.values() if m.lifecycle in _SERVING]
        wanted = group.desired + (group.refresh.extra if group.refresh else 0)
        missing = wanted - len(serving)
        if missing > 0 and "Launch" not in group.suspended and now >= group.retry_at and not group.deleting:
            for _ in range(missing):
                if not self._launch(group, now):
                    break
        elif missing < 0 and "Terminate" not in group.suspended:
            for _ in range(-missing):
                victim = self._victim(group)
                if victim is None:
                    break
                cause = (
                    f"instance {victim.instance_id} was selected for termination, shrinking the capacity "
                    f"from {len(serving)} to {wanted}."
                )
                autoscaling.begin_termination(self._plane, group, victim, cause)

    def _launch(self, group: Group, now: float) -> bool:
        template = group.launch_from
        request = {
            "LaunchTemplate": {"LaunchTemplateId": template["LaunchTemplateId"], "Version": template["Version"]},
            "TagSpecifications": [{"ResourceType": "instance", "Tags": _instance_tags(group)}],
        }
        short = group.desired - sum(m.lifecycle in _SERVING for m in group.members.values())
        activity = group.log(
            "Launching a new EC2 instance.",
            f"an instance was started in response to a difference between desired and actual capacity, "
            f"{short} short of the desired capacity of {group.desired}.",
        )
        try:
            spec = launching.resolve(self._plane, request, subnet_id=self._choose_subnet(group))
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

    def _choose_subnet(self, group: Group) -> str:
        """Take the zone with the fewest instances that offers the type (Auto Scaling User Guide, "How Amazon EC2
        Auto Scaling distributes instances across Availability Zones").
        """
        subnets = {s.id: s for s in ec2.backend(self._plane).describe_subnets()}
        template = group.launch_from
        wanted = {"LaunchTemplateId": template["LaunchTemplateId"], "Version": template["Version"]}
        try:
            data, _ = templates.data_of(self._plane, wanted)
        except AwsError:
            # The launch meets the same error and tells it in its activity.
            data = {}
        kind = str(data.get("InstanceType") or "")
        usable = [s for s in group.subnet_ids if s in subnets]
        offered = [s for s in usable if instance_types.offered(kind, subnets[s].availability_zone)]
        count = Counter(m.zone for m in group.members.values() if m.lifecycle in _SERVING)
        candidates = offered or usable or group.subnet_ids
        return min(
            candidates,
            key=lambda s: (count[subnets[s].availability_zone] if s in subnets else 0, group.subnet_ids.index(s)),
        )

    def _victim(self, group: Group) -> Member | None:
        """Choose as the default policy does: the fullest zone, the oldest template version, the oldest instance."""
        serving = [m for m in group.members.values() if m.lifecycle in _SERVING and not m.protected]
        if not serving:
            return None
        policy = group.termination_policies[0]
        if policy == "NewestInstance":
            return max(serving, key=lambda m: m.changed)
        if policy == "OldestInstance":
            return min(serving, key=lambda m: m.changed)
        count = Counter(m.zone for m in group.members.values() if m.lifecycle in _SERVING)
        fullest = max(count[m.zone] for m in serving)
        return min(
            (m for m in serving if count[m.zone] == fullest),
            key=lambda m: (m.lifecycle != "Pending", int(m.template_version), m.changed),
        )

    def _finish_termination(self, group: Group, member: Member) -> None:
        """Terminate once nothing drains any more; a forced deletion of the group does not wait."""
        instance = self._instance(member)
        if instance is None or "Terminate" in group.suspended:
            return
        drains = instance.state == InstanceState.RUNNING and elbv2.is_draining(self._plane, member.instance_id)
        if drains and not group.deleting:
            if member.activity is not None:
                member.activity.status = "WaitingForELBConnectionDraining"
            return
        if member.activity is not None and member.activity.ended is None:
            member.activity.status = "InProgress"
        instances.request_termination(self._plane, instance, "Server.AutoScaling")


def _instance_tags(group: Group) -> list[dict[str, str]]:
    propagated = [{"Key": tag["Key"], "Value": tag["Value"]} for tag in group.tags.values() if tag["PropagateAtLaunch"]]
    return [*propagated, {"Key": "aws:autoscaling:groupName", "Value": group.name}]
