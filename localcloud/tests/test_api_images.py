"""Images and snapshots: where moto is unlike AWS."""

from __future__ import annotations

import threading

import pytest

from localcloud.api.machine import MachineError
from localcloud.tests.api_cloud import BASE_IMAGE, ApiCloud, encoded, refused


def test_base_image_is_found_as_on_aws(cloud: ApiCloud) -> None:
    """Debian wiki, "Cloud/AmazonEC2Image": owner 136693071363 and a name that begins with debian-13-amd64."""
    found = cloud.ec2.describe_images(
        Owners=["136693071363"], Filters=[{"Name": "name", "Values": ["debian-13-amd64-*"]}]
    )["Images"]
    assert [image["ImageId"] for image in found] == [BASE_IMAGE]
    assert found[0]["RootDeviceName"] == "/dev/xvda"
    assert cloud.ec2.describe_images(Owners=["self"])["Images"] == []


def test_image_and_snapshots_are_tagged(cloud: ApiCloud) -> None:
    """EC2 API Reference, "CreateImage": TagSpecification for the image and for its snapshots (moto raises)."""
    instance_id = cloud.run()
    tags = [{"Key": "Project", "Value": "memo-server"}]
    image_id = cloud.ec2.create_image(
        InstanceId=instance_id,
        Name="memo-1",
        TagSpecifications=[
            {"ResourceType": "image", "Tags": [*tags, {"Key": "ContentHash", "Value": "abc"}]},
            {"ResourceType": "snapshot", "Tags": tags},
        ],
    )["ImageId"]
    image = cloud.ec2.describe_images(ImageIds=[image_id])["Images"][0]
    assert image["State"] == "available"
    assert {t["Key"]: t["Value"] for t in image["Tags"]} == {"Project": "memo-server", "ContentHash": "abc"}
    snapshot_id = image["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"]
    assert cloud.ec2.describe_snapshots(SnapshotIds=[snapshot_id])["Snapshots"][0]["Tags"] == tags
    assert refused(
        lambda: cloud.ec2.create_image(
            InstanceId=instance_id,
            Name="memo-2",
            TagSpecifications=[{"ResourceType": "instance", "Tags": tags}],
        )
    ) == ("InvalidParameterValue")


@pytest.mark.parametrize(("no_reboot", "how"), [(False, "stop"), (True, "live")])
def test_image_is_made_within_the_call(cloud: ApiCloud, no_reboot: bool, how: str) -> None:
    """EC2 API Reference, "CreateImage": the instance is rebooted unless NoReboot; usable when `available`."""
    instance_id = cloud.run()
    image_id = cloud.ec2.create_image(InstanceId=instance_id, Name="memo-1", NoReboot=no_reboot)["ImageId"]
    assert ("commit_image", instance_id, image_id, how) in cloud.machine.calls
    assert cloud.instance(cloud.run(ImageId=image_id))["ImageId"] == image_id


