"""The load balancer, with a real HAProxy on loopback addresses and small HTTP servers as targets."""

from __future__ import annotations

import http.client
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from localcloud import settings as settings_module
from localcloud.balancer import Balancer, remove_leftovers
from localcloud.model import (
    DesiredListener,
    DesiredLoadBalancer,
    DesiredTarget,
    DesiredTargetGroup,
    HealthCheck,
    HealthState,
)
from localcloud.settings import CloudSettings
from localcloud.tests.ports import bound

pytestmark = pytest.mark.machine

ARN = "arn:aws:elasticloadbalancing:ap-northeast-2:123456789012:targetgroup/web/1"
HOST = "127.0.53.1"
LONGEST_WAIT = 60
"""Seconds; for what never happens."""


class _Server(ThreadingHTTPServer):
    """Says nothing of clients who hang up: the balancer's probes do, as soon as they know enough."""

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - as socketserver has it
        if not isinstance(sys.exception(), ConnectionResetError):
            super().handle_error(request, client_address)


class Target:
    """An HTTP server on an address of its own that tells what it was asked."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.alive = 200
        self.release = threading.Event()
        target = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                if self.path == "/slow":
                    target.release.wait(LONGEST_WAIT)
                status = {"/alive": target.alive, "/busy": 503}.get(self.path, 200)
                body = f"{target.address} from {self.client_address[0]}\n{self.headers}".encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = _Server((address, 0), Handler)
        self.port: int = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def desired(self) -> DesiredTarget:
        return DesiredTarget(f"i-{self.address}", self.address, self.port)

    def close(self) -> None:
        self.release.set()
        self.server.shutdown()
        self.server.server_close()


class Bridge:
    """Loopback has every 127.* address already."""

    def __init__(self) -> None:
        self.addresses: set[str] = set()

    def add_address(self, ip: str) -> None:
        self.addresses.add(ip)

    def remove_address(self, ip: str) -> None:
        self.addresses.remove(ip)


class World:
    """A balancer, what it is told, and a client."""

    def __init__(self, settings: CloudSettings) -> None:
        self.settings = settings
        self.bridge = Bridge()
        self.balancer = Balancer(settings, self.bridge)
        self._holder = bound(HOST)
        self.port: int = self._holder.getsockname()[1]
        # A target here that answers late is no worse for it: the machine may be busy.
        check = HealthCheck(path="/alive", interval=1, timeout=LONGEST_WAIT, healthy_threshold=2)
        self.group = DesiredTargetGroup(ARN, "web", "HTTP", 80, check)
        self.load_balancer = DesiredLoadBalancer(
            "arn:lb", "front", "front.internal", HOST, (), (DesiredListener("arn:l", self.port, ARN),), LONGEST_WAIT
        )
        self.balancer.start()

    def close(self) -> None:
        self.balancer.stop()
        self._holder.close()

    def targets(self, *targets: Target) -> None:
        self.group = replace(self.group, targets=tuple(target.desired() for target in targets))
        self.step()

    def step(self) -> None:
        self.balancer.apply([self.load_balancer], [self.group])

    def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + LONGEST_WAIT
        while not condition():
            assert time.monotonic() < deadline, self.balancer.health(ARN)
            time.sleep(0.05)
            self.step()
        self.step()

    def states(self) -> list[HealthState]:
        return [health.state for health in self.balancer.health(ARN).values()]

    def get(self, path: str = "/", headers: dict[str, str] | None = None) -> tuple[int, str, str]:
        connection = http.client.HTTPConnection(HOST, self.port, timeout=LONGEST_WAIT)
        try:
            connection.request("GET", path, headers=headers or {})
            answer = connection.getresponse()
            return answer.status, answer.getheader("Server", ""), answer.read().decode()
        finally:
            connection.close()


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr(settings_module, "RUN_ROOT", tmp_path)
    world = World(CloudSettings(name="lbtest"))
    yield world
    world.close()
    assert world.bridge.addresses == set()
    assert remove_leftovers(world.settings) == []


@pytest.fixture
def one() -> Iterator[Target]:
    target = Target("127.0.53.11")
    yield target
    target.close()


@pytest.fixture
def two() -> Iterator[Target]:
    target = Target("127.0.53.12")
    yield target
    target.close()


def test_no_target_is_503_and_a_healthy_one_serves_from_the_balancers_address(world: World, one: Target) -> None:
    world.step()
    status, server, body = world.get()
    assert (status, server) == (503, "awselb/2.0")
    assert "503 Service Temporarily Unavailable" in body
    world.targets(one)
    world.until(lambda: world.states() == [HealthState.HEALTHY])
    status, server, body = world.get()
    assert status == 200
    assert server.startswith("BaseHTTP")
    assert body.startswith(f"127.0.53.11 from {HOST}\n")


def test_headers_are_albs(world: World, one: Target) -> None:
    """ELB User Guide, "HTTP headers and Application Load Balancers" and "Request tracing for your Application Load
    Balancer": an id is made, or kept and extended; a client's X-Forwarded-For is followed by the true address."""
    world.targets(one)
    world.until(lambda: world.states() == [HealthState.HEALTHY])
    _, _, body = world.get()
    assert re.search(r"^x-amzn-trace-id: Root=1-[0-9a-f]{8}-[0-9a-f]{24}$", body, re.MULTILINE)
    assert re.search(r"^x-forwarded-for: 127\.0\.\d+\.\d+$", body, re.MULTILINE)
    assert "x-forwarded-proto: http\n" in body
    assert f"x-forwarded-port: {world.port}\n" in body
    _, _, body = world.get(
        headers={
            "X-Forwarded-For": "198.51.100.1",
            "X-Forwarded-Proto": "https",
            "X-Amzn-Trace-Id": "Self=1-00000000-000000000000000000000000;Root=1-67891233-abcdef012345678912345678;k=v",
        }
    )
    assert re.search(r"^x-forwarded-for: 198\.51\.100\.1, 127\.0\.\d+\.\d+$", body, re.MULTILINE)
    assert "x-forwarded-proto: http\n" in body
    assert re.search(
        r"^x-amzn-trace-id: Self=1-[1-9a-f][0-9a-f]{7}-[0-9a-f]{24};Root=1-67891233-abcdef012345678912345678;k=v$",
        body,
        re.MULTILINE,
    )


