"""VPC, subnets and security groups."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any

from moto.ec2.models.subnets import Subnet
from moto.ec2.models.vpcs import VPC, VPCBackend

from localcloud.api import registry
from localcloud.api.ec2.service import backend

if TYPE_CHECKING:
    from localcloud.api import ControlPlane


def _create_default_vpc(self: Any) -> VPC:
    """Replace moto's: the default VPC has the cloud's own network, not 172.31.0.0/16."""
    settings = registry.active().settings
    vpc: VPC = self.create_vpc(cidr_block=settings.cidr, is_default=True)
    for zone in self.describe_availability_zones():
        subnet: Subnet = self.create_default_subnet(zone.name)
        subnet.map_public_ip_on_launch = False
    return vpc


VPCBackend.create_default_vpc = _create_default_vpc  # type: ignore[method-assign]


def prepare_default_vpc(plane: ControlPlane) -> None:
    """Make the default VPC and its subnets, without public addresses: the local cloud has none to give."""
    for subnet in backend(plane).describe_subnets():
        _keep_addresses_off(subnet, {plane.settings.gateway})


def _keep_addresses_off(subnet: Subnet, addresses: set[str]) -> None:
    for address in addresses:
        if ipaddress.ip_address(address) in subnet.cidr:
            subnet._subnet_ips.setdefault(address, None)  # type: ignore[arg-type]
