"""What rollback, prune and status choose and tell: never an image in use, never a void version."""

from __future__ import annotations

import random
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError

from plugins.filter.fleet import (
    chosen_hosts,
    fleet_drift,
    fleet_lines,
    history_lines,
    host_told,
    prune_plan,
    resource_lines,
    rollback_plan,
)

RECORD = {
    "id": "1",
    "action": "deploy",
    "user": "alice",
    "host": "laptop",
    "began": "2026-11-23T02:00:00+00:00",
    "seconds": 61.5,
    "result": "ok",
    "version": "3",
    "previous": "2",
}


def fleet(
    good: tuple[int, ...] = (),
    void: tuple[int, ...] = (),
    runs: str = "3",
    versions: int = 3,
    instances: dict[str, str] | None = None,
    **others: object,
) -> dict[str, Any]:
    """A fleet as fleet_info tells it: version N launches image ami-N, the newest first."""
    numbers = range(versions, 0, -1)
    on = {"i-1": runs} if instances is None else instances
    return {
        "template": {
            "id": "lt-1",
            "name": "web",
            "default": 1,
            "latest": versions,
            "good": list(good),
            "void": list(void),
        },
        "versions": [
            {
                "number": number,
                "image_id": f"ami-{number}",
                "created": "",
                "good": number in good,
                "void": number in void,
                "instances": [key for key, version in on.items() if version == str(number)],
            }
            for number in numbers
        ],
        "group": {"name": "web", "version": runs, "min": 1, "max": 2, "desired": len(on), "suspended": []},
        "instances": [
            {
                "id": key,
                "version": version,
                "state": "InService",
                "health": "Healthy",
                "zone": "a",
                "private_ip": "10.0.0.1",
                "launched": "",
                "target": {"state": "healthy", "reason": "", "description": ""},
            }
            for key, version in on.items()
        ],
        "images": [
            {
                "id": f"ami-{number}",
                "name": f"web-{number}",
                "state": "available",
                "created": f"2026-11-{number:02}",
                "age_days": versions - number,
                "tags": {},
                "snapshots": [f"snap-{number}"],
                "versions": [number],
                "instances": [key for key, version in on.items() if version == str(number)],
            }
            for number in numbers
        ],
        "alarms": [],
        "refreshes": [],
        "lock": {},
        "history": [],
        "dns_name": "lb.example",
        "maintenance": False,
        **others,
    }


def test_rollback_goes_to_the_last_good_version() -> None:
    plan = rollback_plan(fleet(good=(1, 2, 3)))
    assert (plan["version"], plan["left"], plan["problem"]) == (2, [3], "")
    assert "version 3 becomes void" in plan["told"]


def test_rollback_passes_over_void_versions_and_versions_that_never_were_good() -> None:
    assert rollback_plan(fleet(good=(1,), void=(2,)))["version"] == 1
    assert rollback_plan(fleet(good=(1, 3)))["version"] == 1


def test_rollback_from_a_refresh_to_a_bad_version() -> None:
    under_way = [{"status": "InProgress", "version": "3", "percentage": 0}]
    plan = rollback_plan(fleet(good=(1, 2), runs="2", refreshes=under_way))
    assert (plan["version"], plan["left"]) == (2, [3])


def test_rollback_to_a_named_version() -> None:
    plan = rollback_plan(fleet(good=(1, 2, 3)), "1")
    assert (plan["version"], plan["left"]) == (1, [3])
    assert rollback_plan(fleet(good=(1, 2, 3)), 3)["left"] == []


@pytest.mark.parametrize(
    ("found", "wanted", "words"),
    [
        (fleet(good=(3,)), "", "no other good version"),
        (fleet(good=(1, 2, 3)), "9", "There is no version 9. Good versions: 1, 2, 3."),
        (fleet(good=(2, 3), void=(1,)), "1", "unvoid.yml -e version=1"),
        (fleet(good=(1, 2, 3), images=[]), "1", "image ami-1 of version 1 is gone"),
        (fleet(good=(1, 2, 3), images=[]), "", "no other good version"),
        (fleet(group={"name": "", "version": ""}), "", "no Auto Scaling group"),
    ],
)
def test_rollback_says_why_not(found: dict[str, Any], wanted: str, words: str) -> None:
    plan = rollback_plan(found, wanted)
    assert words in plan["problem"]
    assert plan["version"] == 0


def test_prune_keeps_the_newest_and_what_is_good() -> None:
    plan = prune_plan(fleet(good=(1, 2, 3, 4, 5, 6), runs="6", versions=6), 2)
    assert [one["id"] for one in plan["images"]] == ["ami-4", "ami-3", "ami-2", "ami-1"]
    assert plan["versions"] == [4, 3, 2, 1]
    assert plan["default"] == 6


def test_prune_keeps_what_an_old_instance_runs() -> None:
    plan = prune_plan(fleet(good=(6,), runs="6", versions=6, instances={"i-1": "6", "i-2": "1"}), 1)
    assert "ami-1" not in {one["id"] for one in plan["images"]}
    assert 1 not in plan["versions"]


