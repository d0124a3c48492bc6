"""Podman's one door: what it refuses, and with which advice."""

from __future__ import annotations

import os
import shutil
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
def test_podman_keeps_to_its_own_storage() -> None:
    shown = engine.podman("info", "--format={{.Store.GraphRoot}} {{.Host.CgroupsVersion}}").stdout.split()
    assert Path(shown[0]) == engine.STORAGE_DIR
    assert shown[1] == "v2"
