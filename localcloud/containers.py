"""One instance's container: how it starts so that it resembles a virtual machine, and how it stops.

A container is initialised, then prepared from outside, then started. In between its file system
and namespaces exist while its first process waits. So the instance finds its disks at boot, and none of the host's.
"""

from __future__ import annotations

import fcntl
import os
import select
import stat
from collections.abc import Mapping
from pathlib import Path

from .engine import EngineError, podman, run
from .settings import RUN_ROOT, CloudSettings

CLOUD_LABEL = "localcloud"
"""The label that names the cloud; how containers, volumes and images are found again."""

_STOP_SECONDS = 60
_CLEAN_UP_SECONDS = 60.0


def name(settings: CloudSettings, instance_id: str) -> str:
    """The container's name, unique among all clouds."""
    return f"{settings.name}-{instance_id}"


def running_pid(container: str) -> int | None:
    """The process id of the container's first process; None unless it runs."""
    result = podman("container", "inspect", "--format={{.State.Status}} {{.State.Pid}}", container, check=False)
    status, _, process = result.stdout.strip().partition(" ")
    return int(process) if status == "running" else None


def cpu_seconds(process: int) -> float | None:
    """The CPU time that a container and everything in it has used since it started.

    Read in the container's own view of cgroup v2 (Linux, "Control Group v2", cpu.stat): its mount there begins at its
    own group, wherever the host keeps that, and `usage_usec` is counted even where the cpu controller is missing.

    Args:
        process: the container's first process.

    Returns:
        Seconds, of all CPUs together; None when it does not run any more.
    """
    try:
        lines = Path(f"/proc/{process}/root/sys/fs/cgroup/cpu.stat").read_text(encoding="ascii").splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return None
    used = dict(line.split() for line in lines)
    return int(used["usage_usec"]) / 1e6


def boot(container: str, nodes: Mapping[str, int]) -> None:
    """Start a container; does nothing when it runs, so that two who see it stopped do no harm.

    Args:
        container: its name.
        nodes: the block devices it has: device number (makedev(3)) by path.

    Raises:
        EngineError: it cannot be started.
    """
    RUN_ROOT.mkdir(parents=True, exist_ok=True)
    with (RUN_ROOT / ".boot.lock").open("a", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if running_pid(container) is None:
            # With the lock, so that what looks like a boot that broke off is not one that is under way.
            _await_clean_up(container)
            _boot(container, nodes)


def _await_clean_up(container: str) -> None:
    """Wait until podman has cleaned up after the container's end.

    Its monitor does that by a podman of its own and ends afterwards (conmon, `--exit-command`). That podman does not
    care that the container has been initialised again meanwhile, and would undo it (podman 4.3, measured).
    """
    wanted = "--format={{.State.Status}}\t{{.Id}}\t{{.ConmonPidFile}}"
    status, identity, file = podman("container", "inspect", wanted, container).stdout.strip().split("\t")
    if not file:
        return
    if status == "initialized":
        # A boot that broke off: what it has made is undone, its monitor ends with it.
        podman("container", "cleanup", container)
    try:
        process = int(Path(file).read_text(encoding="ascii"))
        monitor = os.pidfd_open(process)
    except (FileNotFoundError, ProcessLookupError):
        return
    try:
        # The number may be another process' by now.
        if identity.encode() not in Path(f"/proc/{process}/cmdline").read_bytes():
            return
        over, _, _ = select.select([monitor], [], [], _CLEAN_UP_SECONDS)
    except (FileNotFoundError, ProcessLookupError):
        return
    finally:
        os.close(monitor)
    if not over:
        raise EngineError(f"podman is still cleaning up after {container}; see: ps -fp {process}")


def _boot(container: str, nodes: Mapping[str, int]) -> None:
    podman("init", container)
    process = int(podman("container", "inspect", "--format={{.State.Pid}}", container).stdout)
    hide_host_devices(process)
    for device, number in nodes.items():
        make_node(process, device, number)
    # A read-only /sys is how systemd knows that no udev will announce devices, so that it mounts them without
    # waiting (systemd's container interface). /etc/hostname is podman's mount, in the way of whoever sets it.
    run(
        "nsenter", f"--target={process}", "--mount", "--root", "--wd=/", "sh", "-c",
        "mount -o remount,bind,ro /sys && { ! mountpoint -q /etc/hostname || umount /etc/hostname; }",
    )  # fmt: skip
    podman("start", container)


def shut_down(container: str) -> None:
    """Stop a container as a virtual machine is told to shut down; by force after a minute."""
    podman("stop", "--time", str(_STOP_SECONDS), container, timeout=_STOP_SECONDS + 60)


def hide_host_devices(process: int) -> None:
    """Remove the host's disks from a privileged container's /dev; it has no business with them."""
    for node in Path(f"/proc/{process}/root/dev").iterdir():
        if stat.S_ISBLK(node.lstat().st_mode):
            node.unlink()


def make_node(process: int, device: str, number: int) -> None:
    """Make a block device appear in a container.

    Args:
        process: the container's first process.
        device: its path inside, e.g. `/dev/xvdf`.
        number: major and minor number in one (makedev(3)).
    """
    node = Path(f"/proc/{process}/root{device}")
    node.unlink(missing_ok=True)
    os.mknod(node, stat.S_IFBLK | 0o660, number)


def remove_node(process: int, device: str) -> None:
    """Make a block device disappear from a container."""
    Path(f"/proc/{process}/root{device}").unlink(missing_ok=True)
