"""The reconcile loop, one pass at a time, on a machine made of dictionaries."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import pytest

from localcloud import reconcile
from localcloud.engine import EngineError
from localcloud.model import (
    ActualInstance,
    DesiredInstance,
    DesiredLoadBalancer,
    DesiredTargetGroup,
    Firewall,
    InstanceState,
    Rule,
    VolumeAttachment,
)
from localcloud.reconcile import Parts, Reconciler

LONGEST_WAIT = 60.0
"""Seconds; for what never happens."""
ID = "i-00000000000000001"
IP = "10.201.0.10"
SSH = Firewall(ingress=(Rule("tcp", 22, 22, ("10.201.0.0/16",)),))


@dataclass(frozen=True)
class Volume:
    size_gib: int
    snapshot_id: str | None = None


def instance(
    state: InstanceState = InstanceState.PENDING, volumes: tuple[VolumeAttachment, ...] = ()
) -> DesiredInstance:
    return DesiredInstance(ID, state, "ami-1", "t2.micro", IP, "02:00:0a:c9:00:0a", "subnet-1", "a", volumes=volumes)


class FakeState:
    def __init__(self) -> None:
        self.all: dict[str, DesiredInstance] = {}
        self.reasons: dict[str, str | None] = {}
        self.reboots: set[str] = set()
        self.all_volumes: dict[str, Volume] = {}
        self.filters: dict[str, Firewall] = {IP: SSH}
        self.balancers: dict[str, DesiredLoadBalancer] = {}

    def instances(self) -> dict[str, DesiredInstance]:
        return {key: one for key, one in self.all.items() if one.state != InstanceState.TERMINATED}

    def mark(self, instance_id: str, state: InstanceState, reason: str | None = None) -> None:
        self.all[instance_id] = replace(self.all[instance_id], state=state)
        self.reasons[instance_id] = reason

    def pop_reboots(self) -> set[str]:
        reboots, self.reboots = self.reboots, set()
        return reboots

    def volumes(self) -> Mapping[str, Volume]:
        return self.all_volumes

    def firewalls(self) -> dict[str, Firewall]:
        return self.filters

    def busy(self) -> set[str]:
        return set()

    def load_balancers(self) -> dict[str, DesiredLoadBalancer]:
        return self.balancers

    def target_groups(self) -> dict[str, DesiredTargetGroup]:
        return {}

    def step(self) -> None:
        pass

    def end_drains(self) -> None:
        pass


class FakeMachine:
    """Hosts, network, volumes, balancer and names in one."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, ...]] = []
        self.containers: dict[str, ActualInstance] = {}
        self.rules: dict[str, Firewall] = {}
        self.disks: dict[str, tuple[int, str | None]] = {}
        self.plugged: dict[str, dict[str, str]] = {}
        self.refuse: dict[str, str] = {}
        self.up = True
        self.looks = 0
        self.hold = threading.Event()
        self.hold.set()

    def _do(self, *call: str) -> None:
        self.calls.append(call)
        assert self.hold.wait(LONGEST_WAIT)
        if call[0] in self.refuse:
            raise EngineError(self.refuse[call[0]])

    def _set(self, instance_id: str, state: InstanceState) -> None:
        self.containers[instance_id] = ActualInstance(instance_id, state, "ami-1", IP)

    def launch(self, instance: DesiredInstance, firewall: Firewall) -> None:
        self._do("launch", instance.instance_id)
        self.rules[instance.private_ip] = firewall
        self._set(instance.instance_id, InstanceState.RUNNING)

    def start(self, instance_id: str) -> None:
        self._do("start", instance_id)
        self._set(instance_id, InstanceState.RUNNING)

    def stop(self, instance_id: str) -> None:
        self._do("stop", instance_id)
        self._set(instance_id, InstanceState.STOPPED)

    def reboot(self, instance_id: str) -> None:
        self._do("reboot", instance_id)

    def terminate(self, instance_id: str) -> None:
        self._do("terminate", instance_id)
        self.containers.pop(instance_id, None)

    def actual(self) -> dict[str, ActualInstance]:
        found = dict(self.containers)
        # Counted when it is over: what a test does to the machine after this look is for the next one.
        self.looks += 1
        return found

    def is_up(self, instance_id: str) -> bool:
        return self.up

    def set_guest_firewall(self, instance_id: str, firewall: Firewall) -> None:
        self._do("guest_firewall", instance_id)
        self.rules[IP] = firewall

    def set_address_firewall(self, ip: str, firewall: Firewall) -> None:
        self._do("address_firewall", ip)
        self.rules[ip] = firewall

    def create(self, volume_id: str, size_gib: int, snapshot_id: str | None) -> None:
        self._do("create", volume_id)
        self.disks[volume_id] = (size_gib, snapshot_id)

    def delete(self, volume_id: str) -> None:
        self._do("delete", volume_id)
        del self.disks[volume_id]

    def known(self) -> set[str]:
        return set(self.disks)

    def attach(self, instance_id: str, volume_id: str, device: str) -> None:
        self._do("attach", instance_id, volume_id, device)
        self.plugged.setdefault(instance_id, {})[device] = volume_id

    def detach(self, instance_id: str, volume_id: str) -> None:
        self._do("detach", instance_id, volume_id)
        self.plugged[instance_id] = {d: v for d, v in self.plugged[instance_id].items() if v != volume_id}

    def attached(self, instance_id: str) -> dict[str, str]:
        return dict(self.plugged.get(instance_id, {}))


