"""Images (AMIs) and their snapshots."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from moto.ec2.models.amis import Ami, AmiBackend

from localcloud.api.ec2.service import backend
from localcloud.settings import BASE_IMAGE_OWNER

if TYPE_CHECKING:
    from localcloud.api import ControlPlane

ROOT_DEVICE = "/dev/xvda"
"""Debian's AMIs have their root disk here (DescribeImages, owner 136693071363)."""


def _load_no_images(_self: Any) -> None:
    """Replace moto's: an image that cannot be booted is not listed."""


AmiBackend._load_amis = _load_no_images  # type: ignore[method-assign]


def register_base(plane: ControlPlane) -> None:
    """Register the base image under Debian's account, as it is found on AWS."""
    records = backend(plane)
    base = plane.base
    records.amis[base.ami_id] = Ami(
        records,
        base.ami_id,
        name=base.name,
        description="Debian 13 (local cloud)",
        owner_id=BASE_IMAGE_OWNER,
        public=True,
        virtualization_type="hvm",
        architecture="x86_64",
        hypervisor="xen",
        root_device_type="ebs",
        root_device_name=ROOT_DEVICE,
        image_location=f"{BASE_IMAGE_OWNER}/{base.name}",
        creation_date=datetime.fromisoformat(base.creation_date),
        region_name=f"{plane.settings.region}a",
        boot_mode="uefi-preferred",
    )
