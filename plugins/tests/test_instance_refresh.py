"""The modules instance_refresh and instance_refresh_info, against the local cloud's API."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from localcloud.model import HealthState
from localcloud.tests.api_cloud import ApiCloud, encoded
from plugins.modules import instance_refresh, instance_refresh_info
from plugins.modules.instance_refresh import Run

PROJECT = Path(__file__).parents[2]
DEFAULTS: dict[str, Any] = {
    "state": "started",
    "preferences": {
        "min_healthy_percentage": 100,
        "max_healthy_percentage": 200,
        "instance_warmup": 0,
        "skip_matching": True,
    },
    "replace_running": False,
    "max_failed_instances": 1,
    "wait": True,
    "wait_timeout": 120,
    "wait_interval": 2,
}
BAD_GATEWAY = "Health checks failed with these codes: [502]"


class Field:
    """A group with a target group, three template versions, and what its instances answer by version."""

    def __init__(self, cloud: ApiCloud, **group: Any) -> None:  # noqa: ANN401 - CreateAutoScalingGroup's
        self.cloud = cloud
        self.broken: set[str] = set()
        self.on_step: Callable[[], None] = lambda: None
        self.template = cloud.template()
        for text in ("two", "three"):
            cloud.ec2.create_launch_template_version(
                LaunchTemplateId=self.template, SourceVersion="1", LaunchTemplateData={"UserData": encoded(text)}
            )
        _, self.target_group = cloud.balanced(delay=2)
        given = {"HealthCheckType": "ELB", "HealthCheckGracePeriod": 5, "DesiredCapacity": 2, **group}
        cloud.group(template=self.template, TargetGroupARNs=[self.target_group], **given)
        self.step()

    def step(self, times: int = 1) -> None:
        """Let the cloud go on, with the probes seeing what the versions answer."""
        for _ in range(times):
            for instance_id, member in self.cloud.members().items():
                bad = member["LaunchTemplate"]["Version"] in self.broken
                state = HealthState.UNHEALTHY if bad else HealthState.HEALTHY
                self.cloud.see(self.target_group, instance_id, state, BAD_GATEWAY if bad else None)
            self.cloud.step()
            self.on_step()

    def run(self, version: str | None = "2", *, check_mode: bool = False, **params: Any) -> Run:  # noqa: ANN401
        """Prepare a run of the module, whose waiting lets the cloud go on."""
        given: dict[str, Any] = {**DEFAULTS, **params}
        given["preferences"] = {**DEFAULTS["preferences"], **params.get("preferences", {})}
        if version is not None:
            given["launch_template"] = {"launch_template_name": "web", "version": version}
        fleet = instance_refresh.Fleet(self.cloud.asg, self.cloud.elb, "fleet")
        return Run(
            fleet, given, check_mode, clock=lambda: self.cloud.now, sleep=lambda seconds: self.step(int(seconds))
        )

    def versions(self) -> list[str]:
        return sorted(m["LaunchTemplate"]["Version"] for m in self.cloud.members().values())


@pytest.fixture
def field(cloud: ApiCloud) -> Field:
    return Field(cloud)


def test_refreshes_waits_and_does_nothing_the_second_time(field: Field) -> None:
    answer = field.run().do()
    assert answer["changed"]
    assert not answer["adopted"]
    assert answer["instance_refresh"]["status"] == "Successful"
    assert field.versions() == ["2", "2"]
    assert "Version 2 of fleet is in place" in answer["msg"]
    assert answer["diff"]["before"]["launch_template_version"] == "1"
    assert answer["diff"]["after"]["launch_template_version"] == "2"
    assert set(answer["diff"]["after"]["instances"].values()) == {"2"}
    assert any("50 %" in line or "100 %" in line for line in answer["progress"])
    again = field.run().do()
    assert not again["changed"]
    assert again["diff"]["before"] == again["diff"]["after"]
    assert again["msg"].startswith("Nothing to refresh: version 2 serves on i-")
    assert len(field.cloud.asg.describe_instance_refreshes(AutoScalingGroupName="fleet")["InstanceRefreshes"]) == 1


def test_somebody_who_waits_is_told(field: Field) -> None:
    run = field.run(preferences={"instance_warmup": 12})
    told: list[tuple[float, str]] = []
    run.tell = lambda line: told.append((field.cloud.now, line))
    run.do()
    old, new = r"i-\w+ \(version 1\)", r"i-\w+ \(version 2\)"
    lines = "\n".join(line for _, line in told)
    assert re.search(rf"^\d+ s, 0 %: {old} in service, {old} in service$", lines, re.MULTILINE)
    assert re.search(rf"^\d+ s, \d+ %: {old} draining, {old} draining, {new} in service", lines, re.MULTILINE)
    assert re.search(rf"^\d+ s, 100 %: {new} in service, {new} in service$", lines, re.MULTILINE)
    assert max(later - earlier for (earlier, _), (later, _) in pairwise(told)) <= 6
    field.broken.add("3")
    told.clear()
    run = field.run("3")
    run.tell = lambda line: told.append((field.cloud.now, line))
    with pytest.raises(instance_refresh.RefreshFailedError):
        run.do()
    assert any(re.search(rf"\(version 3\) unhealthy: {re.escape(BAD_GATEWAY)}", line) for _, line in told)


def test_bad_version_is_rolled_back_and_the_story_names_instance_and_reason(field: Field) -> None:
    before = set(field.cloud.members())
    field.broken.add("2")
    run = field.run()
    with pytest.raises(instance_refresh.RefreshFailedError) as caught:
        run.do()
    story = str(caught.value)
    assert run.failed
    assert not before & set(run.failed)
    assert story.startswith("Version 2 of fleet failed: i-")
    for bad in run.failed:
        assert f"{bad} failed GET /: {BAD_GATEWAY}" in story
    assert "rolled back; version 1 serves on i-" in story
    assert before <= set(field.cloud.members())
    assert run.results(story)["instance_refresh"]["status"] == "RollbackSuccessful"
    assert run.changed
    # The next good version works.
    assert field.run("3").do()["changed"]
    assert field.versions() == ["3", "3"]


def test_aws_rolls_back_on_its_own(field: Field) -> None:
    field.broken.add("2")
    with pytest.raises(instance_refresh.RefreshFailedError, match="rolled back; version 1 serves"):
        field.run(max_failed_instances=0).do()
    assert field.versions() == ["1", "1"]


def test_time_is_over(field: Field) -> None:
    run = field.run(wait_timeout=20, preferences={"instance_warmup": 1000})
    with pytest.raises(instance_refresh.RefreshFailedError) as caught:
        run.do()
    assert "it was InProgress with 0 % after 20 s" in str(caught.value)
    assert "is warming up" in str(caught.value)


def test_check_mode_changes_nothing(field: Field) -> None:
    answer = field.run(check_mode=True).do()
    assert answer["changed"]
    assert answer["msg"].startswith("Would refresh fleet to version 2, replacing i-")
    assert set(answer["diff"]["after"]["instances"].values()) == {"2"}
    assert field.cloud.asg.describe_instance_refreshes(AutoScalingGroupName="fleet")["InstanceRefreshes"] == []
    assert not field.run("1", check_mode=True).do()["changed"]


def test_adopts_what_is_under_way(field: Field) -> None:
    assert field.run(wait=False).do()["changed"]
    field.step(2)
    answer = field.run().do()
    assert answer["adopted"]
    assert answer["changed"]
    assert field.versions() == ["2", "2"]


def test_other_version_under_way(field: Field) -> None:
    field.run(wait=False).do()
    with pytest.raises(instance_refresh.RefreshError, match="replace_running"):
        field.run("3").do()
    assert field.run("3", replace_running=True).do()["changed"]
    assert field.versions() == ["3", "3"]


def test_waits_for_a_rollback_and_begins_then(field: Field) -> None:
    field.run(wait=False).do()
    field.step(2)
    field.run(None, state="rolled_back", wait=False).do()
    answer = field.run("3").do()
    assert answer["changed"]
    assert field.versions() == ["3", "3"]


def test_cancel_and_roll_back(field: Field) -> None:
    slow = {"instance_warmup": 30}
    assert not field.run(None, state="cancelled").do()["changed"]
    with pytest.raises(instance_refresh.RefreshError, match="Refresh to the older"):
        field.run(None, state="rolled_back").do()
    field.run(wait=False, preferences=slow).do()
    field.step(3)
    assert field.run(None, state="cancelled", check_mode=True).do()["msg"].startswith("Would cancel")
    answer = field.run(None, state="cancelled").do()
    assert answer["changed"]
    assert answer["instance_refresh"]["status"] == "Cancelled"
    field.step(10)
    field.run("3", wait=False, preferences=slow).do()
    field.step(3)
    answer = field.run(None, state="rolled_back").do()
    assert answer["instance_refresh"]["status"] == "RollbackSuccessful"
    assert not field.run(None, state="rolled_back").do()["changed"]


def test_launch_that_fails_is_told(field: Field) -> None:
    image_id = field.cloud.ec2.create_image(InstanceId=field.cloud.run(), Name="memo-2")["ImageId"]
    field.cloud.ec2.create_launch_template_version(
        LaunchTemplateId=field.template, SourceVersion="1", LaunchTemplateData={"ImageId": image_id}
    )
    run = field.run("4", wait=False)
    run.do()
    field.cloud.ec2.deregister_image(ImageId=image_id)
    with pytest.raises(instance_refresh.RefreshFailedError) as caught:
        field.run("4").do()
    assert "no instance could be launched" in str(caught.value)
    assert image_id in str(caught.value)
    assert "version 1 serves on" in str(caught.value)


@pytest.mark.parametrize("version", ["1", "2"])
def test_instance_killed_on_the_way_does_not_fail_the_version(field: Field, version: str) -> None:
    killed: list[str] = []

    def kill() -> None:
        members = field.cloud.members().items()
        found = [i for i, m in members if m["LaunchTemplate"]["Version"] == version and len(members) > 2]
        if found and not killed:
            killed.append(found[0])
            field.cloud.ec2.terminate_instances(InstanceIds=killed)

    field.on_step = kill
    answer = field.run().do()
    assert killed
    assert answer["instance_refresh"]["status"] == "Successful"
    assert answer["failed_instances"] == {}
    assert field.versions() == ["2", "2"]


def test_group_without_desired_configuration(field: Field) -> None:
    before = set(field.cloud.members())
    assert not field.run(None).do()["changed"]
    assert field.run(None, preferences={"skip_matching": False}).do()["changed"]
    assert not before & set(field.cloud.members())


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ({"launch_template_name": "web", "version": "$Latest"}, "must be a number"),
        ({"version": "2"}, "exactly one"),
    ],
)
def test_wrong_input_names_its_fix(field: Field, template: dict[str, str], said: str) -> None:
    with pytest.raises(instance_refresh.RefreshError, match=said):
        field.run(None, launch_template=template).do()


def test_no_such_group(cloud: ApiCloud) -> None:
    fleet = instance_refresh.Fleet(cloud.asg, cloud.elb, "nobody")
    told = instance_refresh_info.read(fleet, [])
    assert (told["exists"], told["active"], told["launch_template"]) == (False, {}, {})
    with pytest.raises(instance_refresh.RefreshError, match="nobody"):
        fleet.group()


def test_info(field: Field) -> None:
    field.broken.add("2")
    field.run(wait=False).do()
    field.step(3)
    fleet = instance_refresh.Fleet(field.cloud.asg, field.cloud.elb, "fleet")
    told = instance_refresh_info.read(fleet, [])
    assert told["active"]["status"] == "InProgress"
    assert told["launch_template"]["version"] == "1"
    assert told["summary"].startswith("version 1 serves on i-")
    assert any(BAD_GATEWAY in reason for one in told["instances"] for reason in one["reasons"])
    only = instance_refresh_info.read(fleet, [told["active"]["instance_refresh_id"]])
    assert len(only["instance_refreshes"]) == 1


def test_as_ansible_runs_it(field: Field) -> None:
    """The real thing: argument parsing, the import of module_utils, check mode and the text of a failure."""
    done = threading.Event()
    lock = threading.Lock()

    def go_on() -> None:
        while not done.wait(0.1):
            with lock:
                field.step()

    with ThreadPoolExecutor(1) as pool:
        going = pool.submit(go_on)
        try:
            refresh_and_fail(field, lock)
        finally:
            done.set()
            # A cloud that has stopped going on is why the module waited in vain: its error is the one to see.
            going.result()


def refresh_and_fail(field: Field, lock: threading.Lock) -> None:
    """Run the module in a cloud that goes on by itself: to a version that works, and to one that does not."""
    arguments = {
        "name": "fleet",
        "launch_template": {"launch_template_name": "web", "version": "2"},
        "preferences": {"instance_warmup": 0},
        "wait_interval": 1,
        "region": "ap-northeast-2",
        "endpoint_url": field.cloud.plane.url,
        "access_key": "AKIALOCALCLOUD000000",
        "secret_key": "secret",
    }
    good = ansible("instance_refresh", arguments)
    assert "CHANGED" in good.stdout, good.stdout + good.stderr
    assert "Version 2 of fleet is in place" in good.stdout
    live, _, result = good.stdout.partition("CHANGED")
    assert re.search(r"^    \d+ s, \d+ %: .*i-\w+ \(version 2\) ", live, re.MULTILINE)
    assert " (version 2) " not in result
    with lock:
        field.broken.add("3")
    bad = ansible("instance_refresh", {**arguments, "launch_template": {"launch_template_name": "web", "version": 3}})
    assert bad.returncode != 0
    assert BAD_GATEWAY in bad.stdout
    assert "version 2 serves on i-" in bad.stdout


def ansible(module: str, arguments: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    """Run one module as Ansible does."""
    program = Path(sys.executable).with_name("ansible")
    return subprocess.run(
        [str(program), "localhost", "-i", "localhost,", "-c", "local", "-m", module, "-a", json.dumps(arguments)],
        cwd=PROJECT,
        env={**os.environ, "ANSIBLE_PYTHON_INTERPRETER": sys.executable, "ANSIBLE_INVENTORY_ENABLED": "host_list"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("module", ["instance_refresh", "instance_refresh_info"])
def test_documentation_renders(module: str) -> None:
    program = Path(sys.executable).with_name("ansible-doc")
    shown = subprocess.run(
        [str(program), "-t", "module", module], cwd=PROJECT, capture_output=True, text=True, timeout=60, check=False
    )
    assert shown.returncode == 0, shown.stderr
    assert "EXAMPLES:" in shown.stdout
    assert "RETURN VALUES:" in shown.stdout
