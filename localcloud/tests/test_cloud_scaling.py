"""Scaling by load on a whole local cloud: a container that burns CPU makes a second instance, calm removes it.

Seconds are printed (`pytest -s`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import boto3
import pytest

from localcloud import containers, engine, view
from localcloud.settings import BASE_IMAGE_OWNER, CloudSettings
from localcloud.tests.test_cloud import LONGEST_WAIT, localcloud

pytestmark = [pytest.mark.machine, pytest.mark.slow]

SETTINGS = CloudSettings(
    "scaling", "10.219.0.0/16", api_port=4615, naver_port=8815, metadata_port=16928, metric_period=3
)
BURN = "while :; do :; done & while :; do :; done"
"""Twice, so that it gets its share of a machine that has other work as well."""

T = TypeVar("T")


class Cloud:
    """Clients, and what is asked of them again and again."""

    def __init__(self) -> None:
        how = view.connection(SETTINGS)
        self.ec2 = boto3.client("ec2", **how)
        self.groups = boto3.client("autoscaling", **how)
        self.watch = boto3.client("cloudwatch", **how)

    def group(self) -> Any:  # noqa: ANN401 - boto3's answer
        return self.groups.describe_auto_scaling_groups(AutoScalingGroupNames=["web"])["AutoScalingGroups"][0]

    def in_service(self) -> list[str]:
        return [m["InstanceId"] for m in self.group()["Instances"] if m["LifecycleState"] == "InService"]

    def alarm(self, kind: str) -> Any:  # noqa: ANN401 - boto3's answer
        return next(a for a in self.watch.describe_alarms()["MetricAlarms"] if f"-Alarm{kind}-" in a["AlarmName"])

    def cause(self) -> str:
        return str(self.groups.describe_scaling_activities(AutoScalingGroupName="web")["Activities"][0]["Cause"])

    def cpu(self) -> list[float]:
        """The group's average CPU use in the last minute."""
        now = datetime.now(UTC)
        found = self.watch.get_metric_statistics(
            Namespace="AWS/EC2",
            MetricName="CPUUtilization",
            Dimensions=[{"Name": "AutoScalingGroupName", "Value": "web"}],
            StartTime=now - timedelta(minutes=1),
            EndTime=now,
            Period=SETTINGS.metric_period,
            Statistics=["Average"],
        )["Datapoints"]
        return [round(p["Average"], 1) for p in sorted(found, key=lambda p: p["Timestamp"])]

    def wait(self, what: str, ask: Callable[[], T | None]) -> T:
        """The first true answer; prints how long it took."""
        began = time.monotonic()
        while time.monotonic() - began < LONGEST_WAIT:
            if answer := ask():
                print(f"    {what}: {time.monotonic() - began:.1f} s")
                return answer
            time.sleep(0.3)
        told = {kind: self.alarm(kind)["StateReason"] for kind in ("High", "Low")}
        raise AssertionError(f"{what} did not happen within {LONGEST_WAIT:.0f} s: {self.cpu()} {told} {self.group()}")


def inside(instance_id: str, *command: str) -> None:
    """Run a command in an instance as root."""
    engine.podman("exec", containers.name(SETTINGS, instance_id), *command)


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    localcloud("down", "--name", SETTINGS.name)
    localcloud(
        "up", "--name", SETTINGS.name, "--cidr", SETTINGS.cidr, "--api-port", str(SETTINGS.api_port),
        "--naver-port", str(SETTINGS.naver_port), "--metadata-port", str(SETTINGS.metadata_port),
        "--metric-period", str(SETTINGS.metric_period),
    )  # fmt: skip
    yield Cloud()
    localcloud("down", "--name", SETTINGS.name)


def test_load_scales_out_and_calm_scales_in(cloud: Cloud) -> None:
    """Auto Scaling User Guide, "Target tracking scaling policies": 3 periods above, 15 below 90 % of the target."""
    base = cloud.ec2.describe_images(Owners=[BASE_IMAGE_OWNER])["Images"][0]["ImageId"]
    template = cloud.ec2.create_launch_template(
        LaunchTemplateName="web", LaunchTemplateData={"ImageId": base, "InstanceType": "t2.micro"}
    )["LaunchTemplate"]["LaunchTemplateId"]
    subnets = [s["SubnetId"] for s in cloud.ec2.describe_subnets()["Subnets"] if str(s["AvailabilityZone"])[-1] in "ac"]
    cloud.groups.create_auto_scaling_group(
        AutoScalingGroupName="web", MinSize=1, MaxSize=2, LaunchTemplate={"LaunchTemplateId": template, "Version": "1"},
        VPCZoneIdentifier=",".join(subnets), DefaultInstanceWarmup=10,
    )  # fmt: skip
    cloud.groups.put_scaling_policy(
        AutoScalingGroupName="web", PolicyName="cpu", PolicyType="TargetTrackingScaling",
        TargetTrackingConfiguration={
            "PredefinedMetricSpecification": {"PredefinedMetricType": "ASGAverageCPUUtilization"}, "TargetValue": 20.0,
        },
    )  # fmt: skip
    assert cloud.alarm("High")["StateValue"] == "INSUFFICIENT_DATA"
    (first,) = cloud.wait("the first instance is in service", cloud.in_service)
    cloud.wait("its alarm has data", lambda: cloud.alarm("High")["StateValue"] == "OK")
    print(f"    at rest: {cloud.cpu()}")

    inside(first, "systemd-run", "--unit=burn", "sh", "-c", BURN)
    cloud.wait("load is an alarm", lambda: cloud.alarm("High")["StateValue"] == "ALARM")
    print(f"    under load: {cloud.cpu()}; {cloud.alarm('High')['StateReason']}")
    assert max(cloud.cpu()) > 20
    cloud.wait("two in service", lambda: len(cloud.in_service()) == 2)
    print(f"    {cloud.cause()}")
    assert f"a monitor alarm {cloud.alarm('High')['AlarmName']} in state ALARM triggered policy cpu" in cloud.cause()
    assert "changing the desired capacity from 1 to 2" in cloud.cause()

    inside(first, "systemctl", "stop", "burn")
    cloud.wait("calm is an alarm", lambda: cloud.alarm("Low")["StateValue"] == "ALARM")
    print(f"    at rest again: {cloud.cpu()}")
    cloud.wait("one is left", lambda: len(cloud.group()["Instances"]) == 1)
    print(f"    {cloud.cause()}")
    assert f"a monitor alarm {cloud.alarm('Low')['AlarmName']} in state ALARM triggered policy cpu" in cloud.cause()
    assert cloud.group()["DesiredCapacity"] == 1
