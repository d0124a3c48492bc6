"""How an instance comes to be: a request and a launch template become one full description, checked, then recorded.

RunInstances and Auto Scaling both launch through here, so that both obey the template alike.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from moto.core.types import Base64EncodedString
from moto.ec2.models.instances import Instance, Reservation
from moto.ec2.models.subnets import Subnet
from moto.iam.models import iam_backends

from localcloud.api.ec2 import instance_types, network, templates, user_data
from localcloud.api.ec2.service import backend
from localcloud.api.ec2.states import set_state
from localcloud.api.registry import AwsError, unsupported
from localcloud.model import InstanceState
from localcloud.settings import ACCOUNT_ID

if TYPE_CHECKING:
    from localcloud.api import ControlPlane

_NOT_MODELLED = {
    "InstanceMarketOptions": "Spot instances",
    "HibernationOptions.Configured": "hibernation",
    "EnclaveOptions.Enabled": "Nitro enclaves",
    "CpuOptions": "CPU options",
    "CapacityReservationSpecification.CapacityReservationTarget": "capacity reservations",
    "ElasticGpuSpecification": "elastic GPUs",
    "ElasticGpuSpecifications": "elastic GPUs",
    "ElasticInferenceAccelerators": "elastic inference",
    "LicenseSpecifications": "licences",
    "Ipv6AddressCount": "IPv6",
    "Ipv6Addresses": "IPv6",
    "KernelId": "kernels of one's own",
    "RamDiskId": "RAM disks of one's own",
    "RamdiskId": "RAM disks of one's own",
    "InstanceRequirements": "instance requirements",
    "Placement.GroupName": "placement groups",
    "Placement.HostId": "dedicated hosts",
    "Placement.HostResourceGroupArn": "dedicated hosts",
}
_NOT_MODELLED_INTERFACE = {
    "NetworkInterfaceId": "network interfaces made beforehand",
    "SecondaryPrivateIpAddressCount": "secondary addresses",
    "PrivateIpAddresses": "lists of addresses",
    "Ipv6AddressCount": "IPv6",
    "Ipv6Addresses": "IPv6",
    "InterfaceType": "special network interfaces",
    "AssociateCarrierIpAddress": "carrier addresses",
}


@dataclass
class LaunchSpec:
    """Everything an instance is launched with; names are resolved to ids."""

    image_id: str
    instance_type: str
    subnet: Subnet
    security_group_ids: list[str]
    count: int = 1
    key_name: str | None = None
    user_data: str | None = None
    profile_name: str | None = None
    private_ip: str | None = None
    metadata_options: dict[str, Any] = field(default_factory=dict)
    block_devices: list[dict[str, Any]] = field(default_factory=list)
    tags: dict[str, dict[str, str]] = field(default_factory=dict)
    monitoring: bool = False
    ebs_optimized: bool = False
    disable_api_termination: bool = False
    disable_api_stop: bool = False
    shutdown_behavior: str = "stop"
    client_token: str | None = None


def resolve(plane: ControlPlane, request: dict[str, Any], *, subnet_id: str | None = None) -> LaunchSpec:
    """Merge a RunInstances request with its launch template, and check all of it as AWS does.

    Args:
        plane: the cloud.
        request: the parameters of RunInstances; those of the template fill what it leaves out.
        subnet_id: the subnet Auto Scaling chose, before any other.

    Returns:
        What to launch.

    Raises:
        AwsError: with AWS's code for what is wrong, or `UnsupportedOperation` for what is not modelled.
    """
    data, template_tags = templates.data_of(plane, request.get("LaunchTemplate"))
    merged = {**data, **{key: value for key, value in request.items() if value not in (None, [], {})}}
    _refuse(merged, _NOT_MODELLED)
    if merged.get("Placement", {}).get("Tenancy", "default") != "default":
        raise unsupported("dedicated tenancy (Placement.Tenancy)")
    interface = _interface(merged)
    image_id = _image(plane, merged.get("ImageId"))
    instance_type = merged.get("InstanceType") or "m1.small"
    instance_types.check(instance_type)
    subnet = _subnet(plane, subnet_id or interface.get("SubnetId") or merged.get("SubnetId"), merged, instance_type)
    instance_types.check(instance_type, subnet.availability_zone)
    key_name = merged.get("KeyName")
    if key_name and key_name not in backend(plane).key_pairs:
        raise AwsError("InvalidKeyPair.NotFound", f"The key pair '{key_name}' does not exist")
    return LaunchSpec(
        image_id=image_id,
        instance_type=instance_type,
        subnet=subnet,
        security_group_ids=_security_groups(plane, merged, interface, subnet),
        count=_count(merged),
        key_name=key_name,
        user_data=user_data.check(merged.get("UserData")),
        profile_name=_profile(merged.get("IamInstanceProfile") or {}),
        private_ip=_private_ip(plane, interface.get("PrivateIpAddress") or merged.get("PrivateIpAddress"), subnet),
        metadata_options=dict(merged.get("MetadataOptions") or {}),
        block_devices=_block_devices(plane, image_id, merged.get("BlockDeviceMappings") or []),
        tags=_tags(data, request, template_tags),
        monitoring=bool((merged.get("Monitoring") or {}).get("Enabled")),
        ebs_optimized=bool(merged.get("EbsOptimized")),
        disable_api_termination=bool(merged.get("DisableApiTermination")),
        disable_api_stop=bool(merged.get("DisableApiStop")),
        shutdown_behavior=merged.get("InstanceInitiatedShutdownBehavior") or "stop",
        client_token=merged.get("ClientToken"),
    )


def launch(plane: ControlPlane, spec: LaunchSpec) -> Reservation:
    """Record the instances as `pending`; the reconcile loop makes them real."""
    records = backend(plane)
    network.need_addresses(spec.subnet, spec.count)
    reservation = records.run_instances(
        spec.image_id,
        spec.count,
        Base64EncodedString(spec.user_data) if spec.user_data else None,
        [],
        instance_type=spec.instance_type,
        is_instance_type_default=False,
        region_name=plane.settings.region,
        subnet_id=spec.subnet.id,
        key_name=spec.key_name,
        security_group_ids=list(spec.security_group_ids),
        nics=[],
        private_ip=spec.private_ip,
        associate_public_ip=False,
        tags=spec.tags,
        ebs_optimized=spec.ebs_optimized,
        disable_api_stop=spec.disable_api_stop,
        disable_api_termination=spec.disable_api_termination,
        instance_initiated_shutdown_behavior=spec.shutdown_behavior,
        metadata_options=spec.metadata_options,
        block_device_mappings=spec.block_devices,
        monitoring_state="enabled" if spec.monitoring else "disabled",
        client_token=spec.client_token or "",
    )
    for instance in reservation.instances:
        _finish(instance, spec)
        if spec.profile_name:
            association = records.associate_iam_instance_profile(instance.id, spec.profile_name)
            profile = association.iam_instance_profile
            instance.iam_instance_profile = {"Arn": profile.arn, "Id": profile.id}
    return reservation


def mac_of(private_ip: str) -> str:
    """Return a MAC address that follows from the IP address, so that no neighbour's ARP entry ever goes stale."""
    return "0a:6c:" + ":".join(f"{int(part):02x}" for part in private_ip.split("."))


