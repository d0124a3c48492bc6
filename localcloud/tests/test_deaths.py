"""Deaths are told when they happen, of real processes, and nothing is left of having watched them."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from localcloud.deaths import DeathWatch


class World:
    """A watch, what it told, and processes to end."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []
        self.broken = False
        self.watch = DeathWatch(self._died, lambda one: self.told.append(("lives", one)))
        self.processes: list[subprocess.Popen[bytes]] = []

    def _died(self, instance_id: str) -> None:
        self.told.append(("died", instance_id))
        if self.broken:
            raise OSError("nobody listens")

    def process(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(["sleep", "60"])
        self.processes.append(process)
        return process

    def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < deadline, self.told
            time.sleep(0.002)


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    world.watch.start()
    yield world
    world.watch.stop()
    for process in world.processes:
        process.kill()
        process.wait()


def descriptors() -> set[str]:
    """What this process has open that a watch may have opened."""
    found = set()
    for entry in Path("/proc/self/fd").iterdir():
        try:
            target = str(entry.readlink())
        except FileNotFoundError:
            continue
        if any(kind in target for kind in ("pidfd", "eventpoll", "eventfd")):
            found.add(f"{entry.name} {target}")
    return found


def test_a_death_is_told_at_once_and_once(world: World) -> None:
    one, other = world.process(), world.process()
    world.watch.keep({"i-1": one.pid, "i-2": other.pid})
    assert world.told == [("lives", "i-1"), ("lives", "i-2")]
    one.send_signal(signal.SIGKILL)
    # Nobody looks meanwhile (`keep`): the watch itself must tell it, whenever this machine lets its thread run.
    world.until(lambda: ("died", "i-1") in world.told)
    # A look that began before the death still believes in it, whether the process has been waited for or not.
    world.watch.keep({"i-1": one.pid, "i-2": other.pid})
    one.wait()
    world.watch.keep({"i-1": one.pid, "i-2": other.pid})
    assert world.told[2:] == [("died", "i-1")]


def test_one_that_is_gone_before_it_could_be_watched_is_dead(world: World) -> None:
    process = world.process()
    process.kill()
    process.wait()
    world.watch.keep({"i-1": process.pid})
    assert world.told == [("died", "i-1")]
    world.watch.keep({"i-1": process.pid})
    assert world.told == [("died", "i-1")]


def test_one_that_starts_again_lives_again(world: World) -> None:
    first, second = world.process(), world.process()
    world.watch.keep({"i-1": first.pid})
    first.kill()
    world.until(lambda: ("died", "i-1") in world.told)
    world.watch.keep({})
    world.watch.keep({"i-1": second.pid})
    second.kill()
    world.until(lambda: len(world.told) == 4)
    assert world.told == [("lives", "i-1"), ("died", "i-1")] * 2


def test_what_is_watched_no_longer_dies_untold(world: World) -> None:
    left, kept = world.process(), world.process()
    world.watch.keep({"i-1": left.pid, "i-2": kept.pid})
    world.watch.keep({"i-2": kept.pid})
    left.kill()
    left.wait()
    kept.kill()
    world.until(lambda: ("died", "i-2") in world.told)
    assert ("died", "i-1") not in world.told


def test_one_that_cannot_be_told_leaves_the_others_watched(world: World) -> None:
    one, other = world.process(), world.process()
    world.watch.keep({"i-1": one.pid, "i-2": other.pid})
    world.broken = True
    one.kill()
    world.until(lambda: ("died", "i-1") in world.told)
    other.kill()
    world.until(lambda: ("died", "i-2") in world.told)


def test_nothing_is_left() -> None:
    # What other tests have dropped and nobody has closed would vanish in between.
    gc.collect()
    before = descriptors()
    world = World()
    try:
        for _ in range(20):
            world.watch.start()
            one, other = world.process(), world.process()
            world.watch.keep({"i-1": one.pid, "i-2": other.pid})
            assert len(descriptors()) == len(before) + 4
            one.kill()
            world.until(lambda: ("died", "i-1") in world.told)
            world.watch.stop()
            world.told.clear()
            assert descriptors() == before
            assert "deaths" not in {thread.name for thread in threading.enumerate()}
        # One that has ended, or has not begun, has nothing to watch with and nothing to give back.
        world.watch.keep({"i-1": os.getpid()})
        world.watch.stop()
        assert world.told == []
        assert descriptors() == before
    finally:
        for process in world.processes:
            process.kill()
            process.wait()
