"""The desired state: what the API's records say should be, in the words of `model`."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from moto.ec2.models.instances import Instance
from moto.ec2.models.security_groups import SecurityGroup, SecurityGroupRule
from moto.iam.models import iam_backends

from localcloud.api import ec2, elbv2
from localcloud.api.ec2 import instances as ec2_instances
from localcloud.api.ec2 import volumes as ec2_volumes
from localcloud.model import (
    DesiredInstance,
    DesiredListener,
    DesiredLoadBalancer,
    DesiredTarget,
    DesiredTargetGroup,
    Firewall,
    HealthCheck,
    InstanceState,
    Rule,
    VolumeAttachment,
)
from localcloud.settings import ACCOUNT_ID

if TYPE_CHECKING:
    from collections.abc import Iterable

    from moto.elbv2.models import FakeListener, FakeTargetGroup

    from localcloud.api import ControlPlane
    from localcloud.api.access import Credentials


@dataclass(frozen=True)
class DesiredVolume:
    """A data volume that should exist; root volumes are the containers' own file systems and not listed."""

    volume_id: str
    size_gib: int
    snapshot_id: str | None = None


class State:
    """Reads the records, and writes down what the machine has done; each method holds the lock while it works.

    Args:
        plane: the control plane.
    """

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane

    def instances(self) -> dict[str, DesiredInstance]:
        """Return every instance that is not yet terminated, by id."""
        with self._plane.lock:
            return {i.id: self._instance(i) for i in self._living()}

    def busy(self) -> set[str]:
        """Return the instances whose image is being made: leave their containers alone."""
        with self._plane.lock:
            return set(self._plane.busy)

    def mark(self, instance_id: str, state: InstanceState, reason: str | None = None) -> None:
        """Record that the machine has followed.

        Args:
            instance_id: the instance; one that is unknown by now is ignored.
            state: `running`, `stopped` or `terminated`.
            reason: for `terminated` that nobody asked for, AWS's wording, e.g. `Server.InternalError: …`.
        """
        with self._plane.lock:
            ec2_instances.settle(self._plane, instance_id, state, reason)
            if state is InstanceState.TERMINATED:
                elbv2.deregister_everywhere(self._plane, instance_id)

    def pop_reboots(self) -> set[str]:
        """Return the instances that are to be rebooted; the next call does not return them again."""
        with self._plane.lock:
            wanted = set(self._plane.reboots)
            self._plane.reboots.clear()
            return wanted

    def volumes(self) -> dict[str, DesiredVolume]:
        """Return every data volume by id; one that is missing here is to be deleted."""
        with self._plane.lock:
            return {
                v.id: DesiredVolume(v.id, int(v.size), v.snapshot_id or None)
                for v in ec2.backend(self._plane).volumes.values()
                if not ec2_volumes.is_root(v)
            }

    def snapshots(self) -> set[str]:
        """Return the ids of all snapshots that exist."""
        with self._plane.lock:
            return set(ec2.backend(self._plane).snapshots)

    def images(self) -> dict[str, str]:
        """Return the account's own images: id to name."""
        with self._plane.lock:
            return {i.id: str(i.name) for i in ec2.backend(self._plane).amis.values() if i.owner_id == ACCOUNT_ID}

    def by_ip(self, address: str) -> DesiredInstance | None:
        """Return the instance with this private address, if one lives."""
        with self._plane.lock:
            return next((self._instance(i) for i in self._living() if i.private_ip == address), None)

    def instance_credentials(self, instance: DesiredInstance) -> Credentials | None:
        """Return temporary credentials of the instance's role; none without an instance profile."""
        with self._plane.lock:
            return self._plane.credentials.of_instance(instance)

    def firewalls(self) -> dict[str, Firewall]:
        """Return the filter of every address: instances and load balancers, group references resolved."""
        with self._plane.lock:
            groups = {g.id: g for by_id in ec2.backend(self._plane).groups.values() for g in by_id.values()}
            addresses: dict[str, tuple[str, ...]] = {
                str(i.private_ip): tuple(g.id for g in i.security_groups) for i in self._living()
            }
            for balancer in elbv2.backend(self._plane).load_balancers.values():
                addresses[elbv2.address_of(balancer)] = tuple(balancer.security_groups)
            members: dict[str, list[str]] = {}
            for address, group_ids in addresses.items():
                for group_id in group_ids:
                    members.setdefault(group_id, []).append(address)
            made: dict[tuple[str, ...], Firewall] = {}
            for group_ids in addresses.values():
                if group_ids not in made:
                    made[group_ids] = _firewall([groups[g] for g in group_ids if g in groups], members)
            return {address: made[group_ids] for address, group_ids in addresses.items()}

    def load_balancers(self) -> dict[str, DesiredLoadBalancer]:
        """Return every load balancer by ARN."""
        with self._plane.lock:
            return {
                b.arn: DesiredLoadBalancer(
                    arn=b.arn,
                    name=b.name,
                    dns_name=b.dns_name,
                    address=elbv2.address_of(b),
                    security_group_ids=tuple(b.security_groups),
                    listeners=tuple(_listener(listener) for listener in b.listeners.values()),
                    idle_timeout=int(b.attrs.get("idle_timeout.timeout_seconds", 60)),
                )
                for b in elbv2.backend(self._plane).load_balancers.values()
            }

    def target_groups(self) -> dict[str, DesiredTargetGroup]:
        """Return every target group by ARN; targets that drain are no longer listed."""
        with self._plane.lock:
            addresses = {i.id: str(i.private_ip) for i in self._living() if i.state == InstanceState.RUNNING}
            return {g.arn: _target_group(g, addresses) for g in elbv2.backend(self._plane).target_groups.values()}

    def end_drains(self) -> None:
        """Forget the draining targets that the load balancer is done with, before their delay is over."""
        with self._plane.lock:
            elbv2.end_drains(self._plane)

    def _living(self) -> Iterable[Instance]:
        return [i for i in ec2.backend(self._plane).all_instances() if i.state != InstanceState.TERMINATED]

    def _instance(self, instance: Instance) -> DesiredInstance:
        records = ec2.backend(self._plane)
        key = records.key_pairs.get(instance.key_name or "")
        profile = (instance.iam_instance_profile or {}).get("Arn")
        nic = instance.nics[0]
        return DesiredInstance(
            instance_id=instance.id,
            state=InstanceState(instance.state),
            image_id=instance.image_id,
            instance_type=instance.instance_type,
            private_ip=str(nic.private_ip_address),
            mac=nic.mac_address,
            subnet_id=nic.subnet.id,
            availability_zone=str(instance.availability_zone),
            security_group_ids=tuple(g.id for g in instance.security_groups),
            key_name=instance.key_name,
            public_key=key.public_key.strip() if key else None,
            user_data=_decoded(instance.user_data),
            instance_profile_arn=profile,
            role_name=_role_name(profile),
            http_tokens=instance.metadata_options.http_tokens or "optional",
            http_put_response_hop_limit=int(instance.metadata_options.http_put_response_hop_limit or 1),
            tags=tuple(sorted((t["key"], t["value"]) for t in instance.get_tags())),
            volumes=tuple(
                VolumeAttachment(b.volume_id, device, int(b.size), bool(b.delete_on_termination))
                for device, b in sorted(instance.block_device_mapping.items())
                if device != instance.root_device_name
            ),
        )


