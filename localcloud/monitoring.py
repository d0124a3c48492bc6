"""What CloudWatch knows of the instances: the CPU time that their containers use, as AWS/EC2 CPUUtilization.

All instances are monitored in detail here: one data point for each minute (the setting `metric_period`). After each
the alarms are looked at. Source: EC2 User Guide, "CloudWatch metrics that are available for your instances".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from moto.ec2.models.instance_types import INSTANCE_TYPES

from localcloud import alarms
from localcloud.api import ec2
from localcloud.api.cloudwatch import CPU_UTILIZATION, EC2_NAMESPACE
from localcloud.api.metric_records import KEPT_SECONDS, Series
from localcloud.model import InstanceState

if TYPE_CHECKING:
    from moto.ec2.models.instances import Instance

    from localcloud.api import ControlPlane


@dataclass(frozen=True)
class Reading:
    """The CPU time used up to a moment, both in seconds; the moment on the control plane's clock."""

    at: float
    cpu: float


class Monitor:
    """Publishes the instances' metrics and lets the alarms follow.

    Args:
        plane: the control plane.
        cpu_seconds: the CPU time an instance has used since it was started, by its id; None unless it runs.
    """

    def __init__(self, plane: ControlPlane, cpu_seconds: Callable[[str], float | None]) -> None:
        self._plane = plane
        self._cpu_seconds = cpu_seconds
        self._readings: dict[str, Reading] = {}
        self._period: float | None = None

    def step(self) -> None:
        """Take the first reading of what is new; at the end of a period publish, and look at the alarms."""
        with self._plane.lock:
            now = self._plane.time()
            length = self._plane.settings.metric_period
            vcpus = {i.id: _vcpus(i.instance_type) for i in _running(self._plane)}
            for instance_id in self._readings.keys() - vcpus.keys():
                del self._readings[instance_id]
            for instance_id in vcpus.keys() - self._readings.keys():
                self._read(instance_id)
            period = now // length
            if self._period not in (None, period):
                self._publish(vcpus, (period - 1) * length)
                self._plane.metrics.forget_before(now - KEPT_SECONDS)
                alarms.evaluate(self._plane, period * length)
            self._period = period

    def _read(self, instance_id: str) -> None:
        cpu = self._cpu_seconds(instance_id)
        if cpu is None:
            self._readings.pop(instance_id, None)
        else:
            self._readings[instance_id] = Reading(self._plane.clock(), cpu)

    def _publish(self, vcpus: dict[str, int], start: float) -> None:
        metrics, now = self._plane.metrics, self._plane.clock()
        groups = _contributing(self._plane)
        for instance_id, before in list(self._readings.items()):
            # What has been there for a moment only would make a data point of noise.
            if now - before.at < self._plane.settings.metric_period / 2:
                continue
            self._read(instance_id)
            after = self._readings.get(instance_id)
            # A restarted container begins at zero again.
            if after is None or after.cpu < before.cpu:
                continue
            share = (after.cpu - before.cpu) / (after.at - before.at) / vcpus[instance_id]
            # A container may use more of this machine than its instance type has; a virtual machine could not.
            percent = min(100.0, 100 * share)
            metrics.put(_series("InstanceId", instance_id), start, percent, "Percent")
            if instance_id in groups:
                metrics.put(_series("AutoScalingGroupName", groups[instance_id]), start, percent, "Percent")


def _series(dimension: str, value: str) -> Series:
    return Series(EC2_NAMESPACE, CPU_UTILIZATION, ((dimension, value),))


def _running(plane: ControlPlane) -> list[Instance]:
    return [i for i in ec2.backend(plane).all_instances() if i.state == InstanceState.RUNNING]


def _vcpus(instance_type: str) -> int:
    return int(INSTANCE_TYPES[instance_type]["VCpuInfo"]["DefaultVCpus"])


def _contributing(plane: ControlPlane) -> dict[str, str]:
    """The instances that count for their group's metric, each with its group.

    Auto Scaling API Reference, "CreateAutoScalingGroup", DefaultInstanceWarmup: Auto Scaling "waits for the warm-up
    period to end before aggregating the metrics for new instances with existing instances".
    """
    now = plane.clock()
    return {
        member.instance_id: group.name
        for group in plane.groups.values()
        for member in group.members.values()
        if member.lifecycle == "InService" and now - member.changed >= (group.warmup or 0)
    }