def test_unhealthy_is_left_out_and_all_unhealthy_fails_open(world: World, one: Target, two: Target) -> None:
    world.targets(one, two)
    world.until(lambda: world.states() == [HealthState.HEALTHY] * 2)
    assert {world.get()[2][:11] for _ in range(4)} == {"127.0.53.11", "127.0.53.12"}
    one.alive = 500
    world.until(lambda: sorted(world.states()) == [HealthState.HEALTHY, HealthState.UNHEALTHY])
    assert {world.get()[2][:11] for _ in range(4)} == {"127.0.53.12"}
    two.alive = 500
    world.until(lambda: world.states() == [HealthState.UNHEALTHY] * 2)
    assert {world.get()[2][:11] for _ in range(4)} == {"127.0.53.11", "127.0.53.12"}


def test_a_dead_target_gets_nothing_more_at_once(world: World, one: Target, two: Target) -> None:
    world.targets(one, two)
    world.until(lambda: world.states() == [HealthState.HEALTHY] * 2)
    one.close()
    world.balancer.withdraw(one.desired().target_id)
    assert {world.get()[2][:11] for _ in range(6)} == {two.address}
    # The records still call it registered and running: it stays out whatever they say.
    for _ in range(3):
        world.step()
        assert sorted(world.states()) == [HealthState.HEALTHY, HealthState.UNUSED]
    assert {world.get()[2][:11] for _ in range(6)} == {two.address}
    world.balancer.withdraw(two.desired().target_id)
    status, _, body = world.get()
    assert (status, "503 Service Temporarily Unavailable" in body) == (503, True)


def test_a_target_that_runs_again_is_checked_before_it_serves(world: World, one: Target) -> None:
    world.targets(one)
    world.until(lambda: world.states() == [HealthState.HEALTHY])
    world.balancer.withdraw(one.desired().target_id)
    one.alive = 500
    world.balancer.restore(one.desired().target_id)
    assert world.states() == [HealthState.UNUSED]
    world.step()
    # It was healthy, and is not called so again on that account.
    world.until(lambda: world.states() == [HealthState.UNHEALTHY])
    one.alive = 200
    world.until(lambda: world.states() == [HealthState.HEALTHY])
    assert world.get()[0] == 200


def test_a_dead_instance_that_is_no_target_is_nobodys_concern(world: World, one: Target) -> None:
    world.targets(one)
    world.until(lambda: world.states() == [HealthState.HEALTHY])
    world.balancer.withdraw("i-another")
    assert world.get()[0] == 200
    world.balancer.apply([], [])
    world.balancer.withdraw(one.desired().target_id)


def test_a_targets_own_503_passes_and_a_slow_one_is_504(world: World, one: Target) -> None:
    world.targets(one)
    world.until(lambda: world.states() == [HealthState.HEALTHY])
    status, server, body = world.get("/busy")
    assert (status, body[:11]) == (503, "127.0.53.11")
    world.load_balancer = replace(world.load_balancer, idle_timeout=2)
    world.step()
    began = time.monotonic()
    status, server, body = world.get("/slow")
    # Not before the idle timeout of two seconds; and before the target's own answer, which would be a 200.
    assert time.monotonic() - began > 1.5
    assert (status, server) == (504, "awselb/2.0")
    assert "504 Gateway Time-out" in body


def test_a_target_that_refuses_is_502(world: World, one: Target) -> None:
    world.targets(one)
    world.until(lambda: world.states() == [HealthState.HEALTHY])
    one.close()
    status, server, body = world.get()
    assert (status, server) == (502, "awselb/2.0")
    assert "502 Bad Gateway" in body


