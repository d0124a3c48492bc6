"""EC2: the corrections, one file per kind of resource, and what a fresh account has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from localcloud.api.ec2 import images, instance_types, instances, network, templates, volumes
from localcloud.api.ec2.service import SERVICE, backend

if TYPE_CHECKING:
    from localcloud.api import ControlPlane

__all__ = ["SERVICE", "backend", "furnish", "images", "instance_types", "instances", "network", "templates", "volumes"]


def furnish(plane: ControlPlane) -> None:
    """Give the empty account what a fresh one has on AWS: a default VPC with subnets, and a base image to choose."""
    network.prepare_default_vpc(plane)
    images.register_base(plane)
