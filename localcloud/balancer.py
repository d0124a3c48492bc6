"""Application load balancers made real: an address on the bridge, HAProxy on it, probes behind it."""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from localcloud.haproxy import HAProxy, Layout, Mode, Slot, kill_leftovers
from localcloud.model import DesiredLoadBalancer, DesiredTargetGroup, HealthState, TargetHealth
from localcloud.probes import ProbedGroup, Probes, TargetView
from localcloud.settings import CloudSettings

logger = logging.getLogger(__name__)

_FIRST_SLOTS = 8


class Addresses(Protocol):
    """What the balancer needs of the network."""

    def add_address(self, ip: str) -> None:
        """Put an address on the bridge."""

    def remove_address(self, ip: str) -> None:
        """Take it off again."""


@dataclass
class _Proxy:
    haproxy: HAProxy
    address: str
    backends: dict[str, str] = field(default_factory=dict)
    slots: dict[str, dict[str, int]] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)


class Balancer:
    """Keeps one HAProxy per load balancer in step with the API and with the targets' health.

    `apply` is called by one thread, again and again; `health`, `withdraw` and `restore` by any.

    Args:
        settings: of the cloud.
        network: gives and takes the load balancers' addresses.
        probes: replaced in tests.
        clock: seconds, monotonic; the one the probes use.
        changed: called when a target's health has changed, so that `apply` follows at once.
    """

    def __init__(
        self,
        settings: CloudSettings,
        network: Addresses,
        probes: Probes | None = None,
        clock: Callable[[], float] = time.monotonic,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self._directory = settings.run_dir / "haproxy"
        self._network = network
        self._probes = probes or Probes(clock=clock, changed=changed)
        self._clock = clock
        self._proxies: dict[str, _Proxy] = {}
        self._lock = threading.Lock()

    def start(self) -> None:
        """Begin to probe."""
        self._probes.start()

    def stop(self) -> None:
        """End probes, proxies and addresses."""
        self._probes.stop()
        with self._lock:
            for arn in list(self._proxies):
                self._remove(arn)

    def withdraw(self, instance_id: str) -> None:
        """Send nothing more to an instance that is dead, before anybody has looked at what else that means.

        Raises:
            OSError: a proxy does not answer; the next `apply` sets it right.
        """
        gone = self._probes.stopped(instance_id)
        with self._lock:
            for proxy in self._proxies.values():
                proxy.haproxy.disable(
                    (name, proxy.slots[name][key])
                    for arn, key in gone
                    if (name := proxy.backends.get(arn)) is not None and key in proxy.slots.get(name, {})
                )

    def restore(self, instance_id: str) -> None:
        """Take an instance that runs (again) as a target that may become healthy."""
        self._probes.runs(instance_id)

    def health(self, target_group_arn: str) -> dict[str, TargetHealth]:
        """What the probes saw, as `{"i-…:80": TargetHealth}`; draining targets are in it until they are done."""
        return self._probes.health(target_group_arn)

    def apply(self, load_balancers: Iterable[DesiredLoadBalancer], target_groups: Iterable[DesiredTargetGroup]) -> None:
        """One step: addresses, listeners, targets and their states as they should be now.

        Raises:
            BalancerError: a proxy refuses; the others have been served.
        """
        with self._lock:
            self._apply(load_balancers, target_groups)

    def _apply(
        self, load_balancers: Iterable[DesiredLoadBalancer], target_groups: Iterable[DesiredTargetGroup]
    ) -> None:
        wanted = {balancer.arn: balancer for balancer in load_balancers}
        sources = {
            listener.target_group_arn: balancer.address
            for balancer in wanted.values()
            for listener in balancer.listeners
            if listener.target_group_arn
        }
        groups = {group.arn: group for group in target_groups}
        for arn, proxy in list(self._proxies.items()):
            if arn not in wanted or wanted[arn].address != proxy.address:
                self._remove(arn)
        for arn, balancer in wanted.items():
            if arn not in self._proxies:
                self._add(balancer)
        self._probes.sync(ProbedGroup(group, sources.get(arn)) for arn, group in groups.items())
        errors = []
        for arn, balancer in wanted.items():
            try:
                self._serve(self._proxies[arn], balancer, groups)
            except (OSError, RuntimeError) as error:
                errors.append(f"load balancer {balancer.name}: {error}")
        if errors:
            raise BalancerError("; ".join(errors))

    def _add(self, balancer: DesiredLoadBalancer) -> None:
        self._network.add_address(balancer.address)
        self._proxies[balancer.arn] = _Proxy(HAProxy(self._directory / balancer.name), balancer.address)
        logger.info("load balancer %s is at %s", balancer.name, balancer.address)

    def _remove(self, arn: str) -> None:
        proxy = self._proxies.pop(arn)
        proxy.haproxy.stop()
        self._network.remove_address(proxy.address)
        if proxy.haproxy.directory.exists():
            shutil.rmtree(proxy.haproxy.directory)

    def _serve(self, proxy: _Proxy, balancer: DesiredLoadBalancer, groups: dict[str, DesiredTargetGroup]) -> None:
        used = [listener.target_group_arn for listener in balancer.listeners if listener.target_group_arn in groups]
        backends = {arn: f"tg-{groups[arn].name}" for arn in used if arn is not None}
        if not balancer.listeners:
            if proxy.haproxy.alive:
                proxy.haproxy.stop()
            return
        proxy.backends = backends
        for unused in proxy.sizes.keys() - backends.values():
            del proxy.sizes[unused], proxy.slots[unused]
        desired: dict[str, list[Slot]] = {}
        for arn, name in backends.items():
            desired[name] = self._assign(proxy, arn, name)
        layout = Layout.of(balancer, backends, proxy.sizes)
        if not proxy.haproxy.alive or layout != proxy.haproxy.layout:
            if proxy.haproxy.layout is not None and not proxy.haproxy.alive:
                logger.error("HAProxy of load balancer %s had ended: it is started again", balancer.name)
            proxy.haproxy.load(layout, desired)
            return
        actual = proxy.haproxy.status()
        proxy.haproxy.set_slots(
            (name, number, slot)
            for name, slots in desired.items()
            for number, slot in enumerate(slots)
            if slot != actual[name][number].slot
        )
        for arn, name in backends.items():
            for key, number in list(proxy.slots[name].items()):
                was = actual[name][number]
                self._finish_drain(proxy, arn, key, was.slot.mode == Mode.DRAIN and was.sessions == 0)

    def _assign(self, proxy: _Proxy, arn: str, name: str) -> list[Slot]:
        """Give every target of a group a slot and say what each slot should be."""
        targets = {target.key: target for target in self._probes.targets(arn)}
        slots = proxy.slots.setdefault(name, {})
        for key in [key for key in slots if key not in targets]:
            del slots[key]
        size = proxy.sizes.setdefault(name, _FIRST_SLOTS)
        while size < len(targets):
            size *= 2
        proxy.sizes[name] = size
        free = sorted(set(range(size)) - set(slots.values()))
        for key in targets:
            if key not in slots:
                slots[key] = free.pop(0)
        serving = _serving(targets.values())
        result = [Slot() for _ in range(size)]
        for key, number in slots.items():
            target = targets[key]
            mode = Mode.READY if key in serving else Mode.DRAIN if target.drain_until is not None else Mode.MAINT
            result[number] = Slot(f"{target.address}:{target.port}", mode)
        return result

    def _finish_drain(self, proxy: _Proxy, arn: str, key: str, idle: bool) -> None:
        target = next((target for target in self._probes.targets(arn) if target.key == key), None)
        if target is None or target.drain_until is None:
            return
        expired = self._clock() >= target.drain_until
        if expired:
            name = next(name for name, slots in proxy.slots.items() if slots.get(key) is not None)
            proxy.haproxy.cut(name, proxy.slots[name][key])
        if expired or (idle and not proxy.haproxy.retiring):
            logger.info("target %s has drained%s", key, " (the deregistration delay is over)" if expired else "")
            self._probes.drained(arn, key)


class BalancerError(RuntimeError):
    """One or more load balancers could not be served."""


def _serving(targets: Iterable[TargetView]) -> set[str]:
    """Who gets requests: the healthy ones, or, where there are only unhealthy ones, all of those.

    ELB User Guide: "If a target group contains only unhealthy registered targets, the load balancer
    routes requests to all those targets, regardless of their health status."
    """
    by_state: dict[HealthState, set[str]] = {}
    for target in targets:
        by_state.setdefault(target.health.state, set()).add(target.key)
    return by_state.get(HealthState.HEALTHY) or by_state.get(HealthState.UNHEALTHY) or set()


def remove_leftovers(settings: CloudSettings) -> list[str]:
    """End what a crashed daemon left behind.

    Returns:
        What was removed, in words.
    """
    directory: Path = settings.run_dir / "haproxy"
    return [f"HAProxy process {pid}" for pid in kill_leftovers(directory)]
