"""The lock, the audit trail and the versions' marks, against the local cloud's API; and runs that take the lock."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from localcloud.tests.api_cloud import ApiCloud
from plugins.module_utils.deploy_records import LockedError, Records, Run, fitting
from plugins.modules import deploy_lock, fleet_versions

ROOT = Path(__file__).parents[2]
TAGS = {"Project": "memo-server"}
# Under Ansible's own name for module_utils it is another class than the one imported here.
REFUSED: type[Exception] = vars(deploy_lock)["LockedError"]
HERE = Run.of_this_process("here")


@pytest.fixture
def records(cloud: ApiCloud) -> Records:
    return Records(cloud.ssm, "memo-server")


def test_one_run_at_a_time(records: Records) -> None:
    assert records.lock() is None
    assert records.take(HERE, "deploy", TAGS) == ""
    assert records.take(HERE, "deploy", TAGS) == ""
    with pytest.raises(LockedError, match="Another run is at work on memo-server: deploy by .* Wait for it.$"):
        records.take(replace(HERE, id="other"), "rollback", TAGS)
    assert not records.release("other")
    assert records.release("here")
    assert records.take(replace(HERE, id="other"), "rollback", TAGS) == ""


def test_a_dead_run_of_this_host_is_taken_over(records: Records) -> None:
    with subprocess.Popen(["/bin/sleep", "60"]) as process:
        text = Path(f"/proc/{process.pid}/stat").read_text(encoding="ascii")
        dead = replace(HERE, id="dead", pid=process.pid, started=int(text.rpartition(")")[2].split()[19]))
        records.take(dead, "deploy", TAGS)
        with pytest.raises(LockedError):
            records.take(HERE, "rollback", TAGS)
        process.kill()
        process.wait(10)
    assert "Took over the lock of a run that is gone: deploy by" in records.take(HERE, "rollback", TAGS)
    held = records.lock()
    assert held is not None
    assert held.run.id == "here"


@pytest.mark.parametrize("change", [{"boot": "another-boot"}, {"started": 1}])
def test_another_process_with_the_same_number_is_not_the_run(records: Records, change: dict[str, Any]) -> None:
    records.take(replace(HERE, id="dead", **change), "deploy", TAGS)
    assert "Took over" in records.take(HERE, "deploy", TAGS)


def test_another_hosts_lock_is_never_taken_over(records: Records) -> None:
    records.take(replace(HERE, id="far", host="elsewhere", pid=1), "deploy", TAGS)
    with pytest.raises(LockedError, match="on elsewhere.*unlock.yml -e confirm=far"):
        records.take(HERE, "deploy", TAGS)


def test_unlock_wants_the_run_that_is_shown(records: Records) -> None:
    params: dict[str, Any] = {"state": "free", "confirm": None, "note": {}}
    assert deploy_lock.keep(records, params, None, check_mode=False)["msg"] == "Nobody holds the lock."
    records.take(replace(HERE, id="far", host="elsewhere"), "deploy", TAGS)
    with pytest.raises(REFUSED, match="-e confirm=far"):
        deploy_lock.keep(records, params, None, check_mode=False)
    assert deploy_lock.keep(records, {**params, "confirm": "far"}, None, check_mode=True)["changed"]
    assert records.lock() is not None
    assert deploy_lock.keep(records, {**params, "confirm": "far"}, None, check_mode=False)["changed"]
    assert records.lock() is None


def test_check_mode_looks_only(records: Records) -> None:
    params: dict[str, Any] = {"state": "held", "action": "deploy", "tags": TAGS, "note": {}}
    assert deploy_lock.keep(records, params, HERE, check_mode=True)["msg"] == ""
    assert records.lock() is None
    records.take(replace(HERE, id="other"), "rollback", TAGS)
    assert "would have to wait" in deploy_lock.keep(records, params, HERE, check_mode=True)["msg"]


def test_without_the_callback_no_lock_is_taken(records: Records) -> None:
    params: dict[str, Any] = {"state": "held", "action": "deploy", "tags": TAGS, "note": {}}
    with pytest.raises(REFUSED, match="callbacks_enabled"):
        deploy_lock.keep(records, params, None, check_mode=False)
    assert records.lock() is None


def test_history_is_newest_first(records: Records) -> None:
    assert records.history() == []
    for number in range(60):
        records.write({"id": str(number), "message": "x"}, TAGS)
    assert [one["id"] for one in records.history()][:3] == ["59", "58", "57"]
    assert len(records.history()) == 60


@pytest.mark.parametrize("message", ["x" * 10_000, "한" * 10_000, "", None])
def test_a_record_fits_into_a_parameter(message: str | None) -> None:
    value = fitting({"id": "1", "note": "y" * 2000, "message": message})
    assert len(value.encode()) <= 4096
    assert ("message" in json.loads(value)) == bool(message)


def test_versions_are_good_or_void(cloud: ApiCloud) -> None:
    template = cloud.template()
    name = cloud.ec2.describe_launch_templates(LaunchTemplateIds=[template])["LaunchTemplates"][0]["LaunchTemplateName"]
    for _ in range(2):
        cloud.ec2.create_launch_template_version(LaunchTemplateId=template, SourceVersion="1", LaunchTemplateData={})

    def mark(*, check_mode: bool = False, **changes: list[int]) -> dict[str, Any]:
        wanted = {"good": [], "void": [], "unvoid": [], **changes}
        return fleet_versions.mark(cloud.ec2, name, wanted, check_mode=check_mode)

    assert mark(good=[1], check_mode=True)["changed"]
    assert mark()["good"] == []
    assert mark(good=[1])["changed"]
    assert not mark(good=[1])["changed"]
    assert mark(good=[2])["good"] == [1, 2]
    left = mark(void=[2])
    assert (left["good"], left["void"]) == ([1], [2])
    assert mark(unvoid=[2])["void"] == []
    assert (mark()["good"], mark()["void"]) == ([1], [])
    mark(void=[3])
    assert mark(good=[3])["void"] == []
    with pytest.raises(fleet_versions.NoSuchTemplateError, match="no version 9; its versions are 1 to 3"):
        mark(good=[9])


def test_marks_of_a_template_that_is_not_there(cloud: ApiCloud) -> None:
    nothing: dict[str, list[int]] = {"good": [], "void": [], "unvoid": []}
    assert fleet_versions.mark(cloud.ec2, "none", nothing, check_mode=False)["good"] == []
    with pytest.raises(fleet_versions.NoSuchTemplateError, match="site.yml"):
        fleet_versions.mark(cloud.ec2, "none", {**nothing, "good": [1]}, check_mode=False)


PLAY = """
- hosts: localhost
  gather_facts: false
  module_defaults:
    deploy_lock:
      {region: ap-northeast-2, endpoint_url: "%s", access_key: AKIALOCALCLOUD000000, secret_key: not-to-be-told}
  tasks:
    - deploy_lock: {project: memo-server, action: deploy, tags: {Project: memo-server}}
    - deploy_lock: {project: memo-server, state: noted, note: {version: "7", previous: "6"}}
    - ansible.builtin.command: {cmd: "true"}
      when: change is defined
    - ansible.builtin.shell: {cmd: "while test -e {{ wait }}; do sleep 0.2; done"}
      when: wait is defined
    - ansible.builtin.fail: {msg: "{{ bad }}"}
      when: bad is defined
    - ansible.builtin.fail: {msg: "hidden: {{ secret }}"}
      no_log: true
      when: secret is defined
