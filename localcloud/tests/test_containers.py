"""How a container is started again: podman is a list of calls here, its monitor a real process."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from localcloud import containers
from localcloud.engine import EngineError

ID = "4bea47118404c3dd"


class FakePodman:
    """What `boot` asks podman; the container's first process is this one."""

    def __init__(self, folder: Path) -> None:
        self.calls: list[str] = []
        self.monitor = folder / "conmon.pid"
        self.status = "exited"

    def __call__(self, *args: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        answer = ""
        if args[:2] == ("container", "inspect"):
            values = {"{{.State.Status}}": self.status, "{{.State.Pid}}": str(os.getpid()), "{{.Id}}": ID}
            values["{{.ConmonPidFile}}"] = str(self.monitor)
            answer = args[2].removeprefix("--format=")
            for name, value in values.items():
                answer = answer.replace(name, value)
        else:
            self.calls.append(args[-2])
        return subprocess.CompletedProcess(args, 0, answer + "\n", "")


@pytest.fixture
def podman(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakePodman:
    fake = FakePodman(tmp_path)
    monkeypatch.setattr(containers, "podman", fake)
    monkeypatch.setattr(containers, "run", lambda *_: None)
    monkeypatch.setattr(containers, "hide_host_devices", lambda _: None)
    monkeypatch.setattr(containers, "RUN_ROOT", tmp_path)
    return fake


@pytest.fixture
def monitor(podman: FakePodman) -> Iterator[subprocess.Popen[bytes]]:
    """A process as conmon is one: it has the container's id among its arguments, and ends when all is cleaned up."""
    process = subprocess.Popen([sys.executable, "-c", "input()", "-c", ID], stdin=subprocess.PIPE)
    # For a moment a process that is just being executed has no arguments.
    deadline = time.monotonic() + 10
    while ID.encode() not in Path(f"/proc/{process.pid}/cmdline").read_bytes():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    podman.monitor.write_text(f"{process.pid}", encoding="ascii")
    yield process
    process.kill()
    process.communicate()


def test_a_boot_waits_for_the_clean_up_after_the_last_end(podman: FakePodman, monitor: subprocess.Popen[bytes]) -> None:
    booting = threading.Thread(target=containers.boot, args=["one", {}])
    booting.start()
    booting.join(0.5)
    assert booting.is_alive()
    assert podman.calls == []
    monitor.communicate(b"\n")
    booting.join(60)
    assert podman.calls == ["init", "start"]


def test_a_clean_up_without_end_is_said(
    podman: FakePodman, monitor: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(containers, "_CLEAN_UP_SECONDS", 0.1)
    with pytest.raises(EngineError, match=f"still cleaning up after one; see: ps -fp {monitor.pid}"):
        containers.boot("one", {})
    assert podman.calls == []


@pytest.mark.parametrize("process", ["the test's own", "gone", "never written"])
def test_a_process_that_is_not_the_monitor_is_not_waited_for(podman: FakePodman, process: str) -> None:
    if process == "the test's own":
        podman.monitor.write_text(f"{os.getpid()}", encoding="ascii")
    elif process == "gone":
        with subprocess.Popen(["true"]) as ended:
            ended.wait()
        podman.monitor.write_text(f"{ended.pid}", encoding="ascii")
    containers.boot("one", {})
    assert podman.calls == ["init", "start"]


def test_what_a_broken_off_boot_has_made_is_undone_first(podman: FakePodman, monitor: subprocess.Popen[bytes]) -> None:
    podman.status = "initialized"
    monitor.communicate(b"\n")
    containers.boot("one", {})
    assert podman.calls == ["cleanup", "init", "start"]


def test_a_boot_that_is_under_way_is_not_undone(
    podman: FakePodman, tmp_path: Path, monitor: subprocess.Popen[bytes]
) -> None:
    podman.status = "initialized"
    with (tmp_path / ".boot.lock").open("a", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        second = threading.Thread(target=containers.boot, args=["one", {}])
        second.start()
        second.join(0.3)
        assert second.is_alive()
        podman.status = "running"
    second.join(60)
    assert podman.calls == []
    assert monitor.poll() is None


def test_one_that_runs_is_left_alone(podman: FakePodman, monitor: subprocess.Popen[bytes]) -> None:
    podman.status = "running"
    containers.boot("one", {})
    assert podman.calls == []
    assert monitor.poll() is None
