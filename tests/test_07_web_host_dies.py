"""The fleet's only instance dies: the group boots another, and nobody loses anything but the seconds in between."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
import requests
from endtoend.people import Person
from endtoend.stack import Stack
from endtoend.waiting import until

pytestmark = pytest.mark.e2e


def alive(person: Person) -> bool:
    """Whether the service answers at all."""
    try:
        return person.get("alive").status_code == 200
    except requests.RequestException:
        return False


def test_group_replaces_a_terminated_instance(service: Stack, user: Callable[[str], Person]) -> None:
    person = user("minjun")
    assert person.write("죽어도 남는 메모").status_code == 200
    memos = person.memos()
    instance = service.instance("web-fleet")["InstanceId"]
    started = time.monotonic()
    service.ec2.terminate_instances(InstanceIds=[instance])
    until(lambda: not alive(person), "the loss of the only instance", timeout=60, poll=0.2)
    until(lambda: alive(person), "a new instance behind the load balancer", timeout=300, poll=0.2)
    seconds = time.monotonic() - started
    print(f"\nserving again {seconds:.1f} s after the fleet's only instance was terminated")
    assert person.memos() == memos
    replacement = service.instance("web-fleet")["InstanceId"]
    assert replacement != instance
    until(lambda: service.in_service() == {replacement}, "the replacement in service", timeout=120)
    targets = {
        health["Target"]["Id"]: health["TargetHealth"]["State"]
        for group in service.elbv2.describe_target_groups()["TargetGroups"]
        for health in service.elbv2.describe_target_health(TargetGroupArn=group["TargetGroupArn"])[
            "TargetHealthDescriptions"
        ]
    }
    assert targets[replacement] == "healthy"
    assert targets.get(instance, "draining") == "draining"


def test_group_replaces_an_instance_whose_service_died(service: Stack, user: Callable[[str], Person]) -> None:
    person = user("minjun")
    memos = person.memos()
    instance = service.instance("web-fleet")
    started = time.monotonic()
    service.ssh(instance, "sudo", "systemctl", "disable", "--now", "nginx.service")

    def replaced() -> bool:
        serving = service.in_service()
        return bool(serving) and instance["InstanceId"] not in serving and alive(person)

    until(replaced, "a replacement for the instance that fails its health check", timeout=300)
    print(f"\nreplaced {time.monotonic() - started:.1f} s after nginx stopped")
    assert person.memos() == memos