def _decoded(user_data: object) -> bytes:
    return base64.b64decode(str(user_data)) if user_data else b""


def _role_name(profile_arn: str | None) -> str | None:
    if not profile_arn:
        return None
    for profile in iam_backends[ACCOUNT_ID]["aws"].instance_profiles.values():
        if profile.arn == profile_arn:
            return next((str(role.name) for role in profile.roles), None)
    return None


def _firewall(groups: list[SecurityGroup], members: dict[str, list[str]]) -> Firewall:
    return Firewall(
        ingress=_rules([r for g in groups for r in g.ingress_rules], members),
        egress=_rules([r for g in groups for r in g.egress_rules], members),
    )


def _rules(rules: list[SecurityGroupRule], members: dict[str, list[str]]) -> tuple[Rule, ...]:
    """Join the rules of equal protocol and ports; IPv6 sources are left out, for there is no IPv6 here."""
    sources: dict[tuple[str, int | None, int | None], set[str]] = {}
    for rule in rules:
        protocol = "all" if rule.ip_protocol == "-1" else str(rule.ip_protocol)
        ports = (rule.from_port, rule.to_port) if protocol in ("tcp", "udp") else (None, None)
        found = sources.setdefault((protocol, *ports), set())
        if rule.cidr_ipv4:
            found.add(rule.cidr_ipv4)
        found.update(members.get(rule.source_group.get("GroupId", ""), ()))
    return tuple(
        Rule(protocol, first, last, tuple(sorted(found)))
        for (protocol, first, last), found in sorted(sources.items(), key=lambda item: str(item[0]))
        if found
    )


def _listener(listener: FakeListener) -> DesiredListener:
    fixed: dict[str, Any] = {}
    for action in listener.default_actions:
        if action.type == "fixed-response":
            fixed = action.data.get("FixedResponseConfig") or {}
    return DesiredListener(
        arn=listener.arn,
        port=int(listener.port),
        target_group_arn=elbv2.forwards_to(listener.default_actions),
        fixed_status=int(fixed["StatusCode"]) if fixed else None,
        fixed_body=str(fixed.get("MessageBody") or ""),
        fixed_content_type=str(fixed.get("ContentType") or "text/plain"),
    )


def _target_group(group: FakeTargetGroup, addresses: dict[str, str]) -> DesiredTargetGroup:
    return DesiredTargetGroup(
        arn=group.arn,
        name=group.name,
        protocol=str(group.protocol),
        port=int(group.port),
        health_check=HealthCheck(
            protocol=str(group.health_check_protocol or "HTTP"),
            port=str(group.health_check_port or "traffic-port"),
            path=str(group.health_check_path or "/"),
            interval=int(group.health_check_interval_seconds),
            timeout=int(group.health_check_timeout_seconds),
            healthy_threshold=int(group.healthy_threshold_count),
            unhealthy_threshold=int(group.unhealthy_threshold_count),
            matcher=str(group.matcher.get("HttpCode", "200")),
        ),
        targets=tuple(
            DesiredTarget(t["Id"], t["Id"] if group.target_type == "ip" else addresses.get(t["Id"]), int(t["Port"]))
            for t in group.targets.values()
        ),
        deregistration_delay=int(str(group.attributes["deregistration_delay.timeout_seconds"])),
    )
