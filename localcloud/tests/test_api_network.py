"""Security groups and volumes: refused while in use, and resolved to addresses for the packet filter."""

from __future__ import annotations

import time
from typing import Any

import pytest

from localcloud.model import Rule
from localcloud.state import DesiredVolume
from localcloud.tests.api_cloud import ApiCloud, refused


def allow(cloud: ApiCloud, group_id: str, port: int, **source: Any) -> None:  # noqa: ANN401 - an IpPermission's parts
    """Let TCP in."""
    cloud.ec2.authorize_security_group_ingress(
        GroupId=group_id,
        IpPermissions=[{"IpProtocol": "tcp", "FromPort": port, "ToPort": port, **source}],
    )


def address(cloud: ApiCloud, instance_id: str) -> str:
    """Return an instance's private address."""
    return cloud.state.instances()[instance_id].private_ip


def test_group_references_become_addresses(cloud: ApiCloud) -> None:
    """EC2 User Guide, "Security group rules": a group stands for the private addresses of its members."""
    web, database, balancer = (cloud.security_group(n) for n in ("web", "database", "balancer"))
    allow(cloud, database, 3306, UserIdGroupPairs=[{"GroupId": web}])
    allow(cloud, web, 80, UserIdGroupPairs=[{"GroupId": balancer}])
    allow(cloud, web, 22, IpRanges=[{"CidrIp": "10.213.0.1/32"}])
    first, second = (cloud.run(SecurityGroupIds=[web]) for _ in range(2))
    server = cloud.run(SecurityGroupIds=[database])
    arn = cloud.elb.create_load_balancer(
        Name="lb", Subnets=[cloud.subnet("a"), cloud.subnet("c")], SecurityGroups=[balancer]
    )["LoadBalancers"][0]["LoadBalancerArn"]
    served = cloud.state.load_balancers()[arn].address
    walls = cloud.state.firewalls()
    sources = tuple(sorted([address(cloud, first), address(cloud, second)]))
    assert walls[address(cloud, server)].ingress == (Rule("tcp", 3306, 3306, sources),)
    assert set(walls[address(cloud, first)].ingress) == {
        Rule("tcp", 80, 80, (served,)),
        Rule("tcp", 22, 22, ("10.213.0.1/32",)),
    }
    assert walls[served].ingress == ()
    assert walls[served].egress == (Rule("all", None, None, ("0.0.0.0/0",)),)
    cloud.ec2.terminate_instances(InstanceIds=[second])
    cloud.follow()
    assert cloud.state.firewalls()[address(cloud, server)].ingress[0].sources == (address(cloud, first),)


def test_default_group_lets_its_members_in(cloud: ApiCloud) -> None:
    """VPC User Guide, "Default security groups for your VPCs" (moto's has no inbound rule)."""
    one, two = address(cloud, cloud.run()), address(cloud, cloud.run())
    assert cloud.state.firewalls()[one].ingress == (Rule("all", None, None, tuple(sorted([one, two]))),)


def test_reading_the_state_is_quick(cloud: ApiCloud) -> None:
    """The loop holds the lock while it reads: 20 instances in less than 20 ms (50 ms on a busy machine)."""
    web = cloud.security_group("web")
    allow(cloud, web, 80, UserIdGroupPairs=[{"GroupId": web}])
    cloud.run(MaxCount=20, SecurityGroupIds=[web])
    durations = []
    for _ in range(5):
        begun = time.perf_counter()
        cloud.state.instances()
        cloud.state.firewalls()
        cloud.state.target_groups()
        durations.append(time.perf_counter() - begun)
    assert min(durations) < 0.05


def test_group_in_use_is_not_deleted(cloud: ApiCloud) -> None:
    """EC2 API Reference, "DeleteSecurityGroup": DependencyViolation (moto deletes it)."""
    used, referred, referring = (cloud.security_group(n) for n in ("used", "referred", "referring"))
    instance_id = cloud.run(SecurityGroupIds=[used])
    allow(cloud, referring, 80, UserIdGroupPairs=[{"GroupId": referred}])
    for group_id in (used, referred):
        assert refused(cloud.ec2.delete_security_group, GroupId=group_id) == ("DependencyViolation")
    cloud.ec2.terminate_instances(InstanceIds=[instance_id])
    assert refused(lambda: cloud.ec2.delete_security_group(GroupId=used)) == "DependencyViolation"
    cloud.follow()
    cloud.ec2.delete_security_group(GroupId=used)
    cloud.ec2.delete_security_group(GroupId=referring)
    cloud.ec2.delete_security_group(GroupId=referred)
    default = cloud.ec2.describe_security_groups(GroupNames=["default"])["SecurityGroups"][0]["GroupId"]
    assert refused(lambda: cloud.ec2.delete_security_group(GroupId=default)) == "CannotDelete"