@pytest.mark.slow
def test_a_target_that_does_not_accept_is_504(world: World, one: Target) -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.53.13", one.port))
        deaf.listen(0)
        fillers = [socket.socket() for _ in range(3)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(deaf.getsockname())
        world.group = replace(
            world.group,
            targets=(DesiredTarget("i-deaf", "127.0.53.13", one.port),),
            health_check=replace(world.group.health_check, timeout=1, unhealthy_threshold=2),
        )
        world.until(lambda: world.states() == [HealthState.UNHEALTHY])
        status, _, body = world.get()
        for filler in fillers:
            filler.close()
    assert status == 504
    assert "504 Gateway Time-out" in body


def test_deregistration_lets_the_request_under_way_finish(world: World, one: Target, two: Target) -> None:
    world.targets(one)
    world.until(lambda: world.states() == [HealthState.HEALTHY])
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(world.get, "/slow")
        world.until(lambda: any(s.sessions for s in world.balancer._proxies["arn:lb"].haproxy.status()["tg-web"]))
        world.targets(two)
        world.until(lambda: sorted(world.states()) == [HealthState.DRAINING, HealthState.HEALTHY])
        for _ in range(3):
            world.step()
        assert {world.get()[2][:11] for _ in range(4)} == {"127.0.53.12"}
        assert HealthState.DRAINING in world.states()
        one.release.set()
        assert slow.result()[0] == 200
    world.until(lambda: world.states() == [HealthState.HEALTHY])


def test_the_deregistration_delay_ends_what_is_still_under_way(world: World, one: Target) -> None:
    world.group = replace(world.group, deregistration_delay=1)
    world.targets(one)
    world.until(lambda: world.states() == [HealthState.HEALTHY])
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(world.get, "/slow")
        world.until(lambda: any(s.sessions for s in world.balancer._proxies["arn:lb"].haproxy.status()["tg-web"]))
        world.targets()
        world.until(lambda: world.states() == [])
        assert slow.result()[0] == 502


def test_a_reload_and_more_targets_than_slots_drop_no_request(world: World, one: Target) -> None:
    world.targets(one)
    world.until(lambda: world.states() == [HealthState.HEALTHY])
    results: list[int] = []
    stop = threading.Event()

    def client() -> None:
        while not stop.is_set():
            results.append(world.get()[0])

    with ThreadPoolExecutor(3) as pool:
        clients = [pool.submit(client) for _ in range(3)]
        many = tuple(DesiredTarget(f"i-{n}", f"127.0.54.{n}", one.port) for n in range(1, 20))
        world.group = replace(world.group, targets=(one.desired(), *many))
        try:
            for _ in range(6):
                seen = len(results)
                world.load_balancer = replace(world.load_balancer, idle_timeout=world.load_balancer.idle_timeout + 1)
                world.step()
                deadline = time.monotonic() + LONGEST_WAIT
                # Requests before and after each reload, however slow they are.
                while len(results) < seen + 6 and not any(one_client.done() for one_client in clients):
                    assert time.monotonic() < deadline
                    time.sleep(0.01)
        finally:
            stop.set()
    for one_client in clients:
        # A dropped connection is an error in its client's thread.
        one_client.result()
    assert set(results) == {200}


def test_a_listener_that_gets_another_target_group(world: World, one: Target, two: Target) -> None:
    world.targets(one)
    world.until(lambda: world.states() == [HealthState.HEALTHY])
    other = replace(world.group, arn="arn:other", name="other", targets=(two.desired(),))
    listener = replace(world.load_balancer.listeners[0], target_group_arn="arn:other")
    world.load_balancer = replace(world.load_balancer, listeners=(listener,))
    deadline = time.monotonic() + LONGEST_WAIT
    while world.get()[2][:11] != two.address and time.monotonic() < deadline:
        world.balancer.apply([world.load_balancer], [world.group, other])
    assert world.get()[2][:11] == two.address
    assert world.states() == [HealthState.UNUSED]


def test_large_headers_pass_and_too_many_hops_do_not(world: World, one: Target) -> None:
    world.targets(one)
    world.until(lambda: world.states() == [HealthState.HEALTHY])
    assert world.get(headers={"Cookie": "x" * 15000, "X-More": "y" * 15000})[0] == 200
    assert world.get(headers={"X-Forwarded-For": ", ".join(["198.51.100.1"] * 30)})[0] == 200
    assert world.get(headers={"X-Forwarded-For": ", ".join(["198.51.100.1"] * 31)})[0] == 463


def test_fixed_response_and_a_proxy_that_dies_comes_back(world: World) -> None:
    listener = DesiredListener("arn:l", world.port, None, 404, 'say "no" %[src]', "text/plain")
    world.load_balancer = replace(world.load_balancer, listeners=(listener,))
    world.step()
    assert world.get() == (404, "awselb/2.0", 'say "no" %[src]')
    haproxy = world.balancer._proxies["arn:lb"].haproxy
    assert len(remove_leftovers(world.settings)) == 1
    deadline = time.monotonic() + LONGEST_WAIT
    while haproxy.alive:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    world.step()
    assert world.get()[0] == 404


def test_a_load_balancer_that_is_gone_takes_its_address_along(world: World) -> None:
    world.step()
    assert world.bridge.addresses == {HOST}
    world.balancer.apply([], [])
    assert world.bridge.addresses == set()
    with pytest.raises(ConnectionRefusedError):
        world.get()
