"""Images (AMIs): made inside the call, so that an image that says `available` can be booted."""

from __future__ import annotations

import logging
import re
from datetime import datetime
from typing import TYPE_CHECKING, Any

from moto.core.responses import ActionResult
from moto.ec2.models.amis import Ami, AmiBackend
from moto.ec2.models.instances import Instance, StateReason
from moto.ec2.utils import random_ami_id

from localcloud.api.ec2.service import SERVICE, backend
from localcloud.api.machine import MachineError
from localcloud.api.registry import AwsError, Call, unsupported
from localcloud.settings import ACCOUNT_ID, BASE_IMAGE_OWNER

if TYPE_CHECKING:
    from localcloud.api import ControlPlane

log = logging.getLogger(__name__)

ROOT_DEVICE = "/dev/xvda"
"""Debian's AMIs have their root disk here (DescribeImages, owner 136693071363)."""
ROOT_SIZE_GIB = 8

_NAME = re.compile(r"[a-zA-Z0-9()\[\] ./'@_-]{3,128}")


class Image(Ami):
    """An image with its real block device mappings; moto's are always one 15 GiB disk."""

    mappings: list[dict[str, Any]] | None = None
    state_reason: StateReason | None = None

    @property
    def block_device_mappings(self) -> list[dict[str, Any]]:
        """Return the root disk's mapping first."""
        return self.mappings or []


def _load_no_images(self: AmiBackend) -> None:
    """Replace moto's: an image that cannot be booted is not listed."""


AmiBackend._load_amis = _load_no_images  # type: ignore[method-assign]