"""


def play(cloud: ApiCloud, folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start a run that takes the lock, as a playbook of the project does."""
    playbook = folder / "play.yml"
    playbook.write_text(PLAY % cloud.plane.url, encoding="utf-8")
    return subprocess.Popen(
        [str(Path(sys.executable).parent / "ansible-playbook"), "-i", "localhost,", str(playbook), *arguments],
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_LOCALHOST_WARNING": "false"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finished(process: subprocess.Popen[str]) -> tuple[int, str]:
    output, _ = process.communicate(timeout=120)
    return process.returncode, " ".join(output.split())


def test_a_run_frees_the_lock_and_leaves_a_record(cloud: ApiCloud, records: Records, tmp_path: Path) -> None:
    status, output = finished(play(cloud, tmp_path, "-e", "change=1"))
    assert status == 0, output
    assert records.lock() is None
    (record,) = records.history()
    assert (record["action"], record["result"], record["version"], record["previous"]) == ("deploy", "ok", "7", "6")
    status, _ = finished(play(cloud, tmp_path))
    assert status == 0
    assert len(records.history()) == 1, "a run that changed nothing leaves no record"
    assert finished(play(cloud, tmp_path, "--check", "-e", "change=1"))[0] == 0
    assert len(records.history()) == 1


def test_a_failed_run_tells_why_and_keeps_secrets(cloud: ApiCloud, records: Records, tmp_path: Path) -> None:
    assert finished(play(cloud, tmp_path, "-e", "bad=broken"))[0] != 0
    assert records.lock() is None
    (record,) = records.history()
    assert (record["result"], record["message"]) == ("failed", "broken")
    assert finished(play(cloud, tmp_path, "-e", "secret=s3cret"))[0] != 0
    stored = json.dumps(records.history())
    assert "s3cret" not in stored
    assert "not-to-be-told" not in stored
    assert "no_log" in records.history()[0]["message"]


def test_two_runs_at_once_and_a_killed_one(cloud: ApiCloud, records: Records, tmp_path: Path) -> None:
    under_way = tmp_path / "under-way"
    under_way.touch()
    first = play(cloud, tmp_path, "-e", f"wait={under_way}")
    try:
        deadline = time.monotonic() + 60
        while records.lock() is None:
            assert time.monotonic() < deadline, "the first run never took the lock"
            assert first.poll() is None, "the first run ended early"
        status, output = finished(play(cloud, tmp_path))
        assert status != 0
        assert "Another run is at work on memo-server: deploy by" in output
        assert records.lock() is not None, "the refused run must not free the other's lock"
    finally:
        os.killpg(first.pid, signal.SIGKILL)
        # What it has started may be in a session of its own, and ends by itself.
        under_way.unlink()
        first.communicate(timeout=60)
    status, output = finished(play(cloud, tmp_path))
    assert status == 0, output
    assert "Took over the lock of a run that is gone" in output
    assert records.lock() is None
