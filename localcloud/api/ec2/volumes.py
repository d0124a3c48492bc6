"""EBS volumes and snapshots: in the same zone as their instance, never deleted while attached."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from moto.core.responses import ActionResult
from moto.ec2.models.elastic_block_store import Volume
from moto.ec2.models.instances import Instance

from localcloud.api.ec2.service import SERVICE, backend
from localcloud.api.machine import MachineError
from localcloud.api.registry import AwsError, Call, unsupported
from localcloud.settings import ACCOUNT_ID

if TYPE_CHECKING:
    from localcloud.api import ControlPlane

_DEVICE = re.compile(r"/dev/(sd|xvd)[b-z]|/dev/xvd[a-z]{2}")
"""EC2 User Guide, "Device names for volumes on Amazon EC2 instances"."""
_LARGEST_GIB = 16384


def is_root(volume: Volume) -> bool:
    """Whether the volume is an instance's root disk, which is the container's own file system."""
    attachment = volume.attachment
    return attachment is not None and attachment.device == attachment.instance.root_device_name


@SERVICE.check("CreateVolume")
def check_volume(call: Call) -> None:
    """Refuse what would be ignored, zones that are not, and sizes EBS does not have."""
    call.refuse_parameters(
        {
            "MultiAttachEnabled": "volumes on several instances",
            "OutpostArn": "Outposts",
            "KmsKeyId": "keys of one's own",
        }
    )
    zone = call.params.get("AvailabilityZone")
    if zone not in {z.name for z in backend(call.plane).describe_availability_zones()}:
        raise AwsError("InvalidZone.NotFound", f"The zone '{zone}' does not exist.")
    snapshot = call.params.get("SnapshotId")
    if snapshot and snapshot not in backend(call.plane).snapshots:
        raise AwsError("InvalidSnapshot.NotFound", f"The snapshot '{snapshot}' does not exist.")
    if snapshot and backend(call.plane).snapshots[snapshot].id in _root_snapshots(call.plane):
        raise unsupported("volumes made of an image's root snapshot (SnapshotId)")
    size = call.params.get("Size")
    if size is not None and not 1 <= int(size) <= _LARGEST_GIB:
        raise AwsError("InvalidParameterValue", f"Volume size {size} is not between 1 and {_LARGEST_GIB} GiB")
    if snapshot and size is not None and int(size) < int(backend(call.plane).snapshots[snapshot].volume.size):
        raise AwsError("InvalidParameterValue", "The volume is smaller than its snapshot.")


@SERVICE.check("DescribeVolumes")
def fill_in_fields(call: Call) -> None:
    """Give fields that AWS always has and moto leaves out; `ec2_vol` and `ec2_vol_info` fail without them.

    A volume that was made empty has an empty snapshot id, and every volume says whether it takes several instances.
    """
    for volume in backend(call.plane).volumes.values():
        volume.snapshot_id = volume.snapshot_id or ""
        volume.multi_attach_enabled = bool(volume.multi_attach_enabled)


@SERVICE.check("AttachVolume")
def check_attachment(call: Call) -> None:
    """Refuse what AWS refuses (EC2 API Reference, "AttachVolume"; moto attaches anything to anything)."""
    volume, instance = _volume(call.plane, call.params), _instance(call.plane, call.params.get("InstanceId"))
    device = str(call.params.get("Device") or "")
    if not _DEVICE.fullmatch(device):
        raise AwsError(
            "InvalidParameterValue",
            f"Value ({device}) for parameter device is invalid. {device} is not a valid EBS device name.",
        )
    if volume.attachment is not None:
        raise AwsError("VolumeInUse", f"{volume.id} is already attached to an instance")
    if instance.state not in ("running", "stopped", "pending"):
        raise AwsError("IncorrectState", f"Instance '{instance.id}' is not 'running'.")
    if volume.availability_zone != instance.availability_zone:
        raise AwsError(
            "InvalidVolume.ZoneMismatch",
            f"The volume '{volume.id}' is not in the same availability zone as instance '{instance.id}'",
        )
    if _kernel_name(device) in {_kernel_name(d) for d in instance.block_device_mapping}:
        raise AwsError(
            "InvalidParameterValue",
            f"Invalid value '{device}' for unixDevice. Attachment point {device} is already in use",
        )


@SERVICE.check("DetachVolume")
def check_detachment(call: Call) -> None:
    """Refuse to take the root disk away, and volumes that are not where the caller thinks."""
    volume = _volume(call.plane, call.params)
    if volume.attachment is None:
        raise AwsError("IncorrectState", f"Volume '{volume.id}' is in the 'available' state.")
    wanted = call.params.get("InstanceId")
    if wanted and volume.attachment.instance.id != wanted:
        raise AwsError("InvalidAttachment.NotFound", f"Volume '{volume.id}' is not attached to '{wanted}'")
    if is_root(volume):
        raise AwsError(
            "OperationNotPermitted",
            f"Volume '{volume.id}' is the root volume of {volume.attachment.instance.id}; "
            "the local cloud does not model taking it away",
        )


@SERVICE.check("DeleteVolume")
def check_deletion(call: Call) -> None:
    """Word the refusal as AWS does."""
    volume = _volume(call.plane, call.params)
    if volume.attachment is not None:
        raise AwsError("VolumeInUse", f"Volume {volume.id} is currently attached to {volume.attachment.instance.id}")


@SERVICE.action("DescribeSnapshots")
def describe_snapshots(call: Call) -> ActionResult:
    """List snapshots of the owners asked for: moto lists those of every account."""
    call.response.error_on_dryrun()
    owners = {ACCOUNT_ID if o == "self" else str(o) for o in call.params.get("OwnerIds") or []}
    found = backend(call.plane).describe_snapshots(
        call.params.get("SnapshotIds") or [], call.response._filters_from_querystring()
    )
    return ActionResult({"Snapshots": [s for s in found if not owners or s.owner_id in owners]})


@SERVICE.action("CreateSnapshot")
def create_snapshot(call: Call) -> object:
    """Copy the content while the caller waits."""
    plane = call.plane
    volume = _volume(plane, call.params)
    if is_root(volume):
        raise unsupported("snapshots of a root volume alone; make an image (VolumeId)")
    before = set(backend(plane).snapshots)
    result = call.forward()
    (snapshot_id,) = set(backend(plane).snapshots) - before
    try:
        with plane.unlocked():
            plane.machine.create_snapshot(snapshot_id, volume.id)
    except MachineError as error:
        backend(plane).snapshots[snapshot_id].status = "error"
        raise AwsError("InternalError", f"The snapshot could not be made: {error}") from error
    return result


@SERVICE.action("DeleteSnapshot")
def delete_snapshot(call: Call) -> ActionResult:
    """Refuse while an image needs it (EC2 API Reference, "DeleteSnapshot")."""
    plane = call.plane
    records = backend(plane)
    snapshot_id = str(call.params.get("SnapshotId") or "")
    snapshot = records.snapshots.get(snapshot_id)
    if snapshot is None:
        raise AwsError("InvalidSnapshot.NotFound", f"The snapshot '{snapshot_id}' does not exist.")
    user = next(
        (
            image.id
            for image in records.amis.values()
            if any(m["Ebs"].get("SnapshotId") == snapshot_id for m in image.block_device_mappings)
        ),
        None,
    )
    if user:
        raise AwsError("InvalidSnapshot.InUse", f"The snapshot {snapshot_id} is currently in use by {user}")
    call.response.error_on_dryrun()
    del records.snapshots[snapshot_id]
    with plane.unlocked():
        plane.machine.remove_snapshot(snapshot_id)
    return ActionResult({})


def _root_snapshots(plane: ControlPlane) -> set[str]:
    records = backend(plane)
    return {
        s.id
        for s in records.snapshots.values()
        if s.from_ami and is_root(s.volume) or s.volume.id not in records.volumes and s.from_ami
    }


def _kernel_name(device: str) -> str:
    """`/dev/sdf` and `/dev/xvdf` are the same disk on a Xen instance."""
    return device.removeprefix("/dev/").replace("xvd", "sd", 1)


def _volume(plane: ControlPlane, params: dict[str, Any]) -> Volume:
    volume = backend(plane).volumes.get(str(params.get("VolumeId") or ""))
    if volume is None:
        raise AwsError("InvalidVolume.NotFound", f"The volume '{params.get('VolumeId')}' does not exist.")
    return volume


def _instance(plane: ControlPlane, instance_id: object) -> Instance:
    instance = backend(plane).get_instance_by_id(str(instance_id))
    if instance is None:
        raise AwsError("InvalidInstanceID.NotFound", f"The instance ID '{instance_id}' does not exist")
    return instance
