"""What people see, and for how long, when a part of the service fails: a table, from real faults in the local cloud.

    .venv/bin/python bench/faults.py [--cloud NAME] [--only WORDS]

Wants a local cloud with the service in it, as bin/up makes it. Seven people read and write through the load balancer
all the while, 24 requests a second. A memo that was acknowledged and is not there once ends it with an error.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(PROJECT), str(PROJECT / "tests")]

from endtoend.faults import FAULTS, HEADER, measure  # noqa: E402 - found by the line above
from endtoend.people import crowd, until_steady  # noqa: E402
from endtoend.stack import ARTEFACTS, Stack  # noqa: E402

from localcloud.settings import CloudSettings  # noqa: E402


def main() -> None:
    """Inject every fault once, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cloud", default="memo", metavar="NAME")
    parser.add_argument("--only", default="", metavar="WORDS", help="only the faults whose name has these words")
    arguments = parser.parse_args()
    stack = Stack(CloudSettings.load(arguments.cloud), ARTEFACTS / "faults.log")
    people = crowd(stack, 8)
    print(HEADER)
    for fault in FAULTS:
        if arguments.only.lower() in fault.name.lower():
            until_steady(people[0])
            print(measure(stack, people, fault), flush=True)


if __name__ == "__main__":
    main()
