"""The loop that makes the machine what the API's records say: what should be, what is, one step closer."""

from __future__ import annotations

import functools
import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from localcloud.engine import EngineError
from localcloud.jobs import Jobs
from localcloud.model import (
    ActualInstance,
    DesiredInstance,
    DesiredLoadBalancer,
    DesiredTargetGroup,
    Firewall,
    InstanceState,
)

logger = logging.getLogger(__name__)

INTERVAL = 0.5
"""Seconds between the beginnings of two passes where nothing has happened that calls for one at once."""

_BROKEN_HOST_CODE = "Server.InternalError"
_SHUT_ITSELF_DOWN = "Client.InstanceInitiatedShutdown: Instance initiated shutdown"
_QUIET_INTERVAL = 2.0
_MOST_ERRORS = 20
_LONGEST_PAUSE = 30.0


class DesiredVolume(Protocol):
    """A volume as the API has it."""

    @property
    def size_gib(self) -> int:
        """Its size."""

    @property
    def snapshot_id(self) -> str | None:
        """What it starts as a copy of."""


class State(Protocol):
    """The API's records. Called with the control plane's lock held."""

    def instances(self) -> dict[str, DesiredInstance]:
        """Every instance that is not terminated."""

    def mark(self, instance_id: str, state: InstanceState, reason: str | None = None) -> None:
        """Write down what an instance has become."""

    def pop_reboots(self) -> set[str]:
        """Take the reboots that were asked for."""

    def volumes(self) -> Mapping[str, DesiredVolume]:
        """Every volume."""

    def firewalls(self) -> dict[str, Firewall]:
        """Every address, load balancers' too, with what it may receive and send."""

    def busy(self) -> set[str]:
        """The instances whose image is being made."""

    def end_drains(self) -> None:
        """Forget the draining targets that the balancer is done with."""

    def load_balancers(self) -> dict[str, DesiredLoadBalancer]:
        """Every load balancer by ARN."""

    def target_groups(self) -> dict[str, DesiredTargetGroup]:
        """Every target group by ARN."""


class Groups(Protocol):
    """Auto Scaling. Called with the control plane's lock held."""

    def step(self) -> None:
        """One pass over all groups."""


class Monitor(Protocol):
    """Metrics and the alarms on them."""

    def step(self) -> None:
        """Look how much the instances do; takes the control plane's lock."""


class Hosts(Protocol):
    """The containers."""

    def launch(self, instance: DesiredInstance, firewall: Firewall) -> None:
        """Make and start one."""

    def start(self, instance_id: str) -> None:
        """Start a stopped one."""

    def stop(self, instance_id: str) -> None:
        """Shut one down; its disk stays."""

    def reboot(self, instance_id: str) -> None:
        """Shut one down and start it."""

    def terminate(self, instance_id: str) -> None:
        """Remove one with its disk and network."""

    def actual(self) -> dict[str, ActualInstance]:
        """What there is."""

    def is_up(self, instance_id: str) -> bool:
        """Whether it has booted."""


class Network(Protocol):
    """Packet filters."""

    def set_guest_firewall(self, instance_id: str, firewall: Firewall) -> None:
        """Replace an instance's filter."""

    def set_address_firewall(self, ip: str, firewall: Firewall) -> None:
        """Replace the filter of a load balancer's address."""


class Volumes(Protocol):
    """Block devices."""

    def create(self, volume_id: str, size_gib: int, snapshot_id: str | None) -> None:
        """Make one."""

    def delete(self, volume_id: str) -> None:
        """Remove one."""

    def known(self) -> set[str]:
        """The volumes there are."""

    def attach(self, instance_id: str, volume_id: str, device: str) -> None:
        """Give one to an instance."""

    def detach(self, instance_id: str, volume_id: str) -> None:
        """Take it away."""

    def attached(self, instance_id: str) -> dict[str, str]:
        """Device to volume id."""


class Balancer(Protocol):
    """Load balancers."""

    def apply(self, load_balancers: Iterable[DesiredLoadBalancer], target_groups: Iterable[DesiredTargetGroup]) -> None:
        """One step."""


