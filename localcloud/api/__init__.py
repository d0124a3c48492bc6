"""The AWS API of one local cloud: moto in process, corrected where it is unlike AWS."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from localcloud.api import access, ec2, registry, services
from localcloud.api.asg_records import Group
from localcloud.api.machine import BaseImageRecord, Machine, MachineError, NoMachine, StandInImage
from localcloud.api.metric_records import Metrics
from localcloud.api.registry import AwsError
from localcloud.api.server import Application, Server
from localcloud.api.services import SERVICES

if TYPE_CHECKING:
    from localcloud.settings import CloudSettings

__all__ = [
    "SERVICES",
    "AwsError",
    "BaseImageRecord",
    "ControlPlane",
    "Machine",
    "MachineError",
    "NoMachine",
    "StandInImage",
]


class ControlPlane:
    """The API's records and the server that changes them.

    `lock` guards every record: the server holds it around each call, `state` and `groups` while they read or write.
    `reboots` holds the instances that RebootInstances was called for, `busy` those whose image is being made.
    `clock` is for durations, in seconds from any moment; `time` for metrics, in seconds since 1970.

    Args:
        settings: the cloud.
        base: the image that is there from the start.
        machine: what calls wait for.
        host: address to listen on; the bridge's own when not given.
        port: TCP port; the settings' when not given, 0 for any free one.

    Raises:
        RuntimeError: another control plane runs in this process (moto's records are global to it).
    """

    def __init__(
        self,
        settings: CloudSettings,
        base: BaseImageRecord,
        machine: Machine,
        *,
        host: str | None = None,
        port: int | None = None,
    ) -> None:
        self.settings = settings
        self.base = base
        self.machine = machine
        self.lock = threading.RLock()
        self.reboots: set[str] = set()
        self.busy: set[str] = set()
        self.groups: dict[str, Group] = {}
        self.metrics = Metrics()
        self.clock: Callable[[], float] = time.monotonic
        self.time: Callable[[], float] = time.time
        self.credentials = access.CredentialStore(self)
        self._host = host or settings.gateway
        self._port = settings.api_port if port is None else port
        self._server: Server | None = None
        registry.activate(self)
        services.install()
        with self.lock:
            services.forget_everything()
            ec2.furnish(self)

    @property
    def url(self) -> str:
        """The endpoint, once started."""
        return f"http://{self._host}:{self._server.port if self._server else self._port}"

    @contextmanager
    def unlocked(self) -> Iterator[None]:
        """Let other calls in while this one, which holds the lock once, waits for the machine."""
        self.lock.release()
        try:
            yield
        finally:
            self.lock.acquire()

    def start(self) -> None:
        """Begin to answer calls.

        Raises:
            OSError: the address or port cannot be had.
        """
        self._server = Server(Application(self, SERVICES), self._host, self._port)
        self._server.start()

    def stop(self) -> None:
        """Stop answering; the records are gone afterwards."""
        if self._server is not None:
            self._server.stop()
            self._server = None
        services.forget_everything()
        registry.activate(None)
