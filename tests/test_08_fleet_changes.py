"""People at work notice nothing of a scale-out, a deploy, a rollback and a scale-in; of a death, next to nothing."""

from __future__ import annotations

import time

import pytest
from endtoend.fleet import Fleet
from endtoend.load import Load
from endtoend.people import Person
from endtoend.waiting import until

pytestmark = pytest.mark.e2e

RATE = 85
ENOUGH = 10_000
NOTICED = 0.1
"""Seconds after the death until which a request may be lost."""
CHANGES = ("scale-out", "deploy", "rollback", "scale-in", "steady")


def test_nobody_notices(fleet: Fleet, crowd: list[Person]) -> None:
    changed = fleet.variant("other-words", words=fleet.other_words())
    before = fleet.version()
    load = Load(crowd, RATE)
    load.start()
    try:
        with fleet.sized_by_hand():
            with load.phase("scale-out"):
                fleet.scale(2)
            with load.phase("deploy"):
                deployed = fleet.deploy(changed)
            assert deployed.status == 0, deployed.tail
            assert "baked upon the last good one" in deployed.words
            version = fleet.version()
            assert int(version) > int(before)
            with load.phase("rollback"):
                rolled_back = fleet.play("rollback")
            assert rolled_back.status == 0, rolled_back.tail
            assert fleet.version() == before
            assert fleet.marks()["void"].split()[-1] == version
            with load.phase("kill"):
                victim = sorted(fleet.healthy())[0]
                fleet.pull_the_plug(victim)
                killed = time.monotonic()
                until(lambda: victim not in fleet.healthy() and len(fleet.healthy()) == 2, "a replacement", timeout=120)
                replaced = time.monotonic() - killed
            with load.phase("scale-in"):
                fleet.scale(1)
            with load.phase("steady"):
                until(lambda: len(load.of(*CHANGES)) >= ENOUGH, "enough requests", timeout=240)
    finally:
        load.stop()
    acknowledged = load.check_ledger()
    print(
        f"\ncode-only deploy {deployed.seconds:.0f} s, rollback {rolled_back.seconds:.0f} s, replaced {replaced:.1f} s"
    )
    print(load.report())
    print(f"{acknowledged} memos acknowledged, each there exactly once")
    assert load.failed(*CHANGES) == []
    # The load balancer does not ask again elsewhere (docs/decisions.md): what was on its way to the instance when it
    # died is lost, and nothing that was sent after the death had been noticed.
    lost = load.failed("kill")
    latest = max((answer.at - killed for answer in lost), default=0.0)
    print(
        f"{len(lost)} requests were lost with the instance, the last of them sent {latest * 1000:.0f} ms after it died"
    )
    assert latest < NOTICED
