"""The API alone, without a machine: instances 'run' and targets are 'healthy' at once.

For tests and for trying playbooks; nothing can be reached that it says is running.
"""

from __future__ import annotations

import argparse
import signal
import threading

from localcloud.api import ControlPlane, NoMachine, StandInImage
from localcloud.api.machine import AT_ONCE
from localcloud.groups import Groups
from localcloud.model import HealthState, TargetHealth
from localcloud.settings import CloudSettings
from localcloud.state import State


def follow(plane: ControlPlane, machine: NoMachine, state: State, groups: Groups) -> None:
    """Do once what the reconcile loop does, without doing anything."""
    with plane.lock:
        for instance in state.instances().values():
            if instance.state in AT_ONCE:
                state.mark(instance.instance_id, AT_ONCE[instance.state])
        for arn, group in state.target_groups().items():
            machine.health[arn] = {
                f"{t.target_id}:{t.port}": TargetHealth(HealthState.HEALTHY) for t in group.targets if t.address
            }
        groups.step()
        state.pop_reboots()


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(prog="python -m localcloud.api", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=4566)
    parser.add_argument("--cidr", default="10.201.0.0/16")
    parser.add_argument("--region", default="ap-northeast-2")
    options = parser.parse_args()
    settings = CloudSettings(cidr=options.cidr, region=options.region)
    machine = NoMachine()
    plane = ControlPlane(settings, StandInImage(), machine, host=options.host, port=options.port)
    state = State(plane)
    groups = Groups(plane, state, machine.target_health)
    plane.start()
    print(f"AWS API without a machine on {plane.url}; Ctrl-C ends it", flush=True)
    done = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: done.set())
    while not done.wait(0.3):
        follow(plane, machine, state, groups)
    plane.stop()


if __name__ == "__main__":
    main()
