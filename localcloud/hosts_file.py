"""The load balancers' names in /etc/hosts, each line marked with the cloud it belongs to."""

from __future__ import annotations

import fcntl
from collections.abc import Mapping
from pathlib import Path

from localcloud.settings import CloudSettings

HOSTS_FILE = Path("/etc/hosts")


class HostsFile:
    """The lines of one cloud.

    Args:
        settings: of the cloud.
        path: replaced in tests.
    """

    def __init__(self, settings: CloudSettings, path: Path = HOSTS_FILE) -> None:
        self._path = path
        self._mark = f"# localcloud {settings.name}"
        self._applied: dict[str, str] | None = None

    def apply(self, names: Mapping[str, str]) -> None:
        """Make the cloud's lines these names, each with its address, and leave all others alone."""
        if dict(names) != self._applied:
            self._write([f"{address} {name} {self._mark}" for name, address in sorted(names.items())])
            self._applied = dict(names)

    def remove(self) -> int:
        """Take the cloud's lines out.

        Returns:
            How many there were.
        """
        self._applied = None
        return self._write([])

    def _write(self, lines: list[str]) -> int:
        # In place and under a lock: the file may be a bind mount, and another cloud may write as well.
        with self._path.open("r+", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            before = file.read().splitlines()
            others = [line for line in before if not line.endswith(self._mark)]
            after = [*others, *lines]
            if after != before:
                file.seek(0)
                file.write("\n".join(after) + "\n")
                file.truncate()
            return len(before) - len(others)
