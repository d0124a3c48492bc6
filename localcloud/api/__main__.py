"""The API alone, without a machine: instances 'run' at once. For tests and for trying playbooks."""

from __future__ import annotations

import argparse
import signal
import threading

from localcloud.api import ControlPlane, NoMachine, StandInImage
from localcloud.settings import CloudSettings


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(prog="python -m localcloud.api", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=4566)
    parser.add_argument("--cidr", default="10.201.0.0/16")
    parser.add_argument("--region", default="ap-northeast-2")
    options = parser.parse_args()
    settings = CloudSettings(cidr=options.cidr, region=options.region)
    plane = ControlPlane(settings, StandInImage(), NoMachine(), host=options.host, port=options.port)
    plane.start()
    print(f"AWS API without a machine on {plane.url}; Ctrl-C ends it", flush=True)
    done = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: done.set())
    done.wait()
    plane.stop()


if __name__ == "__main__":
    main()
