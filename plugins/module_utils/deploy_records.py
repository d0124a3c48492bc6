"""Who changes the fleet, and who did: a lock and an audit trail in SSM Parameter Store.

The lock is one parameter that PutParameter creates or refuses to, which is atomic; the trail is one parameter whose
versions are its records: Parameter Store keeps 100 of them, with who wrote them and when (SSM API Reference,
"PutParameter", "GetParameterHistory").
"""

from __future__ import annotations

import fcntl
import getpass
import json
import os
import platform
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

RUN_VARIABLE = "MEMO_SERVER_RUN"
"""The environment variable by which the callback plugin tells the modules which run of Ansible they belong to."""

_MOST_BYTES = 4096
"""A standard parameter's value (SSM API Reference, "PutParameter")."""
_MESSAGE_CHARACTERS = 500
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class LockedError(Exception):
    """Somebody else is at work; the text says who, and what to do."""


@dataclass(frozen=True)
class Run:
    """A run of Ansible: its own id, and the process on its host by which others can tell whether it still lives."""

    id: str
    host: str
    boot: str
    pid: int
    started: int

    @classmethod
    def of_this_process(cls, run_id: str) -> Run:
        """Describe the run whose main process this is."""
        return cls(run_id, platform.node(), _boot(), os.getpid(), _started(os.getpid()) or 0)

    @classmethod
    def from_environment(cls) -> Run | None:
        """Return the run that this process works for, None outside of one."""
        text = os.environ.get(RUN_VARIABLE)
        return cls(**json.loads(text)) if text else None

    def to_environment(self) -> None:
        """Tell the processes that this one starts."""
        os.environ[RUN_VARIABLE] = json.dumps(asdict(self))

    def lives(self) -> bool | None:
        """Whether the run goes on; None when that cannot be told from this host."""
        if self.host != platform.node():
            return None
        return self.boot == _boot() and self.started == _started(self.pid)


