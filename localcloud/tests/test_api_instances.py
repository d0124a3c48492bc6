"""Instances: launched as asked, refused as AWS refuses, with states that follow the machine."""

from __future__ import annotations

from datetime import timedelta
from ipaddress import IPv4Address, IPv4Network
from typing import Any

import pytest

from localcloud.model import InstanceState
from localcloud.tests.api_cloud import BASE_IMAGE, ApiCloud, encoded, refused

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl someone"


def launch(cloud: ApiCloud, **parameters: Any) -> str:  # noqa: ANN401 - RunInstances' parameters
    """Launch and leave pending."""
    given = {"ImageId": BASE_IMAGE, "InstanceType": "t2.micro", "MinCount": 1, "MaxCount": 1, **parameters}
    return str(cloud.ec2.run_instances(**given)["Instances"][0]["InstanceId"])


def state(cloud: ApiCloud, instance_id: str) -> str:
    """Return the state the API tells."""
    return str(cloud.instance(instance_id)["State"]["Name"])


def test_states_follow_the_machine(cloud: ApiCloud) -> None:
    """EC2 User Guide, "Amazon EC2 instance state changes"."""
    instance_id = launch(cloud)
    assert state(cloud, instance_id) == "pending"
    cloud.follow()
    assert state(cloud, instance_id) == "running"
    cloud.ec2.stop_instances(InstanceIds=[instance_id])
    assert state(cloud, instance_id) == "stopping"
    assert refused(lambda: cloud.ec2.start_instances(InstanceIds=[instance_id])) == "IncorrectInstanceState"
    cloud.follow()
    assert state(cloud, instance_id) == "stopped"
    cloud.ec2.start_instances(InstanceIds=[instance_id])
    assert state(cloud, instance_id) == "pending"
    cloud.follow()
    cloud.ec2.terminate_instances(InstanceIds=[instance_id])
    assert state(cloud, instance_id) == "shutting-down"
    cloud.follow()
    assert state(cloud, instance_id) == "terminated"
    assert instance_id not in cloud.state.instances()


def test_reboot_is_asked_for_once(cloud: ApiCloud) -> None:
    """EC2 API Reference, "RebootInstances": the instance stays `running`."""
    instance_id = cloud.run()
    cloud.ec2.reboot_instances(InstanceIds=[instance_id])
    assert state(cloud, instance_id) == "running"
    assert cloud.state.pop_reboots() == {instance_id}
    assert cloud.state.pop_reboots() == set()


def test_machine_failure_is_told(cloud: ApiCloud) -> None:
    """EC2 API Reference, "StateReason": Server.InternalError."""
    instance_id = launch(cloud)
    cloud.state.mark(instance_id, InstanceState.TERMINATED, "Server.InternalError: podman said no")
    told = cloud.instance(instance_id)
    assert told["State"]["Name"] == "terminated"
    assert told["StateReason"] == {"Code": "Server.InternalError", "Message": "Server.InternalError: podman said no"}


@pytest.mark.parametrize(
    ("parameters", "code"),
    [
        ({"ImageId": "ami-00000000000000000"}, "InvalidAMIID.NotFound"),
        ({"ImageId": "debian"}, "InvalidAMIID.Malformed"),
        ({"KeyName": "nobody"}, "InvalidKeyPair.NotFound"),
        ({"InstanceType": "t2.enormous"}, "InvalidParameterValue"),
        ({"InstanceType": "m5.large"}, "Unsupported"),
        ({"SecurityGroupIds": ["sg-00000000000000000"]}, "InvalidGroup.NotFound"),
        ({"SubnetId": "subnet-00000000000000000"}, "InvalidSubnetID.NotFound"),
        ({"IamInstanceProfile": {"Name": "nobody"}}, "InvalidParameterValue"),
        ({"InstanceMarketOptions": {"MarketType": "spot"}}, "UnsupportedOperation"),
        ({"Placement": {"Tenancy": "dedicated"}}, "UnsupportedOperation"),
        ({"LaunchTemplate": {"LaunchTemplateName": "nobody"}}, "InvalidLaunchTemplateName.NotFoundException"),
        ({"PrivateIpAddress": "10.213.0.3"}, "InvalidParameterValue"),
        ({"PrivateIpAddress": "10.99.0.9"}, "InvalidParameterValue"),
        ({"NetworkInterfaces": [{"DeviceIndex": 0, "AssociatePublicIpAddress": True}]}, "UnsupportedOperation"),
    ],
)
def test_wrong_launches_are_refused(cloud: ApiCloud, parameters: dict[str, Any], code: str) -> None:
    """EC2 API Reference, "Error codes for the Amazon EC2 API"."""
    assert refused(lambda: launch(cloud, **parameters)) == code
    assert cloud.state.instances() == {}


