"""VPC, subnets and security groups."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from moto.ec2.models.subnets import Subnet
from moto.ec2.models.vpcs import VPC, VPCBackend
from moto.elbv2.models import elbv2_backends

from localcloud.api import registry
from localcloud.api.ec2.service import SERVICE, backend
from localcloud.api.registry import AwsError, Call, unsupported
from localcloud.settings import ACCOUNT_ID

if TYPE_CHECKING:
    from localcloud.api import ControlPlane

_PROTOCOLS = {"tcp": "tcp", "6": "tcp", "udp": "udp", "17": "udp", "icmp": "icmp", "1": "icmp", "-1": "-1"}
_RESERVED = 4
"""Network, router, DNS and one for later; the last address as well (VPC User Guide, "Subnet CIDR blocks")."""


_moto_default_vpc = VPCBackend.create_default_vpc


def _create_default_vpc(self: VPCBackend) -> VPC:
    """Replace moto's: the default VPC has the cloud's own network, not 172.31.0.0/16, and gives no public addresses."""
    if not registry.running():
        return _moto_default_vpc(self)
    settings = registry.active().settings
    vpc = self.create_vpc(cidr_block=settings.cidr, is_default=True)
    for zone in self.describe_availability_zones():  # type: ignore[attr-defined]
        subnet: Subnet = self.create_default_subnet(zone.name)  # type: ignore[attr-defined]
        subnet.map_public_ip_on_launch = False
    return vpc


VPCBackend.create_default_vpc = _create_default_vpc  # type: ignore[method-assign]


def prepare_default_vpc(plane: ControlPlane) -> None:
    """Make the default VPC with its subnets and a default security group as AWS makes it."""
    records = backend(plane)
    for subnet in records.describe_subnets():
        reserve(subnet)
    group = records.get_default_security_group()
    if group is not None:
        # VPC User Guide, "Default security groups": everything from members of the same group.
        records.authorize_security_group_ingress(group.id, "-1", "", "", [], source_groups=[{"GroupId": group.id}])


def reserve(subnet: Subnet) -> None:
    """Keep the addresses that AWS keeps for itself from being given to instances."""
    first = subnet.cidr.network_address
    reserved = [str(ipaddress.ip_address(int(first) + offset)) for offset in range(_RESERVED)]
    for address in [*reserved, str(subnet.cidr.broadcast_address)]:
        subnet._subnet_ips[address] = None  # type: ignore[assignment]


def need_addresses(subnet: Subnet, count: int) -> None:
    """Refuse to take more addresses than are free.

    Raises:
        AwsError: too few are free.
    """
    if subnet.cidr.num_addresses - len(subnet._subnet_ips) < count:
        raise AwsError(
            "InsufficientFreeAddressesInSubnet", f"There are not enough free addresses in subnet '{subnet.id}'."
        )


def take_address(subnet: Subnet) -> str:
    """Take a free private address of a subnet, for something that is not an instance."""
    need_addresses(subnet, 1)
    return subnet.get_available_subnet_ip(instance=None)  # type: ignore[arg-type]


@SERVICE.check("CreateSubnet")
def check_subnet(call: Call) -> None:
    """Refuse what one bridge cannot be."""
    call.refuse_parameters({"Ipv6CidrBlock": "IPv6", "Ipv6Native": "IPv6", "OutpostArn": "Outposts"})


@SERVICE.after("CreateSubnet")
def reserve_addresses(call: Call) -> None:
    """Reserve AWS's addresses in the new subnet, which gives out no public ones."""
    for subnet in backend(call.plane).describe_subnets():
        if subnet.cidr_block == call.params.get("CidrBlock"):
            subnet.map_public_ip_on_launch = False
            reserve(subnet)


@SERVICE.check("DeleteSubnet")
def check_subnet_is_empty(call: Call) -> None:
    """Refuse while something has an address in it."""
    subnet_id = call.params.get("SubnetId")
    used = any(nic.subnet.id == subnet_id for nic in backend(call.plane).enis.values())
    balancers = elbv2_backends[ACCOUNT_ID][call.plane.settings.region].load_balancers.values()
    if used or any(subnet_id in {s.id for s in b.subnets} for b in balancers):
        raise AwsError("DependencyViolation", f"The subnet '{subnet_id}' has dependencies and cannot be deleted.")


@SERVICE.check("AuthorizeSecurityGroupIngress", "AuthorizeSecurityGroupEgress")
def check_permissions(call: Call) -> None:
    """Refuse rules that the packet filter cannot express, and references to groups that are not."""
    for permission in call.params.get("IpPermissions") or []:
        protocol = str(permission.get("IpProtocol") or "").lower()
        if protocol not in _PROTOCOLS:
            raise unsupported(f"security group rules for protocol {protocol!r} (IpProtocol)")
        if permission.get("PrefixListIds"):
            raise unsupported("prefix lists in security groups (PrefixListIds)")
        for pair in permission.get("UserIdGroupPairs") or []:
            group_id = pair.get("GroupId")
            if pair.get("UserId") not in (None, "", ACCOUNT_ID):
                raise unsupported("security groups of other accounts (UserId)")
            if group_id and backend(call.plane).get_security_group_from_id(group_id) is None:
                raise AwsError("InvalidGroup.NotFound", f"The security group '{group_id}' does not exist")


@SERVICE.check("DeleteSecurityGroup")
def check_group_is_unused(call: Call) -> None:
    """Refuse while an interface, a load balancer or another group's rule names it (DependencyViolation)."""
    records = backend(call.plane)
    name = call.params.get("GroupId") or call.params.get("GroupName")
    group = records.get_security_group_by_name_or_id(str(name))
    if group is None:
        raise AwsError("InvalidGroup.NotFound", f"The security group '{name}' does not exist")
    if group.is_default:
        raise AwsError("CannotDelete", f'the specified group: "{group.id}" name: "default" cannot be deleted by a user')
    balancers = elbv2_backends[ACCOUNT_ID][call.plane.settings.region].load_balancers.values()
    others = (g for groups in records.groups.values() for g in groups.values() if g.id != group.id)
    if (
        any(group.id in {g.id for g in nic.group_set} for nic in records.enis.values())
        or any(group.id in balancer.security_groups for balancer in balancers)
        or any(r.source_group.get("GroupId") == group.id for g in others for r in [*g.ingress_rules, *g.egress_rules])
    ):
        raise AwsError("DependencyViolation", f"resource {group.id} has a dependent object")