def test_prune_removes_failed_images_and_leaves_pending_ones() -> None:
    found = fleet(good=(1, 2, 3))
    failed = {**found["images"][0], "id": "ami-x", "state": "failed", "versions": [], "instances": []}
    pending = {**failed, "id": "ami-y", "state": "pending"}
    plan = prune_plan({**found, "images": [failed, pending, *found["images"]]}, 5)
    assert [one["id"] for one in plan["images"]] == ["ami-x"]


@pytest.mark.parametrize("kept", [0, -1, "0"])
def test_prune_keeps_at_least_one(kept: int | str) -> None:
    with pytest.raises(AnsibleFilterError, match="at least one"):
        prune_plan(fleet(), kept)


def test_prune_never_takes_what_is_in_use() -> None:
    """Whatever the fleet looks like: a thousand of them."""
    chance = random.Random(20261123)  # noqa: S311 - the same fleets each time, no secret
    for _ in range(1000):
        count = chance.randint(1, 12)
        numbers = range(1, count + 1)
        good = tuple(number for number in numbers if chance.random() < 0.5)
        void = tuple(number for number in numbers if number not in good and chance.random() < 0.5)
        instances = {f"i-{key}": str(chance.choice(numbers)) for key in range(chance.randint(0, 3))}
        refreshes = [{"status": "InProgress", "version": str(chance.choice(numbers)), "percentage": 1}]
        found = fleet(good, void, str(chance.choice(numbers)), count, instances, refreshes=refreshes)
        kept = chance.randint(1, 5)
        plan = prune_plan(found, kept)
        gone = {one["id"] for one in plan["images"]}
        in_use = {found["group"]["version"], refreshes[0]["version"], str(count), *instances.values()}
        assert not gone & {f"ami-{number}" for number in in_use}
        assert not gone & {f"ami-{number}" for number in sorted(good)[-kept:]}
        assert len(found["images"]) - len(gone) >= min(kept, count)
        assert not {str(number) for number in plan["versions"]} & in_use
        assert {f"ami-{number}" for number in plan["versions"]} == gone
        assert plan["default"] not in plan["versions"]


def test_drift_of_the_group() -> None:
    assert fleet_drift(fleet(), "1", "2") == []
    found = fleet(instances={"i-1": "3", "i-2": "2"})
    found["group"] |= {"max": 4, "suspended": ["Launch"]}
    assert fleet_drift(found, 1, 2) == [
        "the group's size: 1 to 4, not 1 to 2",
        "suspended processes of the group: Launch",
        "i-2 runs version 2, not 3",
    ]
    found["refreshes"] = [{"status": "InProgress", "version": "3", "percentage": 50}]
    assert len(fleet_drift(found, 1, 2)) == 2


def test_the_fleet_in_lines() -> None:
    found = fleet(good=(2, 3), void=(1,), history=[RECORD], maintenance=True)
    found["lock"] = {"told": "deploy by bob"}
    found["instances"][0]["target"] = {"state": "unhealthy", "reason": "", "description": "Health checks failed"}
    text = "\n".join(fleet_lines(found, "/memo"))
    for words in (
        "http://lb.example/memo/",
        "MAINTENANCE IS ON",
        "At work now: deploy by bob",
        "i-1 10.0.0.1 a: version 3, InService, Healthy, target unhealthy (Health checks failed)",
        "3: good; image ami-3 0 days old, on i-1",
        "1: void; image ami-1 2 days old",
        "alice@laptop deploy version 2 -> 3: ok after 61.5 s",
    ):
        assert words in text
    assert fleet_lines(fleet(group={"name": "", "version": ""})) == [
        "There is no fleet yet: run ansible-playbook site.yml."
    ]


def test_history_tells_why_a_run_failed() -> None:
    failed = {**RECORD, "result": "failed", "task": "Refresh", "message": "version 3 failed /alive"}
    assert history_lines([failed, RECORD], 1)[0].endswith("failed after 61.5 s: Refresh: version 3 failed /alive")
    assert history_lines([]) == ["  nothing was changed yet"]


def test_choosing_instances() -> None:
    hosts = [
        {"inventory_hostname": "i-2", "ec2_tags": {"Name": "web", "Role": "web-fleet"}},
        {"inventory_hostname": "i-1", "ec2_tags": {"Name": "web", "Role": "web-fleet"}},
        {"inventory_hostname": "i-3", "ec2_tags": {"Name": "DB-Server", "Role": "db-server"}},
    ]
    assert chosen_hosts(hosts, "web_fleet") == ["i-1", "i-2"]
    assert chosen_hosts(hosts, "DB-Server") == ["i-3"]
    assert chosen_hosts(hosts, "i-2") == ["i-2"]
    assert chosen_hosts(hosts, "all") == ["i-1", "i-2", "i-3"]
    assert chosen_hosts(hosts, "nobody") == []
    assert host_told(hosts[2]) == "DB-Server (db_server, i-3)"


def test_resources_are_told_by_kind() -> None:
    assert resource_lines({"launch_templates": ["lt-2", "lt-1"], "volumes": []}) == ["  2 launch templates: lt-1, lt-2"]
    assert "gone already" in resource_lines({"volumes": []})[0]