def test_zone_must_offer_the_type(cloud: ApiCloud) -> None:
    """EC2 API Reference, "DescribeInstanceTypeOfferings": in Seoul t2 is offered in the zones a and c."""
    told = cloud.ec2.describe_instance_type_offerings(
        LocationType="availability-zone", Filters=[{"Name": "instance-type", "Values": ["t2.micro"]}]
    )["InstanceTypeOfferings"]
    assert sorted(o["Location"] for o in told) == ["ap-northeast-2a", "ap-northeast-2c"]
    assert refused(lambda: launch(cloud, SubnetId=cloud.subnet("b"))) == "Unsupported"
    launch(cloud, SubnetId=cloud.subnet("b"), InstanceType="t3.micro")


def test_only_types_that_can_be_launched_are_listed(cloud: ApiCloud) -> None:
    """EC2 API Reference, "DescribeInstanceTypes"."""
    types = {t["InstanceType"] for t in cloud.ec2.describe_instance_types()["InstanceTypes"]}
    assert types == {f"{family}.{size}" for family in ("t2", "t3") for size in ("nano", "micro", "small", "medium")}


def test_addresses_are_private_unique_and_not_reserved(cloud: ApiCloud) -> None:
    """VPC User Guide, "Subnet CIDR blocks": the first four addresses and the last are AWS's."""
    subnet = IPv4Network("10.213.0.0/20")
    given = {cloud.instance(cloud.run())["PrivateIpAddress"] for _ in range(5)}
    gone = cloud.run()
    cloud.ec2.terminate_instances(InstanceIds=[gone])
    cloud.follow()
    given.add(cloud.instance(cloud.run())["PrivateIpAddress"])
    assert len(given) == 6
    for address in given:
        assert IPv4Address(address) in subnet
        assert int(IPv4Address(address)) - int(subnet.network_address) >= 4
    told = cloud.instance(cloud.run())
    assert "PublicIpAddress" not in told
    desired = cloud.state.by_ip(told["PrivateIpAddress"])
    assert desired is not None
    assert told["NetworkInterfaces"][0]["MacAddress"] == desired.mac


def test_default_vpc_has_the_clouds_network(cloud: ApiCloud) -> None:
    """VPC User Guide, "Default VPCs"; the subnets give no public addresses here."""
    assert cloud.ec2.describe_vpcs()["Vpcs"][0]["CidrBlock"] == "10.213.0.0/16"
    subnets = cloud.ec2.describe_subnets()["Subnets"]
    assert {s["AvailabilityZone"][-1] for s in subnets} == {"a", "b", "c", "d"}
    assert not any(s["MapPublicIpOnLaunch"] for s in subnets)


def test_everything_asked_for_reaches_the_desired_state(cloud: ApiCloud) -> None:
    """EC2 API Reference, "RunInstances"."""
    cloud.ec2.import_key_pair(KeyName="ops", PublicKeyMaterial=KEY.encode())
    cloud.role("web", {"Effect": "Allow", "Action": "ssm:GetParameter", "Resource": "*"})
    group_id = cloud.security_group("web")
    instance_id = cloud.run(
        KeyName="ops",
        IamInstanceProfile={"Name": "web"},
        SecurityGroupIds=[group_id],
        UserData="#!/bin/sh",
        MetadataOptions={"HttpTokens": "required", "HttpPutResponseHopLimit": 2},
        TagSpecifications=[{"ResourceType": "instance", "Tags": [{"Key": "Name", "Value": "DB-Server"}]}],
    )
    desired = cloud.state.instances()[instance_id]
    assert desired.public_key == KEY
    assert desired.role_name == "web"
    assert desired.security_group_ids == (group_id,)
    assert desired.user_data == b"#!/bin/sh"
    assert (desired.http_tokens, desired.http_put_response_hop_limit) == ("required", 2)
    assert desired.tags == (("Name", "DB-Server"),)
    assert desired.volumes == ()


def test_client_token_launches_once(cloud: ApiCloud) -> None:
    """EC2 API Reference, "Ensuring idempotency in Amazon EC2 API requests"."""
    assert launch(cloud, ClientToken="once") == launch(cloud, ClientToken="once")
    assert len(cloud.state.instances()) == 1


def test_every_instance_asked_for_is_launched(cloud: ApiCloud) -> None:
    """EC2 API Reference, "RunInstances": as many as possible up to MaxCount (moto launches MinCount)."""
    cloud.ec2.run_instances(ImageId=BASE_IMAGE, InstanceType="t2.micro", MinCount=1, MaxCount=3)
    assert len(cloud.state.instances()) == 3


