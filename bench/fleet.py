"""How long changes of a fleet of two take in the local cloud: bake, refresh, deploy, rollback, death, growth.

    .venv/bin/python bench/fleet.py [--cloud NAME] [--rounds N] [PART...]

Wants a local cloud with the service in it, as bin/up makes it. Every round does all of it in one run, so that the
ratios compare like with like on a machine that others use too; the medians are printed with the slowest round. The
versions that it makes are those of the application with one sentence changed; the last change is rolled back.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(PROJECT), str(PROJECT / "tests")]

from endtoend.fleet import GROUP, Fleet  # noqa: E402 - found by the line above
from endtoend.stack import ARTEFACTS, Run, Stack  # noqa: E402
from endtoend.waiting import until  # noqa: E402

from localcloud.settings import CloudSettings  # noqa: E402

INSTANCES = 2
AIMS = {"deploy, code only": 60.0, "rollback": 30.0, "dead instance: serving again, beyond the probes": 15.0}
"""Seconds. What the project sets itself; printed beside what was measured."""
PARTS = ("bakes", "deploys", "changes", "death", "scaling")


class Bench:
    """Measures one fleet.

    Args:
        fleet: the fleet, of two instances.
    """

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._count = 0
        self.seconds: dict[str, list[float]] = {}

    def round(self, parts: list[str]) -> None:
        """Do these parts once, in the order of PARTS."""
        for part in PARTS:
            if part in parts:
                getattr(self, f"_{part}")()

    def _bakes(self) -> None:
        self._play("bake, from the base image", "build-image", self._changed(image_most_generations=0))
        self._play("bake, code only", "build-image", self._changed())

    def _deploys(self) -> None:
        self._play("deploy, from the base image", "deploy", self._changed(image_most_generations=0))

    def _changes(self) -> None:
        self._play("deploy, code only", "deploy", self._changed())
        self._note("refresh of two instances", self._last_refresh())
        self._play("rollback", "rollback", {})

    def _scaling(self) -> None:
        self._fleet.scale(1)
        self._note("scale-out from 1 to 2 until both serve", timed(lambda: self._fleet.scale(INSTANCES)))

    def report(self) -> str:
        """A line for each, and the ratios."""
        lines = [f"{'seconds':52} {'median':>7} {'slowest':>8} {'aim':>6}"]
        for name, found in self.seconds.items():
            aim = f"{AIMS[name]:.0f}" if name in AIMS else ""
            lines.append(f"{name:52} {statistics.median(found):7.1f} {max(found):8.1f} {aim:>6}")
        for what in ("bake", "deploy"):
            one, other = f"{what}, code only", f"{what}, from the base image"
            if one in self.seconds and other in self.seconds:
                lines.append(f"{what}, code only / from the base image: {self._ratio(one, other):.2f}")
        return "\n".join(lines)

    def _ratio(self, one: str, other: str) -> float:
        return statistics.median(a / b for a, b in zip(self.seconds[one], self.seconds[other], strict=True))

    def _changed(self, **settings: object) -> dict[str, object]:
        self._count += 1
        path, old, new = self._fleet.other_words()
        copy = self._fleet.variant(f"change-{self._count}", words=(path, old, f"{new} {self._count}"))
        return {"memo_server_app_folder": str(copy), **settings}

    def _play(self, name: str, playbook: str, settings: dict[str, object]) -> None:
        run = self._fleet.play(playbook, settings=settings)
        succeeded(run)
        self._note(name, run.seconds)

    def _last_refresh(self) -> float:
        answer = self._fleet.stack.autoscaling.describe_instance_refreshes(AutoScalingGroupName=GROUP)
        newest = max(answer["InstanceRefreshes"], key=lambda one: one["StartTime"])
        return (newest["EndTime"] - newest["StartTime"]).total_seconds()

    def _death(self) -> None:
        """Pull the plug of one instance; the probes' own patience is no fault of the replacement."""
        before = self._fleet.healthy()
        victim = sorted(before)[0]
        started = time.monotonic()
        self._fleet.pull_the_plug(victim)
        until(lambda: victim not in self._fleet.healthy(), "a death that is noticed", timeout=120, poll=0.1)
        noticed = time.monotonic() - started
        until(lambda: len(self._fleet.healthy()) == INSTANCES, "a replacement", timeout=180, poll=0.1)
        whole = time.monotonic() - started
        self._fleet.settled()
        self._note("dead instance: noticed", noticed)
        self._note("dead instance: two serve again", whole)
        self._note("dead instance: serving again, beyond the probes", whole - noticed)

    def _note(self, name: str, seconds: float) -> None:
        print(f"  {name}: {seconds:.1f} s", flush=True)
        self.seconds.setdefault(name, []).append(seconds)


def timed(action: Callable[[], object]) -> float:
    """Do it, and return the seconds it took."""
    started = time.monotonic()
    action()
    return time.monotonic() - started


def succeeded(run: Run) -> None:
    """End the benchmark in words when a playbook failed: its time would mean nothing."""
    if run.status:
        sys.exit(f"a playbook failed, so there is nothing to measure:\n{run.tail}")


def main() -> None:
    """Run as a command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--cloud", default="memo", help="the local cloud's name (default: %(default)s, that of bin/up)")
    parser.add_argument("--rounds", type=int, default=3, help="how often (default: %(default)s)")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"only these of {', '.join(PARTS)}")
    options = parser.parse_args()
    unknown = [part for part in options.parts if part not in PARTS]
    if unknown:
        parser.error(f"there is no part {unknown[0]}; there are {', '.join(PARTS)}")
    stack = Stack(CloudSettings.load(options.cloud), ARTEFACTS / "bench.log")
    with tempfile.TemporaryDirectory() as folder:
        fleet = Fleet(stack, Path(folder))
        wanted = fleet.group()["DesiredCapacity"]
        bench = Bench(fleet)
        with fleet.sized_by_hand():
            fleet.scale(INSTANCES)
            try:
                for number in range(options.rounds):
                    print(f"round {number + 1} of {options.rounds}", flush=True)
                    bench.round(options.parts or list(PARTS))
            finally:
                fleet.scale(wanted)
    print(bench.report())


if __name__ == "__main__":
    main()