@dataclass(frozen=True)
class Lock:
    """What the lock's parameter says."""

    action: str
    user: str
    since: datetime
    run: Run

    def told(self, now: datetime) -> str:
        """Say who holds it: `a deploy of alice on laptop since 12:01 UTC (43 min)`."""
        minutes = int((now - self.since).total_seconds() // 60)
        return f"{self.action} by {self.user} on {self.run.host} since {self.since:%Y-%m-%d %H:%M} UTC ({minutes} min)"

    def described(self) -> dict[str, Any]:
        """Return the lock as a module's result has it."""
        return {
            "id": self.run.id,
            "action": self.action,
            "user": self.user,
            "host": self.run.host,
            "since": self.since.isoformat(timespec="seconds"),
        }


@dataclass
class Records:
    """The lock and the trail of one project.

    Args:
        ssm: an SSM client.
        project: the project's name, first part of the parameters' names.
    """

    ssm: Any
    project: str

    @property
    def lock_name(self) -> str:
        """The lock's parameter."""
        return f"/{self.project}/deploy/lock"

    @property
    def history_name(self) -> str:
        """The trail's parameter."""
        return f"/{self.project}/deploy/history"

    def lock(self) -> Lock | None:
        """Return the lock as it is, None when nobody holds it."""
        try:
            value = self.ssm.get_parameter(Name=self.lock_name)["Parameter"]["Value"]
        except self.ssm.exceptions.ParameterNotFound:
            return None
        said = json.loads(value)
        return Lock(said["action"], said["user"], datetime.fromisoformat(said["since"]), Run(**said["run"]))

    def take(self, run: Run, action: str, tags: dict[str, str], now: datetime | None = None) -> str:
        """Take the lock.

        Args:
            run: who asks. That a run takes it twice is fine.
            action: what for.
            tags: the parameter's tags.
            now: aware; the present when left out.

        Returns:
            What there is to say about it: empty, or that a dead run's lock was taken over.

        Raises:
            LockedError: somebody else has it.
        """
        now = now or datetime.now(UTC)
        wanted = {"action": action, "user": getpass.getuser(), "since": now.isoformat(), "run": asdict(run)}
        said = ""
        # Two runs on this host may find the same dead run: one after the other. Other hosts never take over.
        with _alone(self.project):
            for _ in range(2):
                try:
                    self.ssm.put_parameter(
                        Name=self.lock_name,
                        Value=json.dumps(wanted),
                        Type="String",
                        Overwrite=False,
                        Tags=[{"Key": key, "Value": value} for key, value in tags.items()],
                    )
                except self.ssm.exceptions.ParameterAlreadyExists:
                    held = self.lock()
                else:
                    return said
                if held is None:
                    continue
                if held.run.id == run.id:
                    return said
                if held.run.lives() is not False:
                    break
                said = f"Took over the lock of a run that is gone: {held.told(now)}."
                self.release(held.run.id)
        held = self.lock()
        raise LockedError(self._refusal(held, now) if held else "Somebody took and freed the lock just now: try again.")

    def release(self, run_id: str) -> bool:
        """Free the lock if this run holds it.

        Returns:
            Whether it did.
        """
        held = self.lock()
        if held is None or held.run.id != run_id:
            return False
        try:
            self.ssm.delete_parameter(Name=self.lock_name)
        except self.ssm.exceptions.ParameterNotFound:
            return False
        return True

    def write(self, record: dict[str, Any], tags: dict[str, str]) -> None:
        """Add a record to the trail.

        Args:
            record: anything JSON can hold; `message` is shortened where the whole would be too long.
            tags: the parameter's tags.
        """
        value = fitting(record)
        try:
            # Tags are for new parameters only ("PutParameter").
            self.ssm.put_parameter(
                Name=self.history_name,
                Value=value,
                Type="String",
                Overwrite=False,
                Tags=[{"Key": key, "Value": tag} for key, tag in tags.items()],
            )
        except self.ssm.exceptions.ParameterAlreadyExists:
            self.ssm.put_parameter(Name=self.history_name, Value=value, Type="String", Overwrite=True)

    def history(self) -> list[dict[str, Any]]:
        """Return the records, newest first."""
        wanted: dict[str, Any] = {"Name": self.history_name}
        found: list[dict[str, Any]] = []
        while True:
            try:
                answer = self.ssm.get_parameter_history(**wanted)
            except self.ssm.exceptions.ParameterNotFound:
                return []
            found += answer["Parameters"]
            if not answer.get("NextToken"):
                break
            wanted["NextToken"] = answer["NextToken"]
        found.sort(key=lambda one: int(one["Version"]), reverse=True)
        return [json.loads(one["Value"]) for one in found]

    def _refusal(self, held: Lock, now: datetime) -> str:
        text = f"Another run is at work on {self.project}: {held.told(now)}. Wait for it."
        if held.run.lives() is None:
            text += " If it is dead for sure, free the lock with: "
            text += f"ansible-playbook playbooks/unlock.yml -e confirm={held.run.id}"
        return text


def fitting(record: dict[str, Any]) -> str:
    """Write a record as JSON that a parameter can hold: UTF-8, its message shortened as far as needed."""
    message = str(record.get("message") or "")[:_MESSAGE_CHARACTERS]
    while True:
        whole = {**record, "message": message} if message else {key: record[key] for key in record if key != "message"}
        value = json.dumps(whole, ensure_ascii=False)
        if len(value.encode()) <= _MOST_BYTES or not message:
            return value
        message = message[: len(message) // 2]


@contextmanager
def _alone(project: str) -> Iterator[None]:
    path = Path(tempfile.gettempdir()) / f"{project}-lock-{os.getuid()}"
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _boot() -> str:
    return _BOOT_ID.read_text(encoding="ascii").strip() if _BOOT_ID.exists() else ""


def _started(pid: int) -> int | None:
    """When a process started, in clock ticks since boot (proc(5), field 22 of `stat`); None when there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text.rpartition(")")[2].split()
    # A zombie has ended; only its parent has not looked yet.
    return None if fields[0] == "Z" else int(fields[19])