class FakeBalancer:
    def __init__(self) -> None:
        self.names: Mapping[str, str] = {}
        self.error: Exception | None = None

    def apply(self, load_balancers: Iterable[DesiredLoadBalancer], target_groups: Iterable[DesiredTargetGroup]) -> None:
        if self.error:
            raise self.error


class FakeHostsFile:
    names: Mapping[str, str] = {}

    def apply(self, names: Mapping[str, str]) -> None:
        self.names = names


class FakeMonitor:
    def step(self) -> None:
        pass


class World:
    """The loop and what it works on; its seconds pass when a test says so, however long the passes take."""

    def __init__(self) -> None:
        self.seconds = 1000.0
        self.state = FakeState()
        self.machine = FakeMachine()
        self.balancer = FakeBalancer()
        self.names = FakeHostsFile()
        machine = self.machine
        parts = Parts(self.state, self.state, machine, machine, machine, self.balancer, self.names, FakeMonitor())
        self.loop = Reconciler(threading.RLock(), parts, clock=lambda: self.seconds)

    def settle(self) -> None:
        """Pass until nothing is in hand and nothing changes any more."""
        for _ in range(8):
            self.loop.step()
            self.idle()

    def idle(self) -> None:
        self.until(lambda: not self.loop.jobs.busy)

    def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + LONGEST_WAIT
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.002)

    def now(self) -> InstanceState:
        return self.state.all[ID].state


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.machine.hold.set()
    world.loop.stop()


def test_a_pending_instance_is_launched_once_and_runs_when_it_is_up(world: World) -> None:
    world.state.all[ID] = instance()
    world.machine.up = False
    world.machine.hold.clear()
    world.loop.step()
    world.loop.step()
    world.until(lambda: world.machine.calls == [("launch", ID)])
    world.machine.hold.set()
    world.settle()
    assert world.now() == InstanceState.PENDING
    world.machine.up = True
    world.settle()
    assert world.now() == InstanceState.RUNNING
    assert world.machine.calls == [("launch", ID)]
    assert world.machine.rules == {IP: SSH}


def test_a_launch_that_fails_is_terminated_with_its_reason(world: World) -> None:
    world.state.all[ID] = instance()
    world.machine.refuse["launch"] = "no space left on device"
    world.settle()
    assert world.now() == InstanceState.TERMINATED
    assert world.state.reasons[ID] == "Server.InternalError: no space left on device"
    assert ("terminate", ID) in world.machine.calls
    assert [trouble.text for trouble in world.loop.troubles] == ["no space left on device"]


