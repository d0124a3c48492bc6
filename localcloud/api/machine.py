"""What the control plane asks of the machine while a call waits; everything else goes through the reconcile loop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from localcloud.model import InstanceState, TargetHealth


class MachineError(RuntimeError):
    """The machine could not do what a call needs; the text says what went wrong."""


class BaseImageRecord(Protocol):
    """The base image as it is registered: what the image is made of and what it is called."""

    @property
    def ami_id(self) -> str:
        """The fixed id derived from the image's content, `ami-` and 17 hexadecimal digits."""

    @property
    def name(self) -> str:
        """Debian's naming, `debian-13-amd64-YYYYMMDD-NNNN`."""

    @property
    def creation_date(self) -> str:
        """ISO 8601 in UTC, e.g. `2026-11-20T00:00:00.000Z`."""


class Machine(Protocol):
    """The side of the machine that API calls wait for. Called without the control plane's lock, unless said so."""

    def commit_image(self, instance_id: str, image_id: str, *, stop: bool) -> None:
        """Make an image of an instance's root disk; `stop` for a reboot around it (CreateImage without NoReboot).

        Raises:
            MachineError: nothing was kept.
        """

    def remove_image(self, image_id: str) -> None:
        """Forget a committed image; no error when there is none."""

    def create_snapshot(self, snapshot_id: str, volume_id: str) -> None:
        """Copy a volume's content.

        Raises:
            MachineError: nothing was kept.
        """

    def remove_snapshot(self, snapshot_id: str) -> None:
        """Forget a snapshot's content; no error when there is none."""

    def target_health(self, target_group_arn: str) -> dict[str, TargetHealth]:
        """What the probes saw, by `TARGET_ID:PORT`; targets never probed are left out. Called with the lock held."""

    def console(self, instance_id: str) -> str:
        """What the instance wrote to its console."""


@dataclass(frozen=True)
class StandInImage:
    """A base image that is only a name, for runs without a machine."""

    ami_id: str = "ami-0deb1a13000000000"
    name: str = "debian-13-amd64-20261101-2000"
    creation_date: str = "2026-11-01T00:00:00.000Z"


AT_ONCE = {
    InstanceState.PENDING: InstanceState.RUNNING,
    InstanceState.STOPPING: InstanceState.STOPPED,
    InstanceState.SHUTTING_DOWN: InstanceState.TERMINATED,
}
"""Where an instance's state leads when there is no machine that takes its time."""


class NoMachine:
    """A machine that has no hosts: for tests of the API alone. It keeps what it was asked for in `calls`."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, ...]] = []
        self.health: dict[str, dict[str, TargetHealth]] = {}

    def commit_image(self, instance_id: str, image_id: str, *, stop: bool) -> None:
        """Note the request."""
        self.calls.append(("commit_image", instance_id, image_id, "stop" if stop else "live"))

    def remove_image(self, image_id: str) -> None:
        """Note the request."""
        self.calls.append(("remove_image", image_id))

    def create_snapshot(self, snapshot_id: str, volume_id: str) -> None:
        """Note the request."""
        self.calls.append(("create_snapshot", snapshot_id, volume_id))

    def remove_snapshot(self, snapshot_id: str) -> None:
        """Note the request."""
        self.calls.append(("remove_snapshot", snapshot_id))

    def target_health(self, target_group_arn: str) -> dict[str, TargetHealth]:
        """Return what the test put into `health`."""
        return self.health.get(target_group_arn, {})

    def console(self, instance_id: str) -> str:
        """Return nothing: there is no console."""
        return ""