def test_protected_instance_is_not_terminated(cloud: ApiCloud) -> None:
    """EC2 User Guide, "Change instance termination protection"."""
    instance_id = cloud.run(DisableApiTermination=True)
    assert refused(lambda: cloud.ec2.terminate_instances(InstanceIds=[instance_id])) == "OperationNotPermitted"
    cloud.ec2.modify_instance_attribute(InstanceId=instance_id, DisableApiTermination={"Value": False})
    cloud.ec2.terminate_instances(InstanceIds=[instance_id])


def test_groups_can_be_changed(cloud: ApiCloud) -> None:
    """EC2 API Reference, "ModifyInstanceAttribute": the new groups replace the old ones."""
    old, new = cloud.security_group("old"), cloud.security_group("new")
    instance_id = cloud.run(SecurityGroupIds=[old])
    cloud.ec2.modify_instance_attribute(InstanceId=instance_id, Groups=[new])
    assert cloud.state.instances()[instance_id].security_group_ids == (new,)
    cloud.ec2.delete_security_group(GroupId=old)


def test_template_fills_what_the_request_leaves_out(cloud: ApiCloud) -> None:
    """EC2 API Reference, "RunInstances": parameters of the request override those of the launch template."""
    template = cloud.template(
        UserData=encoded("from the template"),
        MetadataOptions={"HttpTokens": "required"},
        TagSpecifications=[{"ResourceType": "instance", "Tags": [{"Key": "Role", "Value": "web"}]}],
    )
    answer = cloud.ec2.run_instances(
        MinCount=1, MaxCount=1, InstanceType="t2.small", LaunchTemplate={"LaunchTemplateId": template}
    )
    desired = cloud.state.instances()[answer["Instances"][0]["InstanceId"]]
    assert (desired.instance_type, desired.image_id) == ("t2.small", BASE_IMAGE)
    assert desired.user_data == b"from the template"
    assert desired.http_tokens == "required"
    assert dict(desired.tags)["Role"] == "web"
    assert dict(desired.tags)["aws:ec2launchtemplate:version"] == "1"


def test_metadata_options_are_changed_one_by_one(cloud: ApiCloud) -> None:
    """EC2 API Reference, "ModifyInstanceMetadataOptions": what is not given stays (moto forgets it)."""
    instance_id = cloud.run(MetadataOptions={"HttpTokens": "required", "HttpPutResponseHopLimit": 2})
    cloud.ec2.modify_instance_metadata_options(InstanceId=instance_id, HttpPutResponseHopLimit=1)
    desired = cloud.state.instances()[instance_id]
    assert (desired.http_tokens, desired.http_put_response_hop_limit) == ("required", 1)


def test_console_tells_what_the_guest_wrote(cloud: ApiCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """EC2 API Reference, "GetConsoleOutput": base64, at most 64 KiB."""
    monkeypatch.setattr(cloud.machine, "console", lambda instance_id: f"{instance_id} says login:")
    instance_id = cloud.run()
    assert cloud.ec2.get_console_output(InstanceId=instance_id)["Output"] == f"{instance_id} says login:"


def test_full_subnet_is_refused(cloud: ApiCloud) -> None:
    """EC2 API Reference, "Error codes …": InsufficientFreeAddressesInSubnet."""
    cloud.ec2.delete_subnet(SubnetId=cloud.subnet("d"))
    small = cloud.ec2.create_subnet(VpcId=cloud.vpc(), CidrBlock="10.213.48.0/28", AvailabilityZone="ap-northeast-2a")
    subnet_id = small["Subnet"]["SubnetId"]
    cloud.run(SubnetId=subnet_id, MinCount=11, MaxCount=11)
    assert refused(lambda: cloud.run(SubnetId=subnet_id)) == "InsufficientFreeAddressesInSubnet"


def test_old_instances_are_forgotten(cloud: ApiCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """EC2 User Guide, "Terminate Amazon EC2 instances": a terminated instance is listed for a short while."""
    old, new = cloud.run(), cloud.run()
    cloud.ec2.terminate_instances(InstanceIds=[old])
    cloud.follow()
    assert cloud.instance(old)["State"]["Name"] == "terminated"
    monkeypatch.setattr("localcloud.api.ec2.instances._REMEMBERED", timedelta(0))
    cloud.ec2.terminate_instances(InstanceIds=[new])
    cloud.follow()
    assert refused(lambda: cloud.instance(old)) == "InvalidInstanceID.NotFound"
