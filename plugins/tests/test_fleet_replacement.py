"""Replacing a fleet: new before old where there is room, and the old one stays when the new one fails."""

from __future__ import annotations

from typing import Any, cast

import pytest

from plugins.modules.fleet_replacement import Fleet, ReplacementError, replace_outdated


class FakeCloud:
    """An Auto Scaling group whose launches take one look; `broken` ones never get healthy."""

    def __init__(self, capacity: int, maximum: int, *, broken: bool = False) -> None:
        self.capacity, self.maximum, self.broken = capacity, maximum, broken
        self.versions = {f"i-old{number}": "1" for number in range(capacity)}
        self.launched = 0
        self.events: list[str] = []
        self.fewest_serving = capacity

    def _serving(self) -> set[str]:
        return {name for name, version in self.versions.items() if version == "1" or not self.broken}

    def describe_auto_scaling_groups(self, **_: object) -> dict[str, Any]:
        while len(self.versions) < self.capacity:
            self.launched += 1
            self.versions[f"i-new{self.launched}"] = "2"
        return {
            "AutoScalingGroups": [
                {
                    "DesiredCapacity": self.capacity,
                    "MaxSize": self.maximum,
                    "Instances": [
                        {"InstanceId": name, "LifecycleState": "InService", "LaunchTemplate": {"Version": version}}
                        for name, version in self.versions.items()
                    ],
                }
            ]
        }

    def describe_target_health(self, **_: object) -> dict[str, Any]:
        states = {name: "healthy" if name in self._serving() else "unhealthy" for name in self.versions}
        return {
            "TargetHealthDescriptions": [
                {"Target": {"Id": name}, "TargetHealth": {"State": state}} for name, state in states.items()
            ]
        }

    def describe_scaling_activities(self, **_: object) -> dict[str, Any]:
        return {"Activities": [{"StatusCode": "Successful", "Description": "Launching"}]}

    def set_desired_capacity(self, **asked: int) -> None:
        self.capacity = asked["DesiredCapacity"]
        self.events.append(f"capacity {self.capacity}")

    def terminate_instance_in_auto_scaling_group(self, **asked: object) -> None:
        del self.versions[str(asked["InstanceId"])]
        self.capacity -= bool(asked["ShouldDecrementDesiredCapacity"])
        self.fewest_serving = min(self.fewest_serving, len(self._serving()))
        self.events.append(f"terminate {asked['InstanceId']}")


def fleet_of(cloud: FakeCloud) -> Fleet:
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    client = cast("Any", cloud)
    return Fleet(client, client, "web", "2", "arn", 10, clock=lambda: now[0], sleep=sleep)


def test_with_room_a_new_one_serves_before_the_old_one_goes() -> None:
    cloud = FakeCloud(1, 2)
    answer = replace_outdated(fleet_of(cloud), check_mode=False)
    assert answer["replaced"] == ["i-old0"]
    assert cloud.events == ["capacity 2", "terminate i-old0"]
    assert cloud.fewest_serving == 1
    assert cloud.capacity == 1


def test_without_room_they_go_one_by_one() -> None:
    cloud = FakeCloud(2, 2)
    answer = replace_outdated(fleet_of(cloud), check_mode=False)
    assert answer["replaced"] == ["i-old0", "i-old1"]
    assert cloud.fewest_serving == 1
    assert set(cloud.versions.values()) == {"2"}


def test_a_new_one_that_never_serves_is_taken_back() -> None:
    cloud = FakeCloud(1, 2, broken=True)
    with pytest.raises(ReplacementError, match="i-new1 unhealthy"):
        replace_outdated(fleet_of(cloud), check_mode=False)
    assert cloud.versions == {"i-old0": "1"}
    assert cloud.capacity == 1


def test_nothing_to_replace_and_check_mode_change_nothing() -> None:
    cloud = FakeCloud(1, 2)
    assert replace_outdated(fleet_of(cloud), check_mode=True)["replaced"] == ["i-old0"]
    cloud.versions = {"i-a": "2"}
    assert not replace_outdated(fleet_of(cloud), check_mode=False)["changed"]
    assert cloud.events == []
