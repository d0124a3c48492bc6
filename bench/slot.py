"""One contestant's turn, inside the instance: start nginx for it, load it with wrk, and say what it cost. Prints JSON.

slot.py NGINX_CONFIG UNIT SECONDS CONNECTIONS SCRIPT URL
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_LOG = Path("/var/log/nginx/access.log")
_UNITS = {"us": 0.001, "ms": 1.0, "s": 1000.0}


def main() -> None:
    """Take the turn."""
    config, unit, seconds, connections, script, url = sys.argv[1:]
    _LOG.write_bytes(b"")
    subprocess.run(["nginx", "-c", config], check=True)
    try:
        nginx = int(Path("/run/nginx.pid").read_text(encoding="utf-8"))
        app = main_process(unit)
        journal = main_process("systemd-journald.service")
        before = {name: cpu(family(pid)) for name, pid in (("app", app), ("nginx", nginx), ("journal", journal))}
        done = subprocess.run(
            ["wrk", "--threads=1", f"--connections={connections}", f"--duration={seconds}s", "--latency"]
            + [f"--script={script}", url],
            capture_output=True,
            text=True,
            check=True,
        )
        after = {name: cpu(family(pid)) for name, pid in (("app", app), ("nginx", nginx), ("journal", journal))}
        memory = [proportional_memory(pid) for pid in family(app) if pid != app]
    finally:
        subprocess.run(["nginx", "-c", config, "-s", "quit"], check=True)
        while Path("/run/nginx.pid").exists():
            time.sleep(0.02)
    statuses = Counter(json.loads(line)["status"] for line in _LOG.read_text(encoding="utf-8").splitlines())
    total = max(1, sum(statuses.values()))
    latency = {
        key: float(number) * _UNITS[u] for key, number, u in re.findall(r"(50|99)%\s+([\d.]+)(us|ms|s)", done.stdout)
    }
    rate = re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)
    if rate is None:
        raise RuntimeError(done.stdout)
    print(
        json.dumps(
            {
                "rate": float(rate[1]),
                "p50": latency["50"],
                "p99": latency["99"],
                "statuses": statuses,
                "cpu": {name: 1000 * (after[name] - before[name]) / total for name in before},
                "requests": total,
                "worker_mib": memory,
                "instance_mib": sum(proportional_memory(int(p.name)) for p in Path("/proc").glob("[0-9]*")),
            }
        )
    )


def main_process(unit: str) -> int:
    """A unit's first process."""
    return int(subprocess.check_output(["systemctl", "show", "--property=MainPID", "--value", unit], text=True))


def family(pid: int) -> list[int]:
    """A process and its children."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    return [pid, *(int(child) for child in children.read_text(encoding="utf-8").split())]


def cpu(pids: list[int]) -> float:
    """Seconds of CPU that processes have used."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / _TICKS


def proportional_memory(pid: int) -> float:
    """MiB of a process, of what it shares its part; 0 when it has ended or is the kernel's."""
    try:
        found = re.search(r"^Pss:\s+(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8"), re.M)
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return int(found[1]) / 1024 if found else 0.0


if __name__ == "__main__":
    main()