class HostsFile(Protocol):
    """Names for the host."""

    def apply(self, names: Mapping[str, str]) -> None:
        """Set the cloud's names, each with its address."""


@dataclass(frozen=True)
class Parts:
    """Everything the loop drives."""

    state: State
    groups: Groups
    hosts: Hosts
    network: Network
    volumes: Volumes
    balancer: Balancer
    hosts_file: HostsFile
    monitor: Monitor


@dataclass(frozen=True)
class Snapshot:
    """What should be, read in one go under the lock."""

    instances: dict[str, DesiredInstance]
    reboots: set[str]
    volumes: Mapping[str, DesiredVolume]
    firewalls: dict[str, Firewall]
    load_balancers: list[DesiredLoadBalancer]
    target_groups: list[DesiredTargetGroup]


@dataclass(frozen=True)
class Trouble:
    """Something that went wrong, for `status`."""

    at: datetime
    where: str
    text: str


@dataclass(frozen=True)
class Retry:
    """When a job that failed may be tried again (monotonic seconds), and how long that pause is."""

    at: float = 0.0
    pause: float = 0.5


class Reconciler:
    """Runs passes until it is stopped.

    Args:
        lock: the control plane's; held only while records are read or written.
        parts: what it drives.
        errors: what the parts raise when the machine refuses; reported, and tried again in the next pass.
        beat: called after every pass, for the status file.
        wake: set by whoever wants the next pass at once.
        clock: seconds, monotonic; by it looks become due and what failed is tried again. Replaced in tests.
    """

    def __init__(
        self,
        lock: threading.RLock,
        parts: Parts,
        errors: tuple[type[Exception], ...] = (EngineError, OSError),
        beat: Callable[[], None] = lambda: None,
        wake: threading.Event | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._lock = lock
        self._clock = clock
        self._parts = parts
        self._errors = errors
        self._beat = beat
        self._stopping = False
        self._wake = wake or threading.Event()
        self._thread: threading.Thread | None = None
        self._firewalls: dict[str, Firewall] = {}
        self._reboots: set[str] = set()
        self._retries: dict[str, Retry] = {}
        self._actual: dict[str, ActualInstance] = {}
        self._looked = -_QUIET_INTERVAL
        self._urged = -_QUIET_INTERVAL
        self._busy_before = False
        self._troubles: list[Trouble] = []
        self.jobs = Jobs(errors, ended=self._wake.set)
        self.passes = 0
        self.slowest = 0.0

    @property
    def troubles(self) -> list[Trouble]:
        """The latest things that went wrong, oldest first."""
        return list(self._troubles)

    def start(self) -> None:
        """Begin."""
        self._thread = threading.Thread(target=self._run, name="reconcile", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End after the pass and the jobs that are under way."""
        self._stopping = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
        self.jobs.stop()

    def look_now(self) -> None:
        """Look at the machine at once, and in every pass for a while: something has just happened there.

        Podman may call a container running for some milliseconds after its last process has ended.
        """
        self._urged = self._clock()
        self._wake.set()

    def _run(self) -> None:
        while not self._stopping:
            began = time.monotonic()
            self._wake.clear()
            try:
                self.step()
            except Exception as error:  # the loop outlives any bug in a pass, and says so in `status`
                logger.exception("a pass of the reconcile loop broke")
                self.report("reconcile", f"{type(error).__name__}: {error}")
            self.passes += 1
            took = time.monotonic() - began
            self.slowest = max(self.slowest, took)
            self._beat()
            self._wake.wait(max(0.05, INTERVAL - took))

    def report(self, where: str, text: str) -> None:
        """Keep a trouble for `status`; the same one in a row only moves its time."""
        trouble = Trouble(datetime.now(UTC), where, text)
        if self._troubles and (self._troubles[-1].where, self._troubles[-1].text) == (where, text):
            self._troubles[-1] = trouble
        else:
            self._troubles = [*self._troubles, trouble][-_MOST_ERRORS:]

    def step(self) -> None:
        """One pass."""
        parts = self._parts
        with self._lock:
            parts.state.end_drains()
            parts.groups.step()
            desired = Snapshot(
                parts.state.instances(),
                parts.state.pop_reboots(),
                parts.state.volumes(),
                parts.state.firewalls(),
                list(parts.state.load_balancers().values()),
                list(parts.state.target_groups().values()),
            )
            busy = self.jobs.busy | parts.state.busy()
        running = {one.instance_id for one in desired.instances.values() if one.state == InstanceState.RUNNING}
        self._reboots = (self._reboots | desired.reboots) & running
        actual = self._look(desired, busy)
        self._guarded("metrics", parts.monitor.step)
        self._guarded("volumes", lambda: self._keep_volumes(desired))
        for instance_id, instance in desired.instances.items():
            if instance_id not in busy:
                self._guarded(
                    instance_id, functools.partial(self._keep_instance, instance, actual.get(instance_id), desired)
                )
        for instance_id in actual.keys() - desired.instances.keys() - busy:
            self._submit(instance_id, functools.partial(parts.hosts.terminate, instance_id))
        self._guarded("firewalls", lambda: self._keep_firewalls(desired, actual, busy))
        self._guarded("load balancers", lambda: parts.balancer.apply(desired.load_balancers, desired.target_groups))
        self._guarded("firewalls", lambda: self._keep_address_firewalls(desired))
        self._guarded(
            "/etc/hosts",
            lambda: parts.hosts_file.apply({one.dns_name: one.address for one in desired.load_balancers}),
        )

    def _look(self, desired: Snapshot, busy: frozenset[str]) -> dict[str, ActualInstance]:
        """What there is; where all is as it should be and nothing happens, a look every two seconds will do.

        Asking podman costs 80 ms of CPU each time (measured), which would be a sixth of a core in a quiet cloud.
        """
        wanted = {one.instance_id: one.state for one in desired.instances.values()}
        known = {one.instance_id: one.state for one in self._actual.values()}
        now = self._clock()
        urged = now - self._urged < _QUIET_INTERVAL
        quiet = not busy and not urged and wanted == known
        if not quiet or self._busy_before or now - self._looked >= _QUIET_INTERVAL:
            self._looked = now
            self._actual = self._parts.hosts.actual()
        self._busy_before = bool(busy)
        return self._actual

    def _guarded(self, where: str, work: Callable[[], None]) -> None:
        """Do one part of a pass; when the machine refuses, say so and go on with the others."""
        try:
            work()
        except self._errors as error:
            logger.error("%s: %s", where, error)
            self.report(where, str(error))

    def _keep_instance(self, desired: DesiredInstance, actual: ActualInstance | None, all_: Snapshot) -> None:
        """One step for one instance that no job has in hand."""
        hosts = self._parts.hosts
        instance_id = desired.instance_id
        needs_boot = actual is not None and actual.needs_boot
        running = actual is not None and actual.state == InstanceState.RUNNING and not needs_boot
        match desired.state:
            case InstanceState.PENDING if actual is None:
                self._launch(desired, all_.firewalls.get(desired.private_ip, Firewall()))
            case InstanceState.PENDING if not running:
                self._submit(instance_id, functools.partial(hosts.start, instance_id))
            case InstanceState.PENDING:
                if self._keep_attachments(desired) and hosts.is_up(instance_id):
                    self._mark(desired, InstanceState.RUNNING)
            case InstanceState.RUNNING if actual is None:
                self._mark(desired, InstanceState.TERMINATED, f"{_BROKEN_HOST_CODE}: the instance's container is gone")
            case InstanceState.RUNNING if needs_boot:
                self._submit(instance_id, functools.partial(hosts.start, instance_id))
            case InstanceState.RUNNING if not running:
                self._mark(desired, InstanceState.STOPPED, _SHUT_ITSELF_DOWN)
            case InstanceState.RUNNING:
                if instance_id in self._reboots:
                    self._reboots.discard(instance_id)
                    self._submit(instance_id, functools.partial(hosts.reboot, instance_id))
                else:
                    self._keep_attachments(desired)
            case InstanceState.STOPPING | InstanceState.STOPPED if running:
                self._submit(instance_id, functools.partial(hosts.stop, instance_id))
            case InstanceState.STOPPING:
                self._mark(desired, InstanceState.STOPPED)
            case InstanceState.SHUTTING_DOWN | InstanceState.TERMINATED if actual is not None:
                self._submit(instance_id, functools.partial(hosts.terminate, instance_id))
            case InstanceState.SHUTTING_DOWN:
                self._mark(desired, InstanceState.TERMINATED)
            case _:
                pass

    def _launch(self, desired: DesiredInstance, firewall: Firewall) -> None:
        def failed(text: str) -> None:
            self.report(desired.instance_id, text)
            self._guarded(desired.instance_id, lambda: self._parts.hosts.terminate(desired.instance_id))
            self._mark(desired, InstanceState.TERMINATED, f"{_BROKEN_HOST_CODE}: {text}")

        def launch() -> None:
            began = time.monotonic()
            self._parts.hosts.launch(desired, firewall)
            self._firewalls[desired.instance_id] = firewall
            logger.info("%s: launched in %.1f s", desired.instance_id, time.monotonic() - began)

        self.jobs.submit(desired.instance_id, launch, failed)

    def _submit(self, instance_id: str, work: Callable[[], None]) -> None:
        """Begin a job on an instance; one that fails is tried again later and later, so as not to flood the log."""
        if self._clock() < self._retries.get(instance_id, Retry()).at:
            return

        def failed(text: str) -> None:
            self.report(instance_id, text)
            pause = min(self._retries.get(instance_id, Retry()).pause * 2, _LONGEST_PAUSE)
            self._retries[instance_id] = Retry(self._clock() + pause, pause)

        def tried() -> None:
            work()
            self._retries.pop(instance_id, None)

        self.jobs.submit(instance_id, tried, failed)

    def _mark(self, seen: DesiredInstance, state: InstanceState, reason: str | None = None) -> None:
        """Write a state down, unless the API has changed its mind since it was read."""
        with self._lock:
            now = self._parts.state.instances().get(seen.instance_id)
            if now is not None and now.state == seen.state:
                self._parts.state.mark(seen.instance_id, state, reason)
                logger.info("%s: %s -> %s%s", seen.instance_id, seen.state, state, f" ({reason})" if reason else "")
                # What follows from it, for its group and its load balancer, is the next pass' business.
                self._wake.set()

    def _keep_volumes(self, desired: Snapshot) -> None:
        volumes = self._parts.volumes
        known = volumes.known()
        for volume_id in desired.volumes.keys() - known:
            volume = desired.volumes[volume_id]
            volumes.create(volume_id, volume.size_gib, volume.snapshot_id)
        for volume_id in known - desired.volumes.keys():
            volumes.delete(volume_id)

    def _keep_attachments(self, desired: DesiredInstance) -> bool:
        """Attach and detach; whether there was nothing to do."""
        volumes = self._parts.volumes
        wanted = {volume.device: volume.volume_id for volume in desired.volumes}
        actual = volumes.attached(desired.instance_id)
        if wanted == actual:
            return True

        def change() -> None:
            for device, volume_id in actual.items():
                if wanted.get(device) != volume_id:
                    volumes.detach(desired.instance_id, volume_id)
            for device, volume_id in wanted.items():
                if actual.get(device) != volume_id:
                    volumes.attach(desired.instance_id, volume_id, device)

        self._submit(desired.instance_id, change)
        return False

    def _keep_firewalls(self, desired: Snapshot, actual: Mapping[str, ActualInstance], busy: frozenset[str]) -> None:
        for instance_id in actual.keys() & desired.instances.keys() - busy:
            firewall = desired.firewalls.get(desired.instances[instance_id].private_ip, Firewall())
            if self._firewalls.get(instance_id) != firewall:
                self._parts.network.set_guest_firewall(instance_id, firewall)
                self._firewalls[instance_id] = firewall
        for gone in self._firewalls.keys() - desired.instances.keys() - {one.arn for one in desired.load_balancers}:
            del self._firewalls[gone]

    def _keep_address_firewalls(self, desired: Snapshot) -> None:
        for balancer in desired.load_balancers:
            firewall = desired.firewalls.get(balancer.address, Firewall())
            if self._firewalls.get(balancer.arn) != firewall:
                self._parts.network.set_address_firewall(balancer.address, firewall)
                self._firewalls[balancer.arn] = firewall
