"""Podman, called in the one way that works on this machine.

All of localcloud's containers and images live in a storage of their own (below the image cache), so
that the user's own containers are neither seen nor touched. On an ordinary systemd machine with
cgroup v2 podman is called as it is. Two kinds of machine need help (measured, see `docs/`):

* `/sys/fs/cgroup` is not cgroup2 (the hybrid layout): crun refuses to start anything. Podman then runs
  inside a private mount namespace that sees only cgroup2. All podman calls must go through that
  namespace while a container lives, hence one function for everybody.
* Root lacks CAP_SYS_RESOURCE: raising resource limits fails, so podman is given limits that need no raising.

Run podman by hand with `python -m localcloud.engine podman ps -a`.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from .settings import CACHE_DIR, RUN_ROOT

STORAGE_DIR = CACHE_DIR / "storage"
ENGINE_DIR = RUN_ROOT / ".engine"
"""Run-time files; no cloud can have this name, because a cloud's name begins with a letter."""

_NAMESPACE = ENGINE_DIR / "mount-namespace"
_CONTAINERS_CONF = ENGINE_DIR / "containers.conf"
_STORAGE_CONF = ENGINE_DIR / "storage.conf"
_MOUNTED_NETNS = RUN_ROOT / ".mounted-run-netns"
"""Its presence says that /run/netns became a mount because of us."""

_LOCK = RUN_ROOT / ".engine.lock"
_CGROUP = Path("/sys/fs/cgroup")
_NETNS_DIR = Path("/run/netns")
_CAP_SYS_RESOURCE = 24
_TOOLS = {
    "podman": "podman",
    "crun": "crun",
    "conmon": "conmon",
    "ip": "iproute2",
    "nft": "nftables",
    "losetup": "mount",
    "nsenter": "util-linux",
    "mkfs.ext4": "e2fsprogs",
}
"""Programs needed to run instances, and Debian's packages that have them."""


class EngineError(RuntimeError):
    """The machine cannot do what is asked; the text names the fix."""