def test_other_calls_are_answered_while_an_image_is_made(cloud: ApiCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lock is free while the machine works; the image says `pending`, its instance is left alone."""
    instance_id = cloud.run()
    begun, may_end = threading.Event(), threading.Event()

    def slow(instance: str, image: str, *, stop: bool) -> None:
        begun.set()
        assert may_end.wait(10)

    monkeypatch.setattr(cloud.machine, "commit_image", slow)
    making = threading.Thread(target=lambda: cloud.ec2.create_image(InstanceId=instance_id, Name="memo-1"))
    making.start()
    assert begun.wait(10)
    try:
        assert [i["State"] for i in cloud.ec2.describe_images(Owners=["self"])["Images"]] == ["pending"]
        assert cloud.state.busy() == {instance_id}
        assert (
            refused(lambda: cloud.ec2.create_image(InstanceId=instance_id, Name="memo-1")) == "IncorrectInstanceState"
        )
    finally:
        may_end.set()
        making.join()
    assert [i["State"] for i in cloud.ec2.describe_images(Owners=["self"])["Images"]] == ["available"]
    assert cloud.state.busy() == set()


def test_failed_image_says_so_and_frees_its_name(cloud: ApiCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """EC2 API Reference, "Image": state `failed` with a StateReason."""
    instance_id = cloud.run()

    def fail(instance: str, image: str, *, stop: bool) -> None:
        raise MachineError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(cloud.machine, "commit_image", fail)
        image_id = cloud.ec2.create_image(InstanceId=instance_id, Name="memo-1")["ImageId"]
    image = cloud.ec2.describe_images(ImageIds=[image_id])["Images"][0]
    assert image["State"] == "failed"
    assert "no space left" in image["StateReason"]["Message"]
    assert refused(lambda: cloud.run(ImageId=image_id)) == "InvalidAMIID.Unavailable"
    cloud.ec2.create_image(InstanceId=instance_id, Name="memo-1")


def test_image_names_are_unique(cloud: ApiCloud) -> None:
    """EC2 API Reference, "Error codes for the Amazon EC2 API": InvalidAMIName.Duplicate, InvalidAMIName.Malformed."""
    instance_id = cloud.run()
    cloud.ec2.create_image(InstanceId=instance_id, Name="memo-1")
    assert refused(lambda: cloud.ec2.create_image(InstanceId=instance_id, Name="memo-1")) == "InvalidAMIName.Duplicate"
    assert refused(lambda: cloud.ec2.create_image(InstanceId=instance_id, Name="what?")) == "InvalidAMIName.Malformed"


def test_block_device_mappings_are_kept(cloud: ApiCloud) -> None:
    """EC2 API Reference, "CreateImage": BlockDeviceMapping; attached volumes come with a snapshot unless left out."""
    instance_id = cloud.run()
    volume_id = cloud.ec2.create_volume(AvailabilityZone="ap-northeast-2a", Size=2)["VolumeId"]
    cloud.ec2.attach_volume(VolumeId=volume_id, InstanceId=instance_id, Device="/dev/sdf")
    with_data = cloud.ec2.create_image(InstanceId=instance_id, Name="with-data")["ImageId"]
    mappings = cloud.ec2.describe_images(ImageIds=[with_data])["Images"][0]["BlockDeviceMappings"]
    assert [(m["DeviceName"], m["Ebs"]["VolumeSize"]) for m in mappings] == [("/dev/xvda", 8), ("/dev/sdf", 2)]
    assert ("create_snapshot", mappings[1]["Ebs"]["SnapshotId"], volume_id) in cloud.machine.calls
    alone = cloud.ec2.create_image(
        InstanceId=instance_id,
        Name="alone",
        BlockDeviceMappings=[
            {"DeviceName": "/dev/sdf", "NoDevice": ""},
            {"DeviceName": "/dev/xvda", "Ebs": {"VolumeSize": 12, "VolumeType": "gp2"}},
        ],
    )["ImageId"]
    mappings = cloud.ec2.describe_images(ImageIds=[alone])["Images"][0]["BlockDeviceMappings"]
    assert [(m["DeviceName"], m["Ebs"]["VolumeSize"]) for m in mappings] == [("/dev/xvda", 12)]


def test_deregistering_leaves_the_snapshots(cloud: ApiCloud) -> None:
    """EC2 API Reference, "DeregisterImage" and "DeleteSnapshot": snapshots in use by an image cannot be deleted."""
    image_id = cloud.ec2.create_image(InstanceId=cloud.run(), Name="memo-1")["ImageId"]
    image = cloud.ec2.describe_images(ImageIds=[image_id])["Images"][0]
    snapshot_id = image["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"]
    assert refused(lambda: cloud.ec2.delete_snapshot(SnapshotId=snapshot_id)) == "InvalidSnapshot.InUse"
    cloud.ec2.deregister_image(ImageId=image_id)
    assert ("remove_image", image_id) in cloud.machine.calls
    assert refused(lambda: cloud.ec2.describe_images(ImageIds=[image_id])) == "InvalidAMIID.Unavailable"
    assert refused(lambda: cloud.run(ImageId=image_id)) == "InvalidAMIID.NotFound"
    cloud.ec2.delete_snapshot(SnapshotId=snapshot_id)
    assert cloud.ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"] == []


def test_deregistering_can_take_the_snapshots_along(cloud: ApiCloud) -> None:
    """EC2 API Reference, "DeregisterImage": DeleteAssociatedSnapshots."""
    image_id = cloud.ec2.create_image(InstanceId=cloud.run(), Name="memo-1")["ImageId"]
    answer = cloud.ec2.deregister_image(ImageId=image_id, DeleteAssociatedSnapshots=True)
    assert [r["ReturnCode"] for r in answer["DeleteSnapshotResults"]] == ["success"]
    assert cloud.ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"] == []


def test_foreign_image_is_not_deregistered(cloud: ApiCloud) -> None:
    """EC2 API Reference, "Error codes for the Amazon EC2 API": AuthFailure for somebody else's image."""
    assert refused(lambda: cloud.ec2.deregister_image(ImageId=BASE_IMAGE)) == "AuthFailure"


def test_user_data_reaches_the_instance(cloud: ApiCloud) -> None:
    """EC2 User Guide, "Run commands when you launch an EC2 instance with user data input": at most 16 KiB."""
    instance_id = cloud.run(UserData="#cloud-config\n")
    assert cloud.state.instances()[instance_id].user_data == b"#cloud-config\n"
    assert refused(lambda: cloud.run(UserData="x" * 16385)) == "InvalidParameterValue"
    assert refused(lambda: cloud.template(UserData=encoded("x" * 16385))) == "InvalidParameterValue"
