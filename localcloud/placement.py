"""Where a group's next instance goes, and which of its instances goes first."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from localcloud.api import ec2
from localcloud.api.asg_records import Group, Member
from localcloud.api.ec2 import instance_types, templates
from localcloud.api.registry import AwsError

if TYPE_CHECKING:
    from localcloud.api import ControlPlane


def choose_subnet(plane: ControlPlane, group: Group) -> str:
    """Take the zone with the fewest instances that offers the type.

    Auto Scaling User Guide, "How Amazon EC2 Auto Scaling distributes instances across Availability Zones".

    Args:
        plane: the control plane, whose lock is held.
        group: the group.

    Returns:
        The id of one of the group's subnets.
    """
    subnets = {s.id: s for s in ec2.backend(plane).describe_subnets()}
    template = group.launch_from
    wanted = {"LaunchTemplateId": template["LaunchTemplateId"], "Version": template["Version"]}
    try:
        data, _ = templates.data_of(plane, wanted)
    except AwsError:
        # The launch meets the same error and tells it in its activity.
        data = {}
    kind = str(data.get("InstanceType") or "")
    usable = [s for s in group.subnet_ids if s in subnets]
    offered = [s for s in usable if instance_types.offered(kind, subnets[s].availability_zone)]
    count = Counter(m.zone for m in group.members.values() if m.serving)
    candidates = offered or usable or group.subnet_ids
    return min(
        candidates,
        key=lambda s: (count[subnets[s].availability_zone] if s in subnets else 0, group.subnet_ids.index(s)),
    )


def choose_victim(group: Group) -> Member | None:
    """Choose as the default policy does: the fullest zone, the oldest template version, the oldest instance.

    Auto Scaling User Guide, "Default termination policy", "Use instance scale-in protection".

    Returns:
        A member that is in service or soon to be; None when all are protected.
    """
    serving = [m for m in group.members.values() if m.serving and not m.protected]
    if not serving:
        return None
    policy = group.termination_policies[0]
    if policy == "NewestInstance":
        return max(serving, key=lambda m: m.changed)
    if policy == "OldestInstance":
        return min(serving, key=lambda m: m.changed)
    count = Counter(m.zone for m in group.members.values() if m.serving)
    fullest = max(count[m.zone] for m in serving)
    return min(
        (m for m in serving if count[m.zone] == fullest),
        key=lambda m: (not m.launching, int(m.template_version), m.changed),
    )
