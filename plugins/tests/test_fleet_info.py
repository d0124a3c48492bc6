"""What status, rollback and prune are told of a fleet, against the local cloud's API; and consoles; and the docs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from localcloud.tests.api_cloud import ApiCloud
from plugins.module_utils.deploy_records import Records, Run
from plugins.module_utils.fleet import FleetReader
from plugins.modules import console_output, fleet_versions

ROOT = Path(__file__).parents[2]
TAGS = {"Project": "memo-server"}
MODULES = sorted(path.stem for path in (ROOT / "plugins/modules").glob("*.py") if path.stem != "__init__")


def reader(cloud: ApiCloud, **names: str) -> FleetReader:
    clients = {name: cloud.client(name) for name in ("ec2", "autoscaling", "elbv2", "cloudwatch", "ssm")}
    given = {"project": "memo-server", "template": "web", "group": "fleet", "load_balancer": "lb", **names}
    return FleetReader(clients, now=datetime.now(UTC), **given)


def test_nothing_is_told_of_nothing(cloud: ApiCloud) -> None:
    fleet = reader(cloud).read()
    assert fleet["template"]["id"] == ""
    assert fleet["group"]["name"] == ""
    assert (fleet["versions"], fleet["instances"], fleet["images"], fleet["history"]) == ([], [], [], [])
    assert (fleet["dns_name"], fleet["maintenance"], fleet["lock"]) == ("", False, {})


def test_a_fleet_is_told_whole(cloud: ApiCloud) -> None:
    instance = cloud.run()
    image = cloud.ec2.create_image(InstanceId=instance, Name="one", TagSpecifications=[tagged("image")])["ImageId"]
    template = cloud.template(ImageId=image)
    cloud.ec2.create_launch_template_version(
        LaunchTemplateId=template, SourceVersion="1", LaunchTemplateData={"ImageId": image}
    )
    balancer, targets = cloud.balanced()
    cloud.group(template=template, TargetGroupARNs=[targets])
    fleet_versions.mark(cloud.ec2, "web", {"good": [1], "void": [2], "unvoid": []}, check_mode=False)
    records = Records(cloud.ssm, "memo-server")
    records.take(Run.of_this_process("here"), "deploy", TAGS)
    records.write({"id": "1", "message": "x"}, TAGS)

    fleet = reader(cloud).read()
    (member,) = cloud.members()
    assert [(one["number"], one["good"], one["void"]) for one in fleet["versions"]] == [
        (2, False, True),
        (1, True, False),
    ]
    assert fleet["versions"][1]["instances"] == [member]
    assert fleet["group"] == {"name": "fleet", "version": "1", "min": 1, "max": 4, "desired": 1, "suspended": []}
    (told,) = fleet["instances"]
    assert (told["id"], told["version"], told["state"]) == (member, "1", "InService")
    assert told["target"]["state"] in ("initial", "healthy")
    (told_image,) = fleet["images"]
    assert (told_image["id"], told_image["versions"], told_image["age_days"]) == (image, [2, 1], 0)
    assert len(told_image["snapshots"]) == 1
    assert fleet["lock"]["told"].startswith("deploy by ")
    assert [one["id"] for one in fleet["history"]] == ["1"]
    assert not fleet["maintenance"]

    (listener,) = cloud.elb.describe_listeners(LoadBalancerArn=balancer)["Listeners"]
    page = {"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "503"}}
    cloud.elb.modify_listener(ListenerArn=listener["ListenerArn"], DefaultActions=[page])
    assert reader(cloud).read()["maintenance"]


def test_a_console_is_read_as_a_person_wants_it(cloud: ApiCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    said = [
        "\x1b[0;1;31mmemo.service\x1b[0m: failed",
        "[   12.345678] uwsgi: no application loaded",
        "cloud-init[42]: finished",
        "-----BEGIN SSH HOST KEY KEYS-----",
        "",
    ]
    monkeypatch.setattr(cloud.machine, "console", lambda _: "\n".join(said))
    instance = cloud.run()
    answer = console_output.read(cloud.ec2, [instance, "i-0123456789abcdef0"], 15)
    assert answer["lines"] == {instance: ["memo.service: failed", "uwsgi: no application loaded"]}
    assert answer["told"] == f"{instance} said last: memo.service: failed | uwsgi: no application loaded"
    assert console_output.read(cloud.ec2, [instance], 1)["lines"][instance] == ["uwsgi: no application loaded"]
    assert console_output.read(cloud.ec2, [instance], 0)["told"] == ""


def test_every_modules_documentation_renders() -> None:
    command = [str(Path(sys.executable).parent / "ansible-doc"), "--type", "module"]
    plain = {**os.environ, "NO_COLOR": "1", "ANSIBLE_NOCOLOR": "1", "ANSIBLE_FORCE_COLOR": "0"}
    rendered = subprocess.run(
        [*command, *MODULES], cwd=ROOT, env=plain, capture_output=True, text=True, check=True, timeout=120
    )
    for name in MODULES:
        assert f"> MODULE {name}" in rendered.stdout
    assert not rendered.stderr.strip(), rendered.stderr
    read = subprocess.run([*command, "--json", *MODULES], cwd=ROOT, capture_output=True, check=True, timeout=120)
    documents: dict[str, Any] = json.loads(read.stdout)
    for name in MODULES:
        assert documents[name]["examples"], name
        assert documents[name]["return"] is not None, name
        assert documents[name]["doc"]["short_description"], name


def tagged(kind: str) -> dict[str, Any]:
    return {"ResourceType": kind, "Tags": [{"Key": key, "Value": value} for key, value in TAGS.items()]}
