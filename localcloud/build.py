"""Debian root file systems from packages, made without leaving anything behind when they are interrupted."""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import shutil
import signal
import subprocess
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from .engine import EngineError
from .settings import CACHE_DIR

Report = Callable[[str], None]

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
MIRROR_VARIABLE = "LOCALCLOUD_DEBIAN_MIRROR"
"""The environment variable that names another Debian mirror than Debian's own."""

_REPORT_EVERY = 10.0


@contextlib.contextmanager
def workshop(name: str, space_gib: float) -> Iterator[Path]:
    """A directory for a build that only one process has, empty in the beginning and gone in the end.

    Args:
        name: what is built; others who build the same wait.
        space_gib: how much disk the build needs.

    Raises:
        EngineError: the disk is too full.
    """
    CACHE_DIR.mkdir(parents=True, exist_ok=True)
    directory = CACHE_DIR / f"build-{name}"
    with (CACHE_DIR / f".{name}.lock").open("w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # Of a build that was killed. Its mounts went with its namespace.
        if directory.exists():
            shutil.rmtree(directory)
        free_gib = shutil.disk_usage(CACHE_DIR).free / 2**30
        if free_gib < space_gib:
            raise EngineError(
                f"{CACHE_DIR} has {free_gib:.1f} GiB free, and building {name} needs {space_gib:g} GiB; make room there"
            )
        directory.mkdir()
        try:
            yield directory
        finally:
            shutil.rmtree(directory)


def debian_root(
    target: Path, suite: str, packages: Sequence[str], *, options: Sequence[str] = (), report: Report, what: str
) -> None:
    """Make a root file system with mmdebstrap.

    Args:
        target: the tar to write; complete, or not there.
        suite: Debian's suite, e.g. `trixie`.
        packages: what it has besides the essential packages.
        options: further options of mmdebstrap, such as hooks.
        report: told every few seconds what is going on.
        what: what is built, in words.

    Raises:
        EngineError: it cannot be made; the text names the fix, or has mmdebstrap's last words.
    """
    if shutil.which("mmdebstrap") is None:
        raise EngineError("mmdebstrap is missing; install it with: sudo apt-get install mmdebstrap")
    if not KEYRING.is_file():
        raise EngineError(f"{KEYRING} is missing; install it with: sudo apt-get install debian-archive-keyring")
    mirror = os.environ.get(MIRROR_VARIABLE)
    part = target.with_name(target.name + ".part")
    with tempfile.TemporaryDirectory(dir=target.parent, prefix="tmp-") as scratch:
        command = [
            # It dies with us, in namespaces of its own: mounts and processes vanish however this ends.
            "setpriv", "--pdeathsig", "KILL",
            "unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc",
            "mmdebstrap", "--mode=root", "--format=tar", "--variant=minbase", f"--include={','.join(packages)}",
            *options, suite, str(part), *([mirror] if mirror else []),
        ]  # fmt: skip
        run_reporting(command, report, what, environment={"TMPDIR": scratch})
    part.rename(target)


def run_reporting(
    command: Sequence[str], report: Report, what: str, *, environment: dict[str, str] | None = None
) -> None:
    """Run a long command, and say now and then that it still runs.

    Args:
        command: the program and its arguments.
        report: told every ten seconds what is going on.
        what: what it is doing, in words.
        environment: variables besides this process' own.

    Raises:
        EngineError: it failed; with its last words.
    """
    began = time.monotonic()
    report(f"{what} …")
    process = subprocess.Popen(
        command,
        env={**os.environ, "LC_ALL": "C.UTF-8", **(environment or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    words: list[bytes] = []
    # Read on the side, so that a silent command does not keep us from reporting.
    reader = threading.Thread(target=lambda: words.extend(process.stdout or ()), daemon=True)
    reader.start()
    try:
        while True:
            try:
                process.wait(timeout=_REPORT_EVERY)
                break
            except subprocess.TimeoutExpired:
                report(f"{what} … {time.monotonic() - began:.0f} s")
    finally:
        # We are interrupted: nothing of the build may go on.
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    reader.join()
    if process.returncode != 0:
        tail = b"".join(words[-15:]).decode(errors="replace").strip()
        raise EngineError(f"{what}: {command[0]} failed ({process.returncode}).\n{tail}")
    report(f"{what}: done in {time.monotonic() - began:.0f} s")


def archive(entries: dict[str, bytes | str], executable: Sequence[str] = ()) -> bytes:
    """A tar of files that all belong to root, whoever owns the checkout.

    Args:
        entries: content by path, without a leading slash; text is a symbolic link's target.
        executable: the paths of programs.

    Returns:
        The tar; the same for the same entries.
    """
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for path, content in sorted(entries.items()):
            entry = tarfile.TarInfo(path)
            if isinstance(content, str):
                entry.type, entry.linkname = tarfile.SYMTYPE, content
                tar.addfile(entry)
            else:
                entry.size, entry.mode = len(content), 0o755 if path in executable else 0o644
                tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def host_certificates() -> dict[str, bytes]:
    """The machine's own certification authorities, by path in a root file system.

    Behind a company's proxy nothing can be fetched over HTTPS without them.
    """
    folder = Path("/usr/local/share/ca-certificates")
    return {
        f"usr/local/share/ca-certificates/host-{'-'.join(path.relative_to(folder).parts)}": path.read_bytes()
        for path in sorted(folder.rglob("*.crt"))
    }