@pytest.mark.parametrize(
    ("permission", "code"),
    [
        ({"IpProtocol": "47", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}, "UnsupportedOperation"),
        ({"IpProtocol": "-1", "PrefixListIds": [{"PrefixListId": "pl-1"}]}, "UnsupportedOperation"),
        ({"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": "sg-00000000000000000"}]}, "InvalidGroup.NotFound"),
    ],
)
def test_rules_that_cannot_be_kept_are_refused(cloud: ApiCloud, permission: dict[str, Any], code: str) -> None:
    """EC2 API Reference, "AuthorizeSecurityGroupIngress"."""
    group_id = cloud.security_group("web")
    assert (
        refused(lambda: cloud.ec2.authorize_security_group_ingress(GroupId=group_id, IpPermissions=[permission]))
        == code
    )


def test_volume_outlives_its_instance(cloud: ApiCloud) -> None:
    """EC2 User Guide, "Preserve data when an instance is terminated"."""
    instance_id = cloud.run()
    volume_id = cloud.ec2.create_volume(AvailabilityZone="ap-northeast-2a", Size=2)["VolumeId"]
    assert cloud.state.volumes() == {volume_id: DesiredVolume(volume_id, 2)}
    cloud.ec2.attach_volume(VolumeId=volume_id, InstanceId=instance_id, Device="/dev/sdf")
    attached = cloud.state.instances()[instance_id].volumes
    assert [(a.volume_id, a.device, a.size_gib) for a in attached] == [(volume_id, "/dev/sdf", 2)]
    assert refused(lambda: cloud.ec2.delete_volume(VolumeId=volume_id)) == "VolumeInUse"
    cloud.ec2.terminate_instances(InstanceIds=[instance_id])
    cloud.follow()
    told = cloud.ec2.describe_volumes()["Volumes"]
    assert [(v["VolumeId"], v["State"]) for v in told] == [(volume_id, "available")]
    cloud.ec2.delete_volume(VolumeId=volume_id)
    assert cloud.state.volumes() == {}


def test_wrong_attachments_are_refused(cloud: ApiCloud) -> None:
    """EC2 API Reference, "AttachVolume" and "DetachVolume"."""
    here, there = cloud.run(), cloud.run(SubnetId=cloud.subnet("c"))
    volume_id = cloud.ec2.create_volume(AvailabilityZone="ap-northeast-2a", Size=1)["VolumeId"]

    def attach(instance_id: str, device: str = "/dev/sdf") -> object:
        return cloud.ec2.attach_volume(VolumeId=volume_id, InstanceId=instance_id, Device=device)

    assert refused(lambda: attach(there)) == "InvalidVolume.ZoneMismatch"
    assert refused(lambda: attach(here, "/dev/hda")) == "InvalidParameterValue"
    assert refused(lambda: attach("i-00000000000000000")) == "InvalidInstanceID.NotFound"
    assert refused(lambda: cloud.ec2.detach_volume(VolumeId=volume_id)) == "IncorrectState"
    attach(here)
    assert refused(lambda: attach(here, "/dev/sdg")) == "VolumeInUse"
    other = cloud.ec2.create_volume(AvailabilityZone="ap-northeast-2a", Size=1)["VolumeId"]
    same = {"VolumeId": other, "InstanceId": here, "Device": "/dev/xvdf"}
    assert refused(lambda: cloud.ec2.attach_volume(**same)) == "InvalidParameterValue"
    root = cloud.instance(here)["BlockDeviceMappings"][0]["Ebs"]["VolumeId"]
    assert refused(lambda: cloud.ec2.detach_volume(VolumeId=root)) == "OperationNotPermitted"
    assert refused(lambda: cloud.ec2.create_volume(AvailabilityZone="eu-west-1a", Size=1)) == "InvalidZone.NotFound"


def test_snapshot_makes_a_volume(cloud: ApiCloud) -> None:
    """EC2 API Reference, "CreateSnapshot" and "CreateVolume"."""
    volume_id = cloud.ec2.create_volume(AvailabilityZone="ap-northeast-2a", Size=3)["VolumeId"]
    snapshot_id = cloud.ec2.create_snapshot(VolumeId=volume_id)["SnapshotId"]
    assert ("create_snapshot", snapshot_id, volume_id) in cloud.machine.calls
    cloud.ec2.delete_volume(VolumeId=volume_id)
    copy = cloud.ec2.create_volume(AvailabilityZone="ap-northeast-2c", SnapshotId=snapshot_id)["VolumeId"]
    assert cloud.state.volumes() == {copy: DesiredVolume(copy, 3, snapshot_id)}
    cloud.ec2.delete_snapshot(SnapshotId=snapshot_id)
    assert ("remove_snapshot", snapshot_id) in cloud.machine.calls
