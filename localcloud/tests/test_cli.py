"""The command line's own decisions: what it refuses, what it finds, what it shows."""

from __future__ import annotations

import ipaddress
import json
import os
import socket
import time
from pathlib import Path

import pytest

from localcloud import cli, engine, preflight, process, settings, view
from localcloud.hosts_file import HostsFile
from localcloud.settings import CloudSettings


@pytest.fixture
def roots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(settings, "RUN_ROOT", tmp_path / "run")
    monkeypatch.setattr(settings, "STATE_ROOT", tmp_path / "state")
    monkeypatch.setattr(preflight, "routes", lambda: [(ipaddress.IPv4Network("192.0.2.0/24"), "eth0")])
    listener = preflight.listener

    def own(address: str, port: int) -> str | None:
        """Leave out what others have on this machine, such as a cloud with the default ports."""
        holder = listener(address, port)
        return holder if holder is not None and holder.endswith(f"(pid {os.getpid()})") else None

    monkeypatch.setattr(preflight, "listener", own)
    return tmp_path


def test_a_network_of_another_cloud_is_refused_with_a_free_one(roots: Path) -> None:
    CloudSettings(name="one").save()
    with pytest.raises(preflight.PreflightError, match=r"'one' already uses 10\.201.*--cidr 10\.202\.0\.0/16"):
        preflight.check_network(CloudSettings(name="two"))
    preflight.check_network(CloudSettings(name="two", cidr="10.202.0.0/16"))
    preflight.check_network(CloudSettings(name="one"))


def test_a_route_of_the_host_is_refused(roots: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "routes", lambda: [(ipaddress.IPv4Network("10.0.0.0/8"), "tun0")])
    with pytest.raises(preflight.PreflightError, match=r"route to 10\.0\.0\.0/8 by tun0"):
        preflight.check_network(CloudSettings())


def test_a_port_somebody_has_everywhere_is_refused_with_its_holder(roots: Path) -> None:
    with socket.create_server(("0.0.0.0", 0)) as taken:  # noqa: S104 - that is the case under test
        port = taken.getsockname()[1]
        with pytest.raises(preflight.PreflightError, match=rf"port {port} \(--api-port\) is taken by .*\(pid \d+\)"):
            preflight.check_network(CloudSettings(api_port=port))
    preflight.check_network(CloudSettings(api_port=port))


def test_a_port_on_loopback_only_is_no_clash(roots: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        preflight.check_network(CloudSettings(api_port=taken.getsockname()[1]))


def test_a_metric_period_of_nothing_is_refused() -> None:
    with pytest.raises(settings.SettingsError, match="--metric-period 0"):
        CloudSettings(metric_period=0)


def test_equal_ports_are_refused(roots: Path) -> None:
    with pytest.raises(preflight.PreflightError, match="must differ"):
        preflight.check_network(CloudSettings(api_port=8088))


def test_a_missing_program_is_named_with_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "TOOLS", {"no-such-podman": "podman"})
    monkeypatch.setattr("os.geteuid", lambda: 0)
    with pytest.raises(preflight.PreflightError, match="missing: no-such-podman; .*apt-get install podman"):
        preflight.check_machine()


def test_a_full_disk_is_named(roots: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "TOOLS", {})
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(preflight, "_LEAST_FREE", 1 << 60)
    with pytest.raises(preflight.PreflightError, match=r"GiB left and at least .* are needed"):
        preflight.check_machine()


def test_hosts_file_touches_its_own_lines_only(tmp_path: Path) -> None:
    path = tmp_path / "hosts"
    path.write_text("127.0.0.1 localhost\n10.202.0.9 x.elb.two.internal # localcloud two\n", encoding="utf-8")
    before = path.read_text(encoding="utf-8")
    file = HostsFile(CloudSettings(name="one"), path)
    file.apply({"b.elb.one.internal": "10.201.0.9", "a.elb.one.internal": "10.201.0.8"})
    assert path.read_text(encoding="utf-8") == before + (
        "10.201.0.8 a.elb.one.internal # localcloud one\n10.201.0.9 b.elb.one.internal # localcloud one\n"
    )
    assert HostsFile(CloudSettings(name="one"), path).remove() == 2
    assert path.read_text(encoding="utf-8") == before


