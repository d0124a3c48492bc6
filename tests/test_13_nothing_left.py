"""After `localcloud down` this machine is as it was before `localcloud up`."""

from __future__ import annotations

import pytest
from endtoend import machine
from endtoend.stack import Stack

pytestmark = [pytest.mark.e2e, pytest.mark.clean]


def test_down_leaves_nothing(cloud: Stack, machine_before: dict[str, set[str]]) -> None:
    removed = cloud.down()
    print(f"\nlocalcloud down: {removed.seconds:.0f} s")
    assert removed.status == 0, removed.tail
    assert machine.difference(machine_before, machine.snapshot()) == ""


def test_down_again_is_fine(cloud: Stack) -> None:
    assert cloud.down().status == 0