def test_terminated_while_it_is_being_launched(world: World) -> None:
    world.state.all[ID] = instance()
    world.machine.hold.clear()
    world.loop.step()
    world.state.all[ID] = instance(InstanceState.SHUTTING_DOWN)
    world.loop.step()
    world.machine.hold.set()
    world.settle()
    assert world.now() == InstanceState.TERMINATED
    assert world.machine.containers == {}


def test_stop_start_reboot(world: World) -> None:
    world.state.all[ID] = instance()
    world.settle()
    world.state.all[ID] = instance(InstanceState.STOPPING)
    world.settle()
    assert world.now() == InstanceState.STOPPED
    world.state.all[ID] = instance(InstanceState.PENDING)
    world.settle()
    assert world.now() == InstanceState.RUNNING
    world.state.reboots.add(ID)
    world.settle()
    assert [call[0] for call in world.machine.calls] == ["launch", "stop", "start", "reboot"]


def test_one_that_waits_for_its_boot_is_started_until_it_runs(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconcile, "_QUIET_INTERVAL", 0.0)
    world.state.all[ID] = instance()
    world.settle()
    waiting = replace(world.machine.containers[ID], needs_boot=True)
    world.machine.containers[ID] = waiting
    world.machine.refuse["start"] = "podman said no"
    world.settle()
    assert world.now() == InstanceState.RUNNING
    assert world.loop.troubles[-1].text == "podman said no"
    del world.machine.refuse["start"]
    world.settle()
    assert world.machine.containers[ID].needs_boot
    world.seconds += 1
    world.settle()
    assert not world.machine.containers[ID].needs_boot
    assert world.now() == InstanceState.RUNNING
    # One that is to stop is not booted for it.
    world.machine.containers[ID] = waiting
    world.machine.calls.clear()
    world.state.all[ID] = instance(InstanceState.STOPPING)
    world.settle()
    assert world.now() == InstanceState.STOPPED
    assert world.machine.calls == []


def test_a_guest_that_shuts_itself_down_is_stopped_and_one_that_vanishes_terminated(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconcile, "_QUIET_INTERVAL", 0.0)
    world.state.all[ID] = instance()
    world.settle()
    world.machine._set(ID, InstanceState.STOPPED)
    world.settle()
    assert world.now() == InstanceState.STOPPED
    assert (world.state.reasons[ID] or "").startswith("Client.InstanceInitiatedShutdown")
    world.state.all[ID] = instance(InstanceState.RUNNING)
    world.machine.containers.clear()
    world.settle()
    assert world.now() == InstanceState.TERMINATED
    assert (world.state.reasons[ID] or "").startswith("Server.InternalError")


def test_a_quiet_cloud_is_not_looked_at_in_every_pass(world: World) -> None:
    world.state.all[ID] = instance()
    world.settle()
    looks = world.machine.looks
    world.seconds += 1.9
    world.settle()
    assert world.machine.looks == looks
    world.seconds += 0.1
    world.settle()
    assert world.machine.looks == looks + 1
    world.state.all[ID] = instance(InstanceState.STOPPING)
    world.settle()
    assert world.now() == InstanceState.STOPPED


