"""DB-Server restarts, and is replaced: people are told, web hosts stay, no memo is missing."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

import pytest
import requests
from endtoend.people import Person, until_steady
from endtoend.stack import Stack
from endtoend.waiting import until

pytestmark = pytest.mark.e2e


class Outage(NamedTuple):
    """What the service said while its database was away: page and API, status and text."""

    page: requests.Response
    api: requests.Response


def test_a_reboot_is_said_and_survived(service: Stack, user: Callable[[str], Person]) -> None:
    person = user("seoyeon")
    assert person.write("재부팅 전 메모 🗒️").status_code == 200
    memos = person.memos()
    fleet = {instance["InstanceId"] for instance in service.instances("web-fleet")}
    database = service.instance("db-server")["InstanceId"]
    started = time.monotonic()
    service.ec2.reboot_instances(InstanceIds=[database])

    until(lambda: person.get("ready").status_code == 503, "an answer that says 'not ready'", timeout=60, poll=0.1)
    page = person.get(Accept="text/html")
    api = person.get("memo", Accept="application/json")
    # The host may be back before the page was asked; then there was nothing to be said.
    if person.get("ready").status_code == 503:
        assert page.status_code == 503, page.text
        assert 'role="alert"' in page.text
        assert "Retry-After" in page.headers
        assert api.status_code == 503
        assert api.headers["Content-Type"].startswith("application/problem+json")
    assert person.get("alive").status_code == 200

    until_steady(person)
    print(f"\nMySQL and Redis healthy {time.monotonic() - started:.1f} s after the reboot was asked for")
    assert person.memos() == memos
    assert person.write("재부팅 후 메모").status_code == 200
    assert {instance["InstanceId"] for instance in service.instances("web-fleet")} == fleet
    assert service.instance("db-server")["InstanceId"] == database


def test_an_outage_longer_than_the_health_check_replaces_nobody(service: Stack, user: Callable[[str], Person]) -> None:
    person = user("seoyeon")
    memos = person.memos()
    fleet = {instance["InstanceId"] for instance in service.instances("web-fleet")}
    database = service.instance("db-server")["InstanceId"]
    service.ec2.stop_instances(InstanceIds=[database])
    service.ec2.get_waiter("instance_stopped").wait(
        InstanceIds=[database], WaiterConfig={"Delay": 1, "MaxAttempts": 120}
    )
    group = service.elbv2.describe_target_groups()["TargetGroups"][0]
    patience = group["HealthCheckIntervalSeconds"] * (group["UnhealthyThresholdCount"] + 2)
    deadline = time.monotonic() + patience

    def still_said() -> bool:
        answer = person.get(Accept="text/html")
        assert answer.status_code == 503, answer.text
        return time.monotonic() > deadline

    until(still_said, "the end of the outage", timeout=patience + 60, poll=1)
    service.ec2.start_instances(InstanceIds=[database])
    until_steady(person)
    assert person.memos() == memos
    assert {instance["InstanceId"] for instance in service.instances("web-fleet")} == fleet


def test_a_new_database_host_has_every_memo(service: Stack, user: Callable[[str], Person]) -> None:
    person = user("haeun")
    assert person.write("새 서버에서도 읽는 메모").status_code == 200
    memos = person.memos()
    old = service.instance("db-server")["InstanceId"]
    service.ec2.terminate_instances(InstanceIds=[old])
    service.ec2.get_waiter("instance_terminated").wait(InstanceIds=[old], WaiterConfig={"Delay": 1, "MaxAttempts": 120})
    run = service.site(timeout=900)
    print(f"\nsite.yml with a new DB-Server: {run.seconds:.0f} s")
    assert run.status == 0, run.tail
    assert service.instance("db-server")["InstanceId"] != old
    again = Person(service.url)
    until_steady(again)
    # Sessions may have ended; memos may not.
    assert again.login("haeun").status_code == 200
    assert again.memos() == memos
