"""The daemon as a process: started, found and ended by its pid file."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from localcloud.settings import CloudSettings

_START_TIMEOUT = 90.0
_STOP_TIMEOUT = 30.0
_POLL = 0.2
_STALE_SECONDS = 30

Report = Callable[[str], None]


class DaemonError(RuntimeError):
    """The daemon did not start or did not stop; the text says why."""


@dataclass(frozen=True)
class Files:
    """The daemon's files in a cloud's run directory."""

    pid: Path
    log: Path
    output: Path
    status: Path

    @classmethod
    def of(cls, settings: CloudSettings) -> Files:
        """Those of one cloud."""
        run = settings.run_dir
        return cls(run / "daemon.pid", run / "daemon.log", run / "daemon.out", run / "status.json")


def running_pid(settings: CloudSettings) -> int | None:
    """The daemon's process id, or None when it does not run.

    The pid file is locked for as long as its process lives, so a number that was given to another
    program in the meantime is not taken for ours.
    """
    path = Files.of(settings).pid
    try:
        with path.open("r", encoding="ascii") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return int(file.read().strip() or 0) or None
    except FileNotFoundError:
        return None
    return None


def read_status(settings: CloudSettings) -> dict[str, Any]:
    """What the daemon last wrote about itself; empty before its first pass."""
    try:
        status: dict[str, Any] = json.loads(Files.of(settings).status.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return status


def is_stale(settings: CloudSettings) -> bool:
    """Whether the daemon has not finished a pass of its loop for a while."""
    return time.time() - float(read_status(settings).get("beat", 0)) > _STALE_SECONDS


def spawn(settings: CloudSettings, report: Report) -> None:
    """Start the daemon in a session of its own and wait until it answers.

    Args:
        settings: of the cloud; saved for later commands.
        report: told what is being waited for.

    Raises:
        DaemonError: it ended or did not answer; the text has the end of its log.
    """
    settings.save()
    files = Files.of(settings)
    package_root = str(Path(__file__).resolve().parent.parent)
    with files.output.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, *_command(settings)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd="/",
            env={**os.environ, "PYTHONPATH": package_root, "PYTHONDONTWRITEBYTECODE": "1"},
            start_new_session=True,
        )
    began = time.monotonic()
    shown = 0.0
    while time.monotonic() - began < _START_TIMEOUT:
        if process.poll() is not None:
            raise DaemonError(f"the local cloud's daemon ended at once:\n{_last_lines(files)}")
        if read_status(settings).get("passes", 0) > 0:
            return
        if time.monotonic() - began - shown >= 5:
            shown = time.monotonic() - began
            report(f"waiting for the daemon: {shown:.0f} s")
        time.sleep(_POLL)
    process.terminate()
    raise DaemonError(f"the local cloud's daemon did not answer within {_START_TIMEOUT:.0f} s:\n{_last_lines(files)}")


def stop(settings: CloudSettings) -> list[int]:
    """End the daemon, kindly first; also one that has not come far enough to lock its pid file.

    Returns:
        The process ids that were ended.
    """
    locked = running_pid(settings)
    pids = sorted({*_by_command_line(settings), *([locked] if locked is not None else [])})
    for pid in pids:
        _end(pid)
    return pids


def _command(settings: CloudSettings) -> list[str]:
    return ["-m", "localcloud", "daemon", "--name", settings.name]


def _by_command_line(settings: CloudSettings) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                arguments = (entry / "cmdline").read_bytes().decode("utf-8", "replace").split("\0")[:-1]
                if arguments[1:] == _command(settings):
                    found.append(int(entry.name))
    return found


def _end(pid: int) -> None:
    with contextlib.ExitStack() as stack:
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        stack.callback(os.close, descriptor)
        ended = select.poll()
        ended.register(descriptor, select.POLLIN)
        signal.pidfd_send_signal(descriptor, signal.SIGTERM)
        if not ended.poll(_STOP_TIMEOUT * 1000):
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            ended.poll()


def _last_lines(files: Files, count: int = 15) -> str:
    lines: list[str] = []
    for path in (files.log, files.output):
        if path.exists():
            lines += path.read_text(encoding="utf-8", errors="replace").splitlines()[-count:]
    return "\n".join(lines) or "(it logged nothing)"
