"""Builds: what they leave behind when they fail, and what they say meanwhile."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
import tarfile
import time
from collections import namedtuple
from pathlib import Path

import pytest

from localcloud import build
from localcloud.engine import EngineError


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(build, "CACHE_DIR", tmp_path)
    return tmp_path


def test_archive_belongs_to_root_and_does_not_depend_on_order() -> None:
    made = build.archive({"etc/b": b"text", "etc/a": "target", "bin/x": b"#!"}, executable=["bin/x"])
    assert made == build.archive({"bin/x": b"#!", "etc/a": "target", "etc/b": b"text"}, executable=["bin/x"])
    with tarfile.open(fileobj=io.BytesIO(made)) as tar:
        entries = {entry.name: entry for entry in tar}
    assert {(entry.uid, entry.gid) for entry in entries.values()} == {(0, 0)}
    assert entries["etc/a"].linkname == "target"
    assert entries["bin/x"].mode == 0o755
    assert entries["etc/b"].mode == 0o644


def test_workshop_is_empty_at_first_and_gone_afterwards(cache: Path) -> None:
    (cache / "build-thing").mkdir()
    (cache / "build-thing" / "of-a-killed-build").touch()
    with build.workshop("thing", 0.001) as directory:
        assert list(directory.iterdir()) == []
        (directory / "half").touch()
    assert not directory.exists()


def test_full_disk_is_told_before_work_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage(2**40, 2**40, 2**29))
    with (
        pytest.raises(EngineError, match=r"has 0.5 GiB free, and building thing needs 2 GiB"),
        build.workshop("thing", 2),
    ):
        pass


def test_long_command_reports_and_quotes_its_last_words(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "_REPORT_EVERY", 0.1)
    said: list[str] = []
    heard = cache / "heard"

    def report(line: str) -> None:
        said.append(line)
        if len(said) == 3:
            heard.touch()

    # It ends when two reports of it have been heard, however long they take.
    build.run_reporting(["sh", "-c", f"until [ -e {heard} ]; do sleep 0.05; done"], report, "thing")
    assert said[0] == "thing …"
    assert len(said) >= 4
    assert all(re.fullmatch(r"thing … \d+ s", line) for line in said[1:-1])
    assert re.fullmatch(r"thing: done in \d+ s", said[-1])
    with pytest.raises(EngineError, match=r"(?s)thing: sh failed \(4\).*the reason"):
        build.run_reporting(["sh", "-c", "echo the reason; exit 4"], said.append, "thing")


def test_missing_keyring_names_its_package(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "KEYRING", cache / "none.gpg")
    monkeypatch.setattr("shutil.which", lambda _: "/usr/bin/mmdebstrap")
    with pytest.raises(EngineError, match="apt-get install debian-archive-keyring"):
        build.debian_root(cache / "x.tar", "trixie", ["a"], report=print, what="x")


@pytest.mark.machine
@pytest.mark.slow
def test_killed_build_leaves_no_process_and_no_mount(cache: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from localcloud import build; "
        "build.debian_root(Path(sys.argv[1]), 'trixie', ['ca-certificates'], report=print, what='x')"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(cache / "x.tar")], cwd=Path(build.__file__).parent.parent
    )
    deadline = time.monotonic() + 60
    while (
        not list(cache.glob("tmp-*/mmdebstrap.*/var/lib/dpkg"))
        and process.poll() is None
        and time.monotonic() < deadline
    ):
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    # A time of its own: the one above may be over, where packages come slowly.
    deadline = time.monotonic() + 60
    while _users_of(cache) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert _users_of(cache) == []
    assert str(cache) not in Path("/proc/self/mounts").read_text(encoding="utf-8")
    assert not (cache / "x.tar").exists()


def _users_of(directory: Path) -> list[str]:
    """The processes whose command line names the directory."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except (FileNotFoundError, ProcessLookupError):
                continue
            if str(directory) in line:
                found.append(line)
    return found
