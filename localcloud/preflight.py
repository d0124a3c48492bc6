"""What must hold before a cloud can start; every refusal names its fix."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import shutil
import subprocess
from pathlib import Path

from localcloud import settings as places
from localcloud.settings import CloudSettings, SettingsError

TOOLS = {
    "podman": "podman",
    "crun": "crun",
    "conmon": "conmon",
    "haproxy": "haproxy",
    "mmdebstrap": "mmdebstrap",
    "ip": "iproute2",
    "nft": "nftables",
    "losetup": "mount",
    "nsenter": "util-linux",
    "mkfs.ext4": "e2fsprogs",
}
"""Programs, and Debian's packages that have them."""

_LEAST_FREE = 3 * 1024**3
_LISTEN = "0A"


class PreflightError(RuntimeError):
    """The machine is not ready; the text names the fix."""


def check_machine() -> None:
    """Look for programs, root's rights and room on the disk.

    Raises:
        PreflightError: something is missing.
    """
    if os.geteuid() != 0:
        raise PreflightError("localcloud needs root for containers and networks; run it through sudo")
    # Debian's tools for root are not on every user's PATH.
    path = f"{os.environ.get('PATH', os.defpath)}:/usr/local/sbin:/usr/sbin:/sbin"
    os.environ["PATH"] = path
    missing = {tool: package for tool, package in TOOLS.items() if shutil.which(tool, path=path) is None}
    if missing:
        packages = " ".join(sorted(set(missing.values())))
        raise PreflightError(f"missing: {', '.join(missing)}; install with: sudo apt-get install {packages}")
    for directory in (places.CACHE_DIR, places.STATE_ROOT):
        existing = next(parent for parent in (directory, *directory.parents) if parent.exists())
        free = shutil.disk_usage(existing).free
        if free < _LEAST_FREE:
            raise PreflightError(
                f"{directory} has {free / 1024**3:.1f} GiB left and at least {_LEAST_FREE / 1024**3:.0f} are needed: "
                "free some room on that disk (`df -h`, `apt-get clean`)"
            )


def check_network(settings: CloudSettings) -> None:
    """Look for clashes with the host's routes, other clouds and other programs' ports.

    Raises:
        PreflightError: something is in the way.
    """
    for other in known_clouds():
        if other.name != settings.name and other.network.overlaps(settings.network):
            raise PreflightError(
                f"the cloud {other.name!r} already uses {other.cidr}; use another network, "
                f"e.g. --cidr {free_cidr()}, or end it: localcloud down --name {other.name}"
            )
    for network, device in routes():
        if device != settings.bridge and network.overlaps(settings.network):
            raise PreflightError(
                f"this machine already has a route to {network} by {device}, which {settings.cidr} would hide; "
                f"use another network, e.g. --cidr {free_cidr()}"
            )
    ports = {
        settings.api_port: "--api-port",
        settings.naver_port: "--naver-port",
        settings.metadata_port: "the metadata service",
    }
    if len(ports) < 3:
        raise PreflightError("--api-port, --naver-port and the metadata service's port (16925) must differ")
    for port, option in ports.items():
        holder = listener(settings.gateway, port)
        if holder is not None:
            raise PreflightError(
                f"port {port} ({option}) is taken by {holder}, which listens on every address: "
                + (f"choose another one with {option}" if option.startswith("--") else "end that program")
            )


def known_clouds() -> list[CloudSettings]:
    """The clouds that are up, or were when they crashed."""
    clouds = []
    for path in sorted(places.RUN_ROOT.glob("[a-z]*/settings.json")):
        with contextlib.suppress(SettingsError, ValueError, TypeError):
            clouds.append(CloudSettings.load(path.parent.name))
    return clouds


def routes() -> list[tuple[ipaddress.IPv4Network, str]]:
    """The host's IPv4 routes, except default ones, each with its device."""
    text = subprocess.run(
        ["ip", "-json", "-4", "route", "show"], capture_output=True, text=True, check=True, timeout=10
    ).stdout
    return [
        (ipaddress.IPv4Network(route["dst"]), route.get("dev", "?"))
        for route in json.loads(text or "[]")
        if route["dst"] != "default"
    ]


def free_cidr() -> str:
    """A /16 that no route and no other cloud uses."""
    taken = [network for network, _ in routes()] + [cloud.network for cloud in known_clouds()]
    for second in range(201, 255):
        candidate = ipaddress.IPv4Network(f"10.{second}.0.0/16")
        if not any(candidate.overlaps(network) for network in taken):
            return str(candidate)
    return "172.31.0.0/16"


def listener(address: str, port: int) -> str | None:
    """Who listens on a TCP port at an address or at all of them, e.g. `nginx (pid 812)`; None when nobody does.

    Read from /proc/net/tcp and tcp6 (proc(5)), because the address need not exist yet.
    """
    own = "".join(f"{byte:02X}" for byte in reversed(ipaddress.IPv4Address(address).packed))
    addresses = {own, "00000000", "0" * 32, f"0000000000000000FFFF0000{own}"}
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        if not table.exists():
            continue
        for line in table.read_text(encoding="ascii").splitlines()[1:]:
            words = line.split()
            host, _, hex_port = words[1].partition(":")
            if words[3] == _LISTEN and int(hex_port, 16) == port and host in addresses:
                return _owner(words[9])
    return None


def _owner(inode: str) -> str:
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if any(str(link.readlink()) == f"socket:[{inode}]" for link in (entry / "fd").iterdir()):
                return f"{(entry / 'comm').read_text(encoding='utf-8').strip()} (pid {entry.name})"
        except OSError:
            continue
    return "another program"
