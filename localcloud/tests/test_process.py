"""The daemon as a process, with a small program in its place."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from localcloud import process, settings
from localcloud.settings import CloudSettings

STAND_IN = """
import fcntl, os, signal, sys, time
file = open(sys.argv[1], "a+")
fcntl.flock(file, fcntl.LOCK_EX)
file.write(f"{os.getpid()}\\n")
file.flush()
if sys.argv[2] == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
time.sleep(60)
"""


@pytest.fixture
def cloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CloudSettings:
    monkeypatch.setattr(settings, "RUN_ROOT", tmp_path)
    cloud = CloudSettings(name="one")
    cloud.save()
    return cloud


@pytest.fixture
def started(cloud: CloudSettings, request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[bytes]]:
    kind = getattr(request, "param", "kind")
    child = subprocess.Popen(
        [sys.executable, "-c", STAND_IN, str(process.Files.of(cloud).pid), kind], stdout=subprocess.PIPE
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"ready\n"
    yield child
    child.kill()
    child.wait()
    child.stdout.close()


def test_nobody_runs(cloud: CloudSettings) -> None:
    assert process.running_pid(cloud) is None
    assert process.stop(cloud) == []


def test_a_pid_file_of_a_dead_process_names_nobody(cloud: CloudSettings) -> None:
    process.Files.of(cloud).pid.write_text(f"{os.getpid()}\n", encoding="ascii")
    assert process.running_pid(cloud) is None


def test_found_and_stopped(cloud: CloudSettings, started: subprocess.Popen[bytes]) -> None:
    assert process.running_pid(cloud) == started.pid
    assert process.stop(cloud) == [started.pid]
    assert started.wait(5) == -signal.SIGTERM


@pytest.mark.parametrize("started", ["stubborn"], indirect=True)
def test_one_that_does_not_listen_is_killed(
    cloud: CloudSettings, started: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "_STOP_TIMEOUT", 0.5)
    began = time.monotonic()
    assert process.stop(cloud) == [started.pid]
    assert started.wait(5) == -signal.SIGKILL
    # Kindly first: it had its time.
    assert time.monotonic() - began >= 0.5


def test_a_daemon_that_ends_at_once_shows_its_words(cloud: CloudSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    process.Files.of(cloud).log.write_text("ERROR the port is taken\n", encoding="utf-8")
    with pytest.raises(process.DaemonError, match="ended at once:\nERROR the port is taken"):
        process.spawn(cloud, print)


def test_one_that_has_not_locked_its_pid_file_yet_is_found_too(cloud: CloudSettings, tmp_path: Path) -> None:
    (tmp_path / "localcloud.py").write_text("import time\ntime.sleep(60)\n", encoding="utf-8")
    with subprocess.Popen([sys.executable, *process._command(cloud)], cwd=tmp_path) as child:
        deadline = time.monotonic() + 60
        while not process._by_command_line(cloud) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert process.stop(cloud) == [child.pid]