def register_base(plane: ControlPlane) -> None:
    """Register the base image under Debian's account, as it is found on AWS."""
    records = backend(plane)
    base = plane.base
    image = Image(
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
    image.ebs_snapshot.volume.size = ROOT_SIZE_GIB
    image.mappings = [_mapping(ROOT_DEVICE, image.ebs_snapshot.id, ROOT_SIZE_GIB, "gp3", delete=True)]
    records.amis[image.id] = image


@SERVICE.action("CreateImage")
def create_image(call: Call) -> ActionResult:
    """Make the image while the caller waits (EC2 API Reference, "CreateImage").

    The machine's work is done without the lock. When it fails the image is `failed` with the reason, as on AWS.
    """
    plane, params = call.plane, call.params
    name = str(params.get("Name") or "")
    instance = _image_source(plane, params.get("InstanceId"))
    _check_name(plane, name)
    image_tags, snapshot_tags = _tags(params.get("TagSpecifications") or [])
    call.response.error_on_dryrun()
    image = _record(plane, instance, name, str(params.get("Description") or ""))
    image.add_tags(image_tags)
    copies = _map_devices(plane, image, instance, params.get("BlockDeviceMappings") or [], snapshot_tags)
    records = backend(plane)
    records.amis[image.id] = image
    # A running instance is rebooted around the copy unless the caller forbids it, so that its files are whole.
    stop = instance.state == "running" and not params.get("NoReboot")
    plane.busy.add(instance.id)
    try:
        with plane.unlocked():
            plane.machine.commit_image(instance.id, image.id, stop=stop)
            for snapshot_id, volume_id in copies:
                plane.machine.create_snapshot(snapshot_id, volume_id)
    except MachineError as error:
        log.exception("CreateImage of %s failed", instance.id)
        image.state = "failed"
        image.state_reason = StateReason(f"Server.InternalError: {error}", "Server.InternalError")
    else:
        image.state = "available"
    finally:
        plane.busy.discard(instance.id)
        if image.state == "pending":
            image.state = "failed"
    return ActionResult({"ImageId": image.id})


@SERVICE.action("DeregisterImage")
def deregister_image(call: Call) -> ActionResult:
    """Forget the image; its snapshots stay unless the caller says so (EC2 API Reference, "DeregisterImage")."""
    plane = call.plane
    records = backend(plane)
    image_id = str(call.params.get("ImageId") or "")
    image = records.amis.get(image_id)
    if image is not None and image.owner_id != ACCOUNT_ID:
        raise AwsError("AuthFailure", f"Not authorized for image:{image_id}")
    if image is not None and image.state == "pending":
        raise AwsError("InvalidAMIID.Unavailable", f"The image ID '{image_id}' is still being made")
    call.response.error_on_dryrun()
    records.deregister_image(image_id)
    gone: list[str] = []
    if call.params.get("DeleteAssociatedSnapshots"):
        gone = [s.id for s in list(records.snapshots.values()) if s.from_ami == image_id]
        for snapshot_id in gone:
            del records.snapshots[snapshot_id]
    with plane.unlocked():
        plane.machine.remove_image(image_id)
        for snapshot_id in gone:
            plane.machine.remove_snapshot(snapshot_id)
    results = [{"SnapshotId": snapshot_id, "ReturnCode": "success"} for snapshot_id in gone]
    return ActionResult({"Return": True, "DeleteSnapshotResults": results or None})


@SERVICE.check("DescribeImages")
def refuse_unknown_images(call: Call) -> None:
    """Say which images are unknown: moto answers with those it knows when at least one is known."""
    for image_id in call.params.get("ImageIds") or []:
        if not str(image_id).startswith("ami-"):
            raise AwsError("InvalidAMIID.Malformed", f'Invalid id: "{image_id}" (expecting "ami-...")')
        if image_id in backend(call.plane).deleted_amis:
            raise AwsError("InvalidAMIID.Unavailable", f"The image ID '[{image_id}]' is no longer available")
        if image_id not in backend(call.plane).amis:
            raise AwsError("InvalidAMIID.NotFound", f"The image id '[{image_id}]' does not exist")


def _image_source(plane: ControlPlane, instance_id: object) -> Instance:
    instance = backend(plane).get_instance_by_id(str(instance_id))
    if instance is None:
        raise AwsError("InvalidInstanceID.NotFound", f"The instance ID '{instance_id}' does not exist")
    if instance.state not in ("running", "stopped") or instance.id in plane.busy:
        raise AwsError(
            "IncorrectInstanceState",
            f"The instance '{instance.id}' is {'busy' if instance.id in plane.busy else instance.state}: "
            "it must be running or stopped for an image to be made of it.",
        )
    return instance


def _check_name(plane: ControlPlane, name: str) -> None:
    if not _NAME.fullmatch(name):
        raise AwsError(
            "InvalidAMIName.Malformed",
            "AMI names must be between 3 and 128 characters long, and may contain letters, numbers, "
            "'(', ')', '.', '-', '/' and '_'",
        )
    for image in backend(plane).amis.values():
        if image.owner_id == ACCOUNT_ID and image.name == name and image.state != "failed":
            raise AwsError("InvalidAMIName.Duplicate", f"AMI name {name} is already in use by AMI {image.id}")


def _tags(specifications: list[dict[str, Any]]) -> tuple[dict[str, str], dict[str, str]]:
    tags: dict[str, dict[str, str]] = {"image": {}, "snapshot": {}}
    for specification in specifications:
        kind = str(specification.get("ResourceType"))
        if kind not in tags:
            raise AwsError(
                "InvalidParameterValue", f"'{kind}' is not a valid taggable resource type for this operation."
            )
        tags[kind].update({tag["Key"]: tag.get("Value", "") for tag in specification.get("Tags") or []})
    return tags["image"], tags["snapshot"]


def _record(plane: ControlPlane, instance: Instance, name: str, description: str) -> Image:
    image_id = random_ami_id()
    image = Image(
        backend(plane),
        image_id,
        instance=instance,
        name=name,
        description=description,
        state="pending",
        owner_id=ACCOUNT_ID,
        hypervisor="xen",
        root_device_type="ebs",
        root_device_name=instance.root_device_name or ROOT_DEVICE,
        image_location=f"{ACCOUNT_ID}/{name}",
        region_name=f"{plane.settings.region}a",
        snapshot_description=f"Created by CreateImage({instance.id}) for {image_id}",
        boot_mode="uefi-preferred",
    )
    image.virtualization_type = "hvm"
    image.architecture = "x86_64"
    return image


def _map_devices(
    plane: ControlPlane,
    image: Image,
    instance: Instance,
    given: list[dict[str, Any]],
    snapshot_tags: dict[str, str],
) -> list[tuple[str, str]]:
    """Write the image's mappings: the instance's volumes, each with a snapshot, under what the request says.

    Returns:
        Snapshots to be made of data volumes, as (snapshot id, volume id).
    """
    records = backend(plane)
    asked = {m.get("DeviceName"): m for m in given}
    root = str(image.root_device_name)
    copies: list[tuple[str, str]] = []
    mappings: list[dict[str, Any]] = []
    for device, block in sorted(instance.block_device_mapping.items(), key=lambda item: item[0] != root):
        request = asked.pop(device, {})
        if request.get("NoDevice") is not None and device != root:
            continue
        volume = records.volumes[block.volume_id]
        if device == root:
            snapshot = image.ebs_snapshot
            snapshot.volume = volume
        else:
            description = f"Created by CreateImage({instance.id}) for {image.id}"
            snapshot = records.create_snapshot(volume.id, description, from_ami=image.id)
            copies.append((snapshot.id, volume.id))
        snapshot.add_tags(snapshot_tags)
        ebs = request.get("Ebs") or {}
        size = int(ebs.get("VolumeSize") or volume.size)
        if size < int(volume.size):
            raise AwsError(
                "InvalidBlockDeviceMapping", f"Volume of size {size}GB is smaller than snapshot, {volume.size}GB"
            )
        delete = ebs.get("DeleteOnTermination")
        mappings.append(
            _mapping(
                device,
                snapshot.id,
                size,
                ebs.get("VolumeType") or volume.volume_type,
                delete=bool(block.delete_on_termination if delete is None else delete),
            )
        )
    for device, request in asked.items():
        ebs = request.get("Ebs") or {}
        if not device or not ebs.get("VolumeSize") or ebs.get("SnapshotId"):
            raise unsupported(
                "this block device mapping (BlockDeviceMappings): only the instance's own and empty volumes"
            )
        delete = ebs.get("DeleteOnTermination", True)
        mappings.append(
            _mapping(device, None, int(ebs["VolumeSize"]), ebs.get("VolumeType") or "gp2", delete=bool(delete))
        )
    image.mappings = mappings
    return copies


def _mapping(device: str, snapshot_id: str | None, size: int, kind: str, *, delete: bool) -> dict[str, Any]:
    ebs = {"VolumeSize": size, "VolumeType": kind, "DeleteOnTermination": delete, "Encrypted": False}
    if snapshot_id:
        ebs["SnapshotId"] = snapshot_id
    return {"DeviceName": device, "Ebs": ebs}