def test_what_just_happened_is_looked_at_at_once_and_for_a_while(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.state.all[ID] = instance()
    world.settle()
    looks = world.machine.looks
    monkeypatch.setattr(reconcile, "INTERVAL", 60.0)
    world.loop.start()
    try:
        world.until(lambda: world.loop.passes >= 1)
        assert world.machine.looks == looks
        # The first look comes too early: the machine does not know yet.
        world.loop.look_now()
        world.until(lambda: world.machine.looks == looks + 1)
        world.machine._set(ID, InstanceState.STOPPED)
        world.loop._wake.set()
        world.until(lambda: world.now() == InstanceState.STOPPED)
        # What follows from it is done without waiting for the next pass' time.
        world.until(lambda: world.loop.passes >= 4)
    finally:
        world.loop.stop()


def test_an_instance_whose_image_is_being_made_is_left_alone(world: World) -> None:
    world.state.all[ID] = instance()
    world.settle()
    with world.loop.jobs.exclusive(ID):
        world.machine._set(ID, InstanceState.STOPPED)
        world.loop.step()
        assert world.now() == InstanceState.RUNNING
        world.machine._set(ID, InstanceState.RUNNING)
    world.settle()
    assert world.now() == InstanceState.RUNNING


def test_volumes_come_follow_and_go(world: World) -> None:
    world.state.all_volumes = {"vol-1": Volume(2), "vol-2": Volume(1, "snap-1")}
    world.state.all[ID] = instance(volumes=(VolumeAttachment("vol-1", "/dev/sdf", 2),))
    world.settle()
    assert world.machine.disks == {"vol-1": (2, None), "vol-2": (1, "snap-1")}
    assert world.machine.plugged == {ID: {"/dev/sdf": "vol-1"}}
    assert world.now() == InstanceState.RUNNING
    world.state.all[ID] = instance(InstanceState.RUNNING, (VolumeAttachment("vol-2", "/dev/sdf", 1),))
    world.settle()
    assert world.machine.plugged == {ID: {"/dev/sdf": "vol-2"}}
    world.state.all_volumes = {"vol-2": Volume(1)}
    world.settle()
    assert set(world.machine.disks) == {"vol-2"}


def test_firewalls_are_set_when_they_change_and_only_then(world: World) -> None:
    world.state.all[ID] = instance()
    world.settle()
    assert ("guest_firewall", ID) not in world.machine.calls
    world.state.filters = {IP: Firewall(), "10.201.0.99": SSH}
    world.state.balancers = {"lb": DesiredLoadBalancer("lb", "lb", "lb.elb.memo.internal", "10.201.0.99")}
    world.settle()
    assert world.machine.calls.count(("guest_firewall", ID)) == 1
    assert world.machine.calls.count(("address_firewall", "10.201.0.99")) == 1
    assert world.machine.rules == {IP: Firewall(), "10.201.0.99": SSH}
    assert world.names.names == {"lb.elb.memo.internal": "10.201.0.99"}


def test_a_container_nobody_wants_is_removed(world: World) -> None:
    world.machine._set("i-00000000000000bad", InstanceState.RUNNING)
    world.settle()
    assert world.machine.containers == {}


def test_one_part_that_fails_stops_no_other_and_is_reported(world: World) -> None:
    world.balancer.error = EngineError("no HAProxy")
    world.state.all[ID] = instance()
    world.settle()
    assert world.now() == InstanceState.RUNNING
    assert [(trouble.where, trouble.text) for trouble in world.loop.troubles] == [("load balancers", "no HAProxy")]


def test_a_job_that_fails_is_tried_again_but_not_in_every_pass(world: World) -> None:
    world.state.all[ID] = instance()
    world.settle()
    world.machine.refuse["stop"] = "it hangs"
    world.state.all[ID] = instance(InstanceState.STOPPING)
    world.settle()
    assert world.machine.calls.count(("stop", ID)) == 1
    world.seconds += 0.9
    world.settle()
    assert world.machine.calls.count(("stop", ID)) == 1
    # Once more, and twice as late the next time.
    world.seconds += 0.1
    world.settle()
    assert world.machine.calls.count(("stop", ID)) == 2
    world.machine.refuse.clear()
    world.seconds += 1.9
    world.settle()
    assert world.now() == InstanceState.STOPPING
    world.seconds += 0.1
    world.settle()
    assert world.now() == InstanceState.STOPPED
    assert world.machine.calls.count(("stop", ID)) == 3


def test_the_loop_outlives_a_bug_and_says_so(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.balancer.error = ZeroDivisionError("bug")
    world.state.all[ID] = instance()
    world.loop.start()
    world.until(lambda: world.loop.passes >= 2)
    assert world.loop.troubles[-1].text == "ZeroDivisionError: bug"
    assert "a pass of the reconcile loop broke" in caplog.text