def _finish(instance: Instance, spec: LaunchSpec) -> None:
    # moto's instances run before they exist.
    set_state(instance, InstanceState.PENDING)
    nic = instance.nics[0]
    nic.mac_address = mac_of(str(nic.private_ip_address))
    nic.delete_on_termination = True
    if tags := spec.tags.get("network-interface"):
        nic.add_tags(tags)


def _refuse(parameters: dict[str, Any], reasons: dict[str, str]) -> None:
    for name, what in reasons.items():
        value: Any = parameters
        for part in name.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if value not in (None, False, 0, "", [], {}):
            raise unsupported(f"{what} ({name})")


def _interface(merged: dict[str, Any]) -> dict[str, Any]:
    interfaces: list[dict[str, Any]] = merged.get("NetworkInterfaces") or []
    if not interfaces:
        return {}
    if len(interfaces) > 1 or int(interfaces[0].get("DeviceIndex") or 0) != 0:
        raise unsupported("more than the primary network interface (NetworkInterfaces)")
    if merged.get("SubnetId"):
        raise AwsError(
            "InvalidParameterCombination",
            "Network interfaces and an instance-level subnet ID may not be specified on the same request",
        )
    if merged.get("SecurityGroupIds") or merged.get("SecurityGroups"):
        raise AwsError(
            "InvalidParameterCombination",
            "Network interfaces and an instance-level security groups may not be specified on the same request",
        )
    interface = interfaces[0]
    _refuse(interface, {k: v for k, v in _NOT_MODELLED_INTERFACE.items() if interface.get(k) != "interface"})
    if interface.get("AssociatePublicIpAddress"):
        raise unsupported("public addresses (AssociatePublicIpAddress)")
    return interface


