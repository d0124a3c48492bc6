"""The whole job: after a killed run it still comes about, and a second run changes nothing."""

from __future__ import annotations

import pytest
from endtoend.people import Person
from endtoend.stack import Run, Stack

pytestmark = pytest.mark.e2e


@pytest.mark.clean
def test_killed_bake_leaves_nothing_behind(cloud: Stack, killed_bake: int, deployed: Run) -> None:
    assert killed_bake == 1
    assert cloud.instances("image-builder", "pending", "running", "stopping", "stopped") == []
    images = cloud.images()
    assert len(images) == 1
    snapshots = cloud.ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"]
    of_images = {mapping["Ebs"]["SnapshotId"] for mapping in images[0]["BlockDeviceMappings"] if "Ebs" in mapping}
    assert {snapshot["SnapshotId"] for snapshot in snapshots} <= of_images


def test_what_stands_is_what_was_asked_for(cloud: Stack, deployed: Run) -> None:
    database, dev, fleet = (cloud.instance(role) for role in ("db-server", "web-dev", "web-fleet"))
    names = [next(tag["Value"] for tag in instance["Tags"] if tag["Key"] == "Name") for instance in (database, dev)]
    assert names == ["DB-Server", "Web-Server-Dev"]
    assert {instance["InstanceType"] for instance in (database, dev, fleet)} == {"t2.micro"}
    assert {instance["MetadataOptions"]["HttpTokens"] for instance in (database, dev, fleet)} == {"required"}
    assert [fleet["ImageId"]] == [image["ImageId"] for image in cloud.images()]
    group = cloud.autoscaling.describe_auto_scaling_groups()["AutoScalingGroups"][0]
    assert (group["MinSize"], group["MaxSize"], group["HealthCheckType"]) == (1, 2, "ELB")
    assert len(group["AvailabilityZones"]) >= 2
    policies = cloud.autoscaling.describe_policies()["ScalingPolicies"]
    assert [policy["PolicyType"] for policy in policies] == ["TargetTrackingScaling"]


def test_the_url_is_printed_and_serves(cloud: Stack, deployed: Run) -> None:
    assert cloud.url in deployed.output
    assert Person(cloud.url).get().status_code == 200


def test_development_host_serves_on_both_ports(cloud: Stack, deployed: Run) -> None:
    address = cloud.instance("web-dev")["PrivateIpAddress"]
    for port in (80, 8000):
        assert Person(f"http://{address}:{port}/memo/").get("ready").status_code == 200


def test_second_run_changes_nothing(cloud: Stack, deployed: Run) -> None:
    run = cloud.site(timeout=300)
    print(f"\nsite.yml again: {run.seconds:.0f} s")
    assert run.status == 0, run.tail
    assert {host: counts["changed"] for host, counts in run.recap.items() if counts["changed"]} == {}
    assert set(run.recap) >= {"localhost"}
    assert len(run.recap) >= 3, run.recap
