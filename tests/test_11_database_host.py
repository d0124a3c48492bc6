"""DB-Server restarts, and is replaced: people are told, web hosts stay, no memo is missing."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
from endtoend.people import Person, until_steady
from endtoend.stack import Stack
from endtoend.waiting import until

pytestmark = pytest.mark.e2e


def refusal(person: Person, path: str, accept: str) -> requests.Response:
    """Ask again and again, from before an outage, until the service refuses.

    Until then it serves: with MySQL gone and Redis not yet, a list that is known to be fresh needs no MySQL.
    """

    def refused() -> requests.Response | None:
        answer = person.get(path, Accept=accept)
        assert answer.status_code in (200, 503), f"{answer.status_code}: {answer.text}"
        return answer if answer.status_code == 503 else None

    return until(refused, f"an outage that {accept} is refused in", timeout=60, poll=0.05)


def test_a_reboot_is_said_and_survived(service: Stack, user: Callable[[str], Person]) -> None:
    person = user("seoyeon")
    assert person.write("재부팅 전 메모 🗒️").status_code == 200
    memos = person.memos()
    fleet = {instance["InstanceId"] for instance in service.instances("web-fleet")}
    database = service.instance("db-server")["InstanceId"]
    started = time.monotonic()
    # Side by side: a page that is refused slowly must not outlast the outage that the API is asked in.
    with ThreadPoolExecutor(2) as pool:
        asked = [
            pool.submit(refusal, user("seoyeon"), *question)
            for question in (("", "text/html"), ("memo", "application/json"))
        ]
        service.ec2.reboot_instances(InstanceIds=[database])
        page, api = (one.result() for one in asked)
    assert person.get("alive").status_code == 200
    assert 'role="alert"' in page.text
    assert api.headers["Content-Type"].startswith("application/problem+json")
    for answer in (page, api):
        assert int(answer.headers["Retry-After"]) > 0

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