def _image(plane: ControlPlane, image_id: object) -> str:
    if not image_id:
        raise AwsError("MissingParameter", "The request must contain the parameter ImageId")
    image_id = str(image_id)
    if not image_id.startswith("ami-"):
        raise AwsError("InvalidAMIID.Malformed", f'Invalid id: "{image_id}" (expecting "ami-...")')
    image = backend(plane).amis.get(image_id)
    if image is None:
        raise AwsError("InvalidAMIID.NotFound", f"The image id '[{image_id}]' does not exist")
    if image.state != "available":
        raise AwsError("InvalidAMIID.Unavailable", f"The image ID '{image_id}' is {image.state}, not available")
    return image_id


def _subnet(plane: ControlPlane, subnet_id: object, merged: dict[str, Any], instance_type: str) -> Subnet:
    records = backend(plane)
    zone = (merged.get("Placement") or {}).get("AvailabilityZone")
    if subnet_id:
        chosen = next((s for s in records.describe_subnets() if s.id == subnet_id), None)
        if chosen is None:
            raise AwsError("InvalidSubnetID.NotFound", f"The subnet ID '{subnet_id}' does not exist")
        return chosen
    defaults = records.get_default_subnets()
    if zone:
        if zone not in defaults:
            raise AwsError("InvalidParameterValue", f"Invalid availability zone: [{zone}]")
        return defaults[zone]
    for name in sorted(defaults):
        if instance_types.offered(instance_type, name):
            return defaults[name]
    raise AwsError("MissingInput", "No default subnet for the instance type; name a subnet.")


def _security_groups(
    plane: ControlPlane, merged: dict[str, Any], interface: dict[str, Any], subnet: Subnet
) -> list[str]:
    records = backend(plane)
    ids = [str(i) for i in interface.get("Groups") or merged.get("SecurityGroupIds") or []]
    for name in merged.get("SecurityGroups") or []:
        group = records.get_security_group_from_name(name, vpc_id=subnet.vpc_id)
        if group is None:
            raise AwsError("InvalidGroup.NotFound", f"The security group '{name}' does not exist")
        ids.append(group.id)
    for group_id in ids:
        group = records.get_security_group_from_id(group_id)
        if group is None:
            raise AwsError("InvalidGroup.NotFound", f"The security group '{group_id}' does not exist")
        if group.vpc_id != subnet.vpc_id:
            raise AwsError(
                "InvalidParameter", f"Security group {group_id} and subnet {subnet.id} belong to different networks."
            )
    if not ids:
        default = records.get_default_security_group(subnet.vpc_id)
        ids = [default.id] if default else []
    return list(dict.fromkeys(ids))


