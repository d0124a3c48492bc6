"""What an operator does on the days after: look, read logs, run commands, announce maintenance, and prune."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import requests
from endtoend.fleet import GROUP, Fleet
from endtoend.people import Person, until_steady
from endtoend.stack import NAME, PROJECT, Stack

pytestmark = pytest.mark.e2e


@pytest.fixture
def two_versions(fleet: Fleet) -> Fleet:
    """A fleet that has a good version to go back to."""
    if len(fleet.marks().get("good", "").split()) < 2:
        run = fleet.deploy(fleet.variant("another", words=fleet.other_words()))
        assert run.status == 0, run.tail
    return fleet


@contextmanager
def opened(service: Stack) -> Iterator[None]:
    """Somebody opens a port by hand, and the group is let grow."""
    group_id = service.instances("web-fleet")[0]["SecurityGroups"][0]["GroupId"]
    rule: Any = [
        {"IpProtocol": "tcp", "FromPort": 9999, "ToPort": 9999, "IpRanges": [{"CidrIp": service.settings.cidr}]}
    ]
    service.ec2.authorize_security_group_ingress(GroupId=group_id, IpPermissions=rule)
    size = service.autoscaling.describe_auto_scaling_groups(AutoScalingGroupNames=[GROUP])["AutoScalingGroups"][0]
    service.autoscaling.update_auto_scaling_group(AutoScalingGroupName=GROUP, MaxSize=size["MaxSize"] + 1)
    try:
        yield
    finally:
        service.ec2.revoke_security_group_ingress(GroupId=group_id, IpPermissions=rule)
        service.autoscaling.update_auto_scaling_group(AutoScalingGroupName=GROUP, MaxSize=size["MaxSize"])


def test_status_tells_the_fleet_and_fails_on_drift(two_versions: Fleet, service: Stack) -> None:
    calm = two_versions.play("status")
    assert calm.status == 0, calm.tail
    for words in (
        service.url,
        f"Group {GROUP}: version {two_versions.version()}",
        "target healthy",
        "good; image ami-",
        "Last changes:",
        "No drift.",
    ):
        assert words in calm.words, calm.tail
    with opened(service):
        drifted = two_versions.play("status")
    assert drifted.status != 0
    assert "The account is not what the playbooks would make" in drifted.words
    assert re.search(r"security group\S* \S*web", drifted.words), drifted.tail
    assert "the group's size: 1 to 3, not 1 to 2" in drifted.words, drifted.tail


CHECKED = {
    "deploy": "Would try the application's migrations",
    "rollback": "becomes void",
    "prune": "version|Nothing to remove",
    "destroy": "instances: i-",
}


@pytest.mark.parametrize("playbook", CHECKED)
def test_check_mode_says_what_would_happen_and_does_nothing(two_versions: Fleet, service: Stack, playbook: str) -> None:
    before = everything(service)
    if playbook == "deploy":
        run = two_versions.deploy(two_versions.variant("fine", words=two_versions.other_words()), "--check")
    else:
        run = two_versions.play(playbook, "--check", settings={"confirm": "yes" if playbook == "prune" else ""})
    assert run.status == 0, run.tail
    assert re.search(CHECKED[playbook], run.words), run.tail
    assert everything(service) == before


def test_destroy_and_prune_ask_first(two_versions: Fleet, service: Stack) -> None:
    before = everything(service)
    refused = two_versions.play("destroy")
    assert refused.status != 0
    assert "no memo survives it" in refused.words
    assert service.instance("db-server")["InstanceId"] in refused.words
    assert f"-e confirm={NAME}" in refused.words
    shown = two_versions.play("prune", settings={"memo_server_images_kept": 1})
    assert shown.status == 0, shown.tail
    assert "Nothing is removed without -e confirm=yes" in shown.words
    assert everything(service) == before


def test_prune_keeps_what_is_in_use(two_versions: Fleet, service: Stack) -> None:
    used = {one["ImageId"] for one in service.instances("web-fleet")}
    before = service.images()
    run = two_versions.play("prune", settings={"memo_server_images_kept": 1, "confirm": "yes"})
    assert run.status == 0, run.tail
    images = service.images()
    assert used <= {one["ImageId"] for one in images}
    assert len(images) < len(before)
    assert len(images) <= 3
    wanted = {mapping["Ebs"]["SnapshotId"] for one in images for mapping in one["BlockDeviceMappings"]}
    there = service.ec2.describe_snapshots(OwnerIds=["self"], Filters=[{"Name": "tag:Project", "Values": [NAME]}])
    assert {one["SnapshotId"] for one in there["Snapshots"]} == wanted
    launched = {
        one["LaunchTemplateData"]["ImageId"]
        for one in service.ec2.describe_launch_template_versions(LaunchTemplateName=GROUP)["LaunchTemplateVersions"]
    }
    assert launched <= {one["ImageId"] for one in images}
    again = two_versions.play("prune", settings={"memo_server_images_kept": 1, "confirm": "yes"})
    assert "Nothing to remove" in again.words, again.tail
    assert Person(service.url).get("ready").status_code == 200


def test_logs_run_and_ssh(fleet: Fleet, service: Stack) -> None:
    instance = service.instances("web-fleet")[0]["InstanceId"]
    logs = fleet.play("logs", settings={"instance": instance, "unit": "memo", "lines": 20})
    assert logs.status == 0, logs.tail
    assert "WSGI app" in logs.words or "memo.request" in logs.words, logs.tail
    run = fleet.play("run", settings={"command": "echo $((6 * 7)) of $(id -un)", "instance": instance})
    assert run.status == 0, run.tail
    assert "42 of root" in run.words
    failed = fleet.play("run", settings={"command": "echo so; exit 3", "instance": instance})
    assert failed.status != 0
    assert re.search("so .*It ended with status 3", failed.words), failed.tail
    unknown = fleet.play("run", settings={"command": "true", "instance": "i-nowhere"})
    assert unknown.status != 0
    assert 'There is no instance "i-nowhere"' in unknown.words
    assert instance in unknown.words
    shell = fleet.play("ssh", settings={"instance": instance})
    command = re.search(r"ssh -i .*?@[0-9.]+", shell.words)
    assert command, shell.tail
    done = subprocess.run(
        [*shlex.split(command[0]), "cloud-init", "query", "instance_id"],
        cwd=PROJECT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.strip() == instance, done.stderr


def test_maintenance(fleet: Fleet, service: Stack) -> None:
    on = fleet.play("maintenance", settings={"state": "on"})
    try:
        assert on.status == 0, on.tail
        answer = requests.get(service.url, timeout=10)
        assert answer.status_code == 503
        assert "What you have stored is safe" in answer.text
        assert answer.headers["Content-Type"].startswith("text/html")
        refused = fleet.deploy(fleet.variant("fine"))
        assert refused.status != 0
        assert "Maintenance is on" in refused.words
    finally:
        off = fleet.play("maintenance", settings={"state": "off"})
    assert off.status == 0, off.tail
    until_steady(Person(service.url))


def test_history_and_lock(fleet: Fleet) -> None:
    history = fleet.play("history")
    assert history.status == 0, history.tail
    assert re.search(r"\S+@\S+ maintenance off: ok after [0-9.]+ s", history.words), history.tail
    assert re.search(r"deploy.*: failed after .*Maintenance is on", history.words), history.tail
    free = fleet.play("unlock")
    assert free.status == 0
    assert "Nobody holds the lock." in free.words


def everything(service: Stack) -> dict[str, Any]:
    """What the account has, as far as a change of the fleet would show in it."""
    ec2, ssm = service.ec2, service.session.client("ssm", endpoint_url=service.settings.api_url)
    (group,) = service.autoscaling.describe_auto_scaling_groups(AutoScalingGroupNames=[GROUP])["AutoScalingGroups"]
    (template,) = ec2.describe_launch_templates(LaunchTemplateNames=[GROUP])["LaunchTemplates"]
    refreshes = service.autoscaling.describe_instance_refreshes(AutoScalingGroupName=GROUP)["InstanceRefreshes"]
    return {
        "group": {key: group[key] for key in ("MinSize", "MaxSize", "DesiredCapacity", "LaunchTemplate")},
        "members": sorted(one["InstanceId"] for one in group["Instances"]),
        "instances": sorted(
            instance["InstanceId"]
            for reservation in ec2.describe_instances()["Reservations"]
            for instance in reservation["Instances"]
            if instance["State"]["Name"] != "terminated"
        ),
        "template": {key: template[key] for key in ("DefaultVersionNumber", "LatestVersionNumber", "Tags")},
        "images": sorted(one["ImageId"] for one in service.images()),
        "refreshes": [one["InstanceRefreshId"] for one in refreshes],
        "parameters": {
            one["Name"]: one["Version"]
            for page in ssm.get_paginator("describe_parameters").paginate()
            for one in page["Parameters"]
        },
        "listeners": [
            listener["DefaultActions"]
            for balancer in service.elbv2.describe_load_balancers()["LoadBalancers"]
            for listener in service.elbv2.describe_listeners(LoadBalancerArn=balancer["LoadBalancerArn"])["Listeners"]
        ],
    }
