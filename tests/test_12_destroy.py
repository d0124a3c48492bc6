"""After destroy.yml the account holds nothing of the project, and the local cloud runs nothing for it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from endtoend import machine
from endtoend.fleet import Fleet
from endtoend.stack import NAME, Stack
from endtoend.waiting import until

pytestmark = [pytest.mark.e2e, pytest.mark.clean]


def account(service: Stack) -> dict[str, list[str]]:
    """What the whole account holds, whatever it is tagged with; the base image and AWS's own default group aside."""
    ssm = service.session.client("ssm", endpoint_url=service.settings.api_url)
    iam = service.session.client("iam", endpoint_url=service.settings.api_url)
    groups = service.ec2.describe_security_groups()["SecurityGroups"]
    return {
        "volumes": [one["VolumeId"] for one in service.ec2.describe_volumes()["Volumes"]],
        "images": [one["ImageId"] for one in service.ec2.describe_images(Owners=["self"])["Images"]],
        "snapshots": [one["SnapshotId"] for one in service.ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"]],
        "security groups": [one["GroupName"] for one in groups if one["GroupName"] != "default"],
        "key pairs": [one["KeyName"] for one in service.ec2.describe_key_pairs()["KeyPairs"]],
        "templates": [one["LaunchTemplateId"] for one in service.ec2.describe_launch_templates()["LaunchTemplates"]],
        "parameters": [one["Name"] for one in ssm.describe_parameters()["Parameters"]],
        "roles": [one["RoleName"] for one in iam.list_roles()["Roles"]],
        "profiles": [one["InstanceProfileName"] for one in iam.list_instance_profiles()["InstanceProfiles"]],
    }


def test_destroy_proves_that_nothing_is_left(fleet: Fleet, service: Stack) -> None:
    before = account(service)
    assert all(before[kind] for kind in ("volumes", "images", "snapshots", "security groups", "parameters", "roles"))
    run = fleet.play("destroy", settings={"confirm": NAME})
    print(f"\ndestroy: {run.seconds:.0f} s")
    assert run.status == 0, run.tail
    assert "; 0 left." in run.words
    assert {kind: found for kind, found in account(service).items() if found} == {}
    told = service.localcloud("status", "--json", "--name", service.settings.name, timeout=60)
    inventory = json.loads(told.output[told.output.index("{") :])
    for kind in ("groups", "target_groups", "urls"):
        assert inventory[kind] == []
    assert [one for one in inventory["instances"] if one["state"] != "terminated"] == []
    until(
        lambda: (
            not [name for name in machine.snapshot()["containers"] if name.startswith(f"{service.settings.name}-i-")]
        ),
        "no container of an instance left",
        timeout=60,
    )


def test_destroy_again_finds_nothing(cloud: Stack, tmp_path: Path) -> None:
    run = Fleet(cloud, tmp_path).play("destroy", settings={"confirm": NAME})
    assert run.status == 0, run.tail
    assert "; 0 left." in run.words