def _count(merged: dict[str, Any]) -> int:
    least, most = int(merged.get("MinCount") or 1), int(merged.get("MaxCount") or 1)
    if not 1 <= least <= most:
        raise AwsError("InvalidParameterValue", f"MinCount {least} and MaxCount {most} do not fit together")
    return most


def _profile(profile: dict[str, Any]) -> str | None:
    if not profile.get("Name") and not profile.get("Arn"):
        return None
    name = profile.get("Name") or str(profile["Arn"]).rpartition("/")[2]
    known = {p.name: p.arn for p in iam_backends[ACCOUNT_ID]["aws"].instance_profiles.values()}
    if name not in known or ("Arn" in profile and profile["Arn"] and profile["Arn"] != known[name]):
        which, value = ("name", name) if profile.get("Name") else ("arn", profile["Arn"])
        raise AwsError(
            "InvalidParameterValue",
            f"Value ({value}) for parameter iamInstanceProfile.{which} is invalid. "
            f"Invalid IAM Instance Profile {which}",
        )
    return str(name)


def _private_ip(plane: ControlPlane, address: object, subnet: Subnet) -> str | None:
    if not address:
        return None
    try:
        wanted = ipaddress.IPv4Address(str(address))
    except ValueError as error:
        raise AwsError("InvalidParameterValue", f"Address {address} is invalid.") from error
    first = subnet.cidr.network_address
    if wanted not in subnet.cidr:
        raise AwsError("InvalidParameterValue", f"Address {address} does not fall within the subnet's address range")
    if int(wanted) - int(first) < 4 or wanted == subnet.cidr.broadcast_address:
        raise AwsError("InvalidParameterValue", f"Address {address} is in subnet's reserved address range")
    if str(wanted) in subnet._subnet_ips:
        raise AwsError("InvalidIPAddress.InUse", f"Address {address} is in use.")
    return str(wanted)


def _block_devices(plane: ControlPlane, image_id: str, given: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Lay the request's mappings over the image's own (EC2 User Guide, "Block device mappings")."""
    image = backend(plane).amis[image_id]
    devices = {m["DeviceName"]: dict(m["Ebs"]) for m in image.block_device_mappings}
    for mapping in given:
        name = mapping.get("DeviceName")
        if not name:
            raise AwsError("MissingParameter", "The request must contain the parameter DeviceName")
        if mapping.get("VirtualName"):
            raise unsupported("instance store volumes (VirtualName)")
        if mapping.get("NoDevice") is not None:
            devices.pop(name, None)
            continue
        ebs = {key: value for key, value in (mapping.get("Ebs") or {}).items() if value is not None}
        if name not in devices and not ebs.get("VolumeSize") and not ebs.get("SnapshotId"):
            raise AwsError("MissingParameter", "The request must contain the parameter size or snapshotId")
        snapshot = ebs.get("SnapshotId")
        if snapshot and snapshot not in backend(plane).snapshots:
            raise AwsError("InvalidSnapshot.NotFound", f"The snapshot '{snapshot}' does not exist.")
        devices[name] = {"DeleteOnTermination": True, **devices.get(name, {}), **ebs}
    smallest = image.block_device_mappings[0]["Ebs"]["VolumeSize"]
    if int(devices.get(image.root_device_name, {}).get("VolumeSize", smallest)) < smallest:
        raise AwsError(
            "InvalidBlockDeviceMapping", f"Volume of size smaller than snapshot, expect size >= {smallest}GB"
        )
    return [{"DeviceName": name, "Ebs": ebs} for name, ebs in devices.items()]


def _tags(data: dict[str, Any], request: dict[str, Any], template_tags: dict[str, str]) -> dict[str, dict[str, str]]:
    tags: dict[str, dict[str, str]] = {"instance": dict(template_tags)} if template_tags else {}
    for specification in [*(data.get("TagSpecifications") or []), *(request.get("TagSpecifications") or [])]:
        kind = tags.setdefault(str(specification.get("ResourceType")), {})
        kind.update({tag["Key"]: tag.get("Value", "") for tag in specification.get("Tags") or []})
    return tags
