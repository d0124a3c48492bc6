"""Podman's one door: what it refuses, and with which advice."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest

from localcloud import engine


def test_not_root_names_the_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(engine.EngineError, match="sudo"):
        engine.prepare()


def test_missing_podman_names_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    found = shutil.which
    monkeypatch.setattr(shutil, "which", lambda tool: None if tool in {"podman", "nft"} else found(tool))
    with pytest.raises(engine.EngineError, match=r"sudo apt-get install .*nftables.* podman"):
        engine.prepare()


def test_program_that_fails_is_quoted() -> None:
    with pytest.raises(engine.EngineError, match=r"failed \(3\): no luck"):
        engine.run("sh", "-c", "echo no luck >&2; exit 3")


def test_program_that_hangs_is_ended() -> None:
    with pytest.raises(engine.EngineError, match="did not end within"):
        engine.run("sleep", "60", timeout=0.1)


def test_missing_program_names_its_package() -> None:
    with pytest.raises(engine.EngineError, match="no-such-program is missing"):
        engine.run("no-such-program")


def test_command_line_wants_podman(capsys: pytest.CaptureFixture[str]) -> None:
    assert engine.main(["docker"]) == 2
    assert "usage" in capsys.readouterr().err


@pytest.mark.machine
@pytest.mark.parametrize("cgroup2", [True, False])
def test_prepare_and_release_leave_no_mount(monkeypatch: pytest.MonkeyPatch, cgroup2: bool) -> None:
    # Podman wants short paths.
    with tempfile.TemporaryDirectory(prefix="lc-") as directory:
        check_prepare_and_release(Path(directory), monkeypatch, cgroup2)


def mounts(folder: Path) -> list[str]:
    """The mounts on or of something in a folder; those elsewhere come and go with other clouds' instances."""
    lines = Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if str(folder) in line]


def check_prepare_and_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cgroup2: bool) -> None:
    run = tmp_path / "run"
    places = {
        "RUN_ROOT": run,
        "STORAGE_DIR": tmp_path / "storage",
        "ENGINE_DIR": run / ".engine",
        "_NAMESPACE": run / ".engine/mount-namespace",
        "_CONTAINERS_CONF": run / ".engine/containers.conf",
        "_STORAGE_CONF": run / ".engine/storage.conf",
        "_MOUNTED_NETNS": run / ".mounted-run-netns",
        "_LOCK": run / ".engine.lock",
        "_NETNS_DIR": tmp_path / "netns",
    }
    for name, place in places.items():
        monkeypatch.setattr(engine, name, place)
    monkeypatch.setattr(engine, "_has_cgroup2", lambda: cgroup2)
    assert mounts(tmp_path) == []
    engine.prepare()
    assert any(str(tmp_path / "netns") in line for line in mounts(tmp_path))
    assert engine.podman("ps", "--all", "--quiet").stdout == ""
    engine.release()
    assert mounts(tmp_path) == []
    assert not (run / ".engine").exists()
    engine.release()


@pytest.mark.machine
def test_podman_keeps_to_its_own_storage() -> None:
    shown = engine.podman("info", "--format={{.Store.GraphRoot}} {{.Host.CgroupsVersion}}").stdout.split()
    assert Path(shown[0]) == engine.STORAGE_DIR
    assert shown[1] == "v2"