def run(
    *command: str, input: bytes | None = None, timeout: float = 60, check: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run a program of the machine and collect what it says.

    Args:
        command: the program and its arguments.
        input: what it reads.
        timeout: seconds until it is killed.
        check: raise when it fails.

    Returns:
        The finished process, output and errors as text.

    Raises:
        EngineError: it is not installed, failed or did not end in time.
    """
    try:
        done = subprocess.run(command, input=input, capture_output=True, timeout=timeout, check=False)
    except FileNotFoundError as error:
        package = _TOOLS.get(command[0], command[0])
        raise EngineError(f"{command[0]} is missing; install it with: sudo apt-get install {package}") from error
    except subprocess.TimeoutExpired as error:
        raise EngineError(f"{' '.join(command)} did not end within {timeout:.0f} s") from error
    result = subprocess.CompletedProcess(
        done.args, done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
    )
    if check and result.returncode != 0:
        raise EngineError(f"{' '.join(command)} failed ({result.returncode}): {_last_words(result)}")
    return result


def _last_words(result: subprocess.CompletedProcess[str]) -> str:
    return (result.stderr.strip() or result.stdout.strip() or "it said nothing")[-2000:]


def podman(
    *args: str, input: bytes | None = None, timeout: float = 300, check: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run podman on localcloud's own storage.

    Args:
        args: podman's arguments, e.g. `"ps", "-a"`.
        input: what it reads.
        timeout: seconds until it is killed.
        check: raise when it fails.

    Returns:
        The finished process, output and errors as text.

    Raises:
        EngineError: podman failed, or the machine cannot run it; the text names the fix.
    """
    with _in_use():
        environment, command = _command()
        return run("env", *environment, *command, *args, input=input, timeout=timeout, check=check)


def run_inside(*command: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    """Run a program where podman's mounts can be seen.

    Args:
        command: the program and its arguments.
        timeout: seconds until it is killed.

    Returns:
        The finished process, output and errors as text.

    Raises:
        EngineError: it failed, or the machine cannot run podman.
    """
    with _in_use():
        return run(*_wrapper(), *command, timeout=timeout)


def _wrapper() -> list[str]:
    return [] if _has_cgroup2() else ["nsenter", f"--mount={_NAMESPACE}", f"--wd={Path.cwd()}"]


def _command() -> tuple[list[str], list[str]]:
    """The environment (`NAME=value`) and the beginning of every podman command."""
    wrapper = _wrapper()
    return (
        [f"CONTAINERS_CONF={_CONTAINERS_CONF}", f"CONTAINERS_STORAGE_CONF={_STORAGE_CONF}"],
        [*wrapper, "podman", f"--root={STORAGE_DIR}", f"--runroot={ENGINE_DIR / 'containers'}",
         f"--tmpdir={ENGINE_DIR / 'libpod'}", "--storage-driver=overlay"],
    )  # fmt: skip


def prepare() -> None:
    """Make the machine able to run podman for us; does nothing when it already is.

    Raises:
        EngineError: it cannot be; the text names the fix.
    """
    if os.geteuid() != 0:
        raise EngineError("localcloud needs root for containers and networks; run it through sudo")
    missing = [tool for tool in _TOOLS if shutil.which(tool) is None]
    if missing:
        packages = " ".join(sorted({_TOOLS[tool] for tool in missing}))
        raise EngineError(f"missing: {', '.join(missing)}; install with: sudo apt-get install {packages}")
    if _is_prepared():
        return
    with _locked(fcntl.LOCK_EX):
        if not _is_prepared():
            _build()


def _is_prepared() -> bool:
    return _CONTAINERS_CONF.is_file() and (_has_cgroup2() or _is_mounted(_NAMESPACE))


def _build() -> None:
    """Write the configuration and make the mount namespace. The lock is held."""
    ENGINE_DIR.mkdir(parents=True, exist_ok=True)
    STORAGE_DIR.mkdir(parents=True, exist_ok=True)
    # Nothing of ours can be running without the namespace: what /run still says is from before a reboot.
    for stale in (ENGINE_DIR / "containers", ENGINE_DIR / "libpod"):
        if stale.exists():
            shutil.rmtree(stale)
    _share_netns()
    if not _has_cgroup2():
        _make_namespace()
    _STORAGE_CONF.write_text(
        f'[storage]\ndriver = "overlay"\ngraphroot = "{STORAGE_DIR}"\nrunroot = "{ENGINE_DIR / "containers"}"\n',
        encoding="utf-8",
    )
    # Last, because its presence says that all is ready.
    _CONTAINERS_CONF.write_text(_configuration(), encoding="utf-8")


def _configuration() -> str:
    # An instance limits its processes itself; some machines have no pids controller at all.
    containers = ["[containers]", "pids_limit = 0"]
    if not _has_capability(_CAP_SYS_RESOURCE):
        # podman's own defaults lie above this machine's hard limits, and cannot be reached.
        files = min(resource.getrlimit(resource.RLIMIT_NOFILE)[1], 16384)
        processes = min(resource.getrlimit(resource.RLIMIT_NPROC)[1], 16384)
        containers.append(f'default_ulimits = ["nofile={files}:{files}", "nproc={processes}:{processes}"]')
    # File locks instead of the default shared memory segment, which the user's own podman uses as well.
    engine = ["[engine]", 'runtime = "crun"', 'lock_type = "file"']
    if not Path("/run/systemd/system").is_dir():
        engine += ['cgroup_manager = "cgroupfs"', 'events_logger = "file"']
    return "\n".join([*containers, *engine, ""])


def _make_namespace() -> None:
    """A mount namespace with cgroup2 on /sys/fs/cgroup, held by a bind mount."""
    # A namespace can be bound only below a private mount (unshare(1)).
    if not _is_mounted(ENGINE_DIR):
        run("mount", "--bind", str(ENGINE_DIR), str(ENGINE_DIR))
        run("mount", "--make-private", str(ENGINE_DIR))
    _NAMESPACE.touch()
    try:
        run(
            "unshare", f"--mount={_NAMESPACE}", "--propagation", "slave", "sh", "-c",
            f"umount -R {_CGROUP} && mount -t cgroup2 cgroup2 {_CGROUP}",
        )  # fmt: skip
    except EngineError as error:
        if _is_mounted(_NAMESPACE):
            run("umount", str(_NAMESPACE))
        raise EngineError(
            f"{error}\nThis machine has no cgroup v2 on {_CGROUP}, and none could be made in a private namespace. "
            "Boot it with systemd.unified_cgroup_hierarchy=1 on the kernel's command line."
        ) from error


def _share_netns() -> None:
    """Make /run/netns a shared mount, as ip-netns(8) does when it first needs it; we take it away again.

    Network namespaces are mounts below it, and only so are those made later seen inside the mount namespace.
    """
    _NETNS_DIR.mkdir(exist_ok=True)
    if not _is_mounted(_NETNS_DIR):
        run("mount", "--bind", str(_NETNS_DIR), str(_NETNS_DIR))
        _MOUNTED_NETNS.touch()
    run("mount", "--make-shared", str(_NETNS_DIR))


def release() -> None:
    """Undo `prepare` when no container is left and nobody is using podman; otherwise do nothing."""
    if not ENGINE_DIR.exists() and not _MOUNTED_NETNS.exists():
        return
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(_locked(fcntl.LOCK_EX | fcntl.LOCK_NB))
        except BlockingIOError:
            return
        if _is_prepared():
            environment, command = _command()
            if run("env", *environment, *command, "ps", "--all", "--quiet").stdout.strip():
                return
        _CONTAINERS_CONF.unlink(missing_ok=True)
        _unmount_below(ENGINE_DIR)
        # Podman's own bind mount, where it runs without our namespace.
        _unmount_below(STORAGE_DIR)
        if ENGINE_DIR.exists():
            shutil.rmtree(ENGINE_DIR)
        if _MOUNTED_NETNS.exists() and not any(_NETNS_DIR.iterdir()):
            if _is_mounted(_NETNS_DIR):
                run("umount", str(_NETNS_DIR))
            _MOUNTED_NETNS.unlink()


def _unmount_below(directory: Path) -> None:
    """Unmount the directory and everything in it, the last mounted first."""
    for mount_point in reversed(_mounts()):
        if mount_point == directory or directory in mount_point.parents:
            run("umount", str(mount_point))


def _mounts() -> list[Path]:
    """The mount points of this process, in the order of mounting (proc_pid_mountinfo(5))."""
    lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    return [Path(line.split()[4].replace("\\040", " ")) for line in lines]


def _is_mounted(path: Path) -> bool:
    return path in _mounts()


def _has_cgroup2() -> bool:
    """Whether /sys/fs/cgroup is cgroup2 for this process."""
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
        before, _, after = line.partition(" - ")
        if before.split()[4] == str(_CGROUP):
            return after.split()[0] == "cgroup2"
    return False


def _has_capability(number: int) -> bool:
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> number & 1)
    return False


@contextlib.contextmanager
def _locked(operation: int) -> Iterator[None]:
    """Hold the engine's lock: shared while podman runs, exclusive while the namespace is made or removed."""
    RUN_ROOT.mkdir(parents=True, exist_ok=True)
    with _LOCK.open("a", encoding="utf-8") as lock:
        fcntl.flock(lock, operation)
        yield


@contextlib.contextmanager
def _in_use() -> Iterator[None]:
    """Prepared, and kept so until the end of the block."""
    while True:
        prepare()
        with _locked(fcntl.LOCK_SH):
            if _is_prepared():
                yield
                return


def main(arguments: list[str]) -> int:
    """Run podman by hand: `python -m localcloud.engine podman ARGUMENT…`.

    Args:
        arguments: the command line without the program's name.

    Returns:
        podman's exit status, 2 for a wrong command line and 1 when the machine cannot run it.
    """
    if not arguments or arguments[0] != "podman":
        print("usage: python -m localcloud.engine podman ARGUMENT…", file=sys.stderr)
        return 2
    try:
        with _in_use():
            environment, command = _command()
            return subprocess.run(["env", *environment, *command, *arguments[1:]], check=False).returncode
    except EngineError as error:
        print(f"localcloud: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