def test_up_refuses_other_settings_and_accepts_the_same(
    roots: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(process, "running_pid", lambda _: 4711)
    one = CloudSettings(name="one")
    one.save()
    assert cli.main(["up", "--name", "one"]) == 1
    assert "its daemon hangs" in capsys.readouterr().err
    process.Files.of(one).status.write_text(json.dumps({"beat": time.time()}), encoding="utf-8")
    assert cli.main(["up", "--name", "one"]) == 0
    assert "is up already" in capsys.readouterr().out
    assert cli.main(["up", "--name", "one", "--api-port", "4567"]) == 1
    assert "is up with other settings" in capsys.readouterr().err


def test_two_commands_on_one_cloud_at_once_are_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    with cli._alone("one"):
        assert cli.main(["down", "--name", "one"]) == 1
        with cli._alone("two"):
            pass
    assert "another command is starting or ending the cloud 'one'" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["status", "logs", "ssh"])
def test_no_cloud_is_a_clear_message(
    roots: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert cli.main([command, *(["DB-Server"] if command == "ssh" else [])]) == 1
    assert "no local cloud named 'memo' is up; start it with: localcloud up" in capsys.readouterr().err


def test_an_engine_error_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def refuse() -> None:
        raise engine.EngineError("no cgroup v2 here")

    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(preflight, "check_machine", refuse)
    assert cli.main(["images"]) == 1
    assert capsys.readouterr().err == "localcloud: no cgroup v2 here\n"


def test_not_root_goes_through_sudo(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    sudo = tmp_path / "sudo"
    sudo.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked\nexit 7\n', encoding="utf-8")
    sudo.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert cli.main(["down", "--name", "one"]) == 7
    assert (tmp_path / "asked").read_text(encoding="utf-8").strip().endswith("-m localcloud down --name one")


INSTANCES = [
    {"id": "i-0a1", "name": "DB-Server", "ip": "10.201.0.10", "state": "running"},
    {"id": "i-0b2", "name": "web", "ip": "10.201.0.11", "state": "running"},
    {"id": "i-0c3", "name": "web", "ip": "10.201.0.12", "state": "running"},
    {"id": "i-0d4", "name": "DB-Server", "ip": "10.201.0.13", "state": "shutting-down"},
]


@pytest.mark.parametrize("wanted", ["i-0a1", "DB-Server", "10.201.0.10", "i-0a"])
def test_ssh_finds_an_instance(wanted: str) -> None:
    assert cli._find_instance(INSTANCES, wanted)["id"] == "i-0a1"


@pytest.mark.parametrize(("wanted", "said"), [("web", "more than one"), ("nobody", "not one of the running")])
def test_ssh_says_what_there_is(wanted: str, said: str) -> None:
    with pytest.raises(cli.CommandError, match=f"{said}.*i-0b2"):
        cli._find_instance(INSTANCES, wanted)


def test_the_table_has_every_part(roots: Path) -> None:
    launched = "2026-11-22T00:00:00+00:00"
    data = {
        "cloud": "memo",
        "cidr": "10.201.0.0/16",
        "api": "http://10.201.0.1:4566",
        "naver": "http://10.201.0.1:8088",
        "instances": [
            {**INSTANCES[0], "image": "ami-1", "group": "", "launched": launched},
            {**INSTANCES[1], "image": "ami-2", "group": "fleet", "launched": launched},
        ],
        "images": [{"id": "ami-1", "name": "debian", "state": "available", "created": "2026-11-22T00:00:00.000Z"}],
        "groups": [
            {
                "name": "fleet",
                "min": 1,
                "max": 2,
                "desired": 1,
                "instances": [{"id": "i-0b2", "state": "InService", "health": "Healthy"}],
            }
        ],
        "target_groups": [
            {
                "name": "web",
                "targets": [
                    {
                        "target": "i-0b2:80",
                        "state": "unhealthy",
                        "reason": "Target.Timeout",
                        "description": "Request timed out",
                    }
                ],
            }
        ],
        "urls": ["http://lb.elb.memo.internal/"],
        "daemon": {
            "pid": 1,
            "running": True,
            "stale": False,
            "troubles": [{"at": launched, "where": "volumes", "text": "no room"}],
        },
    }
    shown = view.table(json.loads(json.dumps(data)))
    for word in ("DB-Server", "fleet", "ami-1", "InService", "Request timed out", "http://lb", "volumes: no room"):
        assert word in shown
    data["daemon"] = {"running": False, "stale": True}
    assert "THE DAEMON IS NOT RUNNING" in view.table(data)
