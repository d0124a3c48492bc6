"""What stands on this machine outside the checkout: the comparison before and after a local cloud."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

# Other work on the machine comes and goes; these are the cloud's own, and the first of each guest's.
_CLOUD_PROCESSES = re.compile(r"localcloud daemon|haproxy|conmon|/sbin/init|dockerd|mysqld|redis-server|uwsgi-core")


def _lines(*command: str) -> set[str]:
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return {line.strip() for line in done.stdout.splitlines() if line.strip()}


def _rules() -> set[str]:
    """The firewall's rules without their counters, each with the table it stands in."""
    text = "\n".join(sorted(_lines("nft", "-s", "list", "ruleset")))
    return set(re.sub(r"counter packets \d+ bytes \d+", "counter", text).splitlines())


def _processes() -> set[str]:
    found = set()
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal():
            continue
        try:
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if command and _CLOUD_PROCESSES.search(command):
            found.add(f"{folder.name} {command}")
    return found


def snapshot() -> dict[str, set[str]]:
    """Everything that a local cloud could leave behind, by kind."""
    return {
        "containers": _lines(
            sys.executable, "-m", "localcloud.engine", "podman", "ps", "--all", "--format", "{{.Names}}"
        ),
        "network namespaces": _lines("ip", "-o", "netns", "list"),
        "links": {line.split(":")[1].strip().split("@")[0] for line in _lines("ip", "-o", "link", "show")},
        "addresses": {" ".join(line.split()[1:4]) for line in _lines("ip", "-o", "address", "show")},
        "routes": _lines("ip", "route", "show", "table", "all"),
        "mounts": {line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()},
        "loop devices": _lines("losetup", "--list", "--noheadings", "--output", "NAME,BACK-FILE"),
        "firewall rules": _rules(),
        "processes": _processes(),
        "host names": set(Path("/etc/hosts").read_text(encoding="utf-8").splitlines()),
        "folders": {str(path) for root in ("/run/localcloud", "/var/lib/localcloud") for path in Path(root).glob("*")},
        "sysctl": _lines("sysctl", "-e", "net.ipv4.ip_forward", "net.bridge.bridge-nf-call-iptables"),
    }


def difference(before: dict[str, set[str]], after: dict[str, set[str]]) -> str:
    """What is there now and was not before, and the other way round.

    Returns:
        A line for each, the kind first; empty when nothing differs.
    """
    lines = []
    for kind, earlier in before.items():
        lines += [f"left behind, {kind}: {item}" for item in sorted(after[kind] - earlier)]
        lines += [f"taken away, {kind}: {item}" for item in sorted(earlier - after[kind])]
    return "\n".join(lines)
