"""What the modules instance_refresh and instance_refresh_info read of an Auto Scaling group, and how they tell it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

ACTIVE = ("Pending", "InProgress", "Baking", "RollbackInProgress", "Cancelling")
"""Statuses of a refresh that is not over (Auto Scaling API Reference, "InstanceRefresh")."""

_ELB_CAUSE = "ELB system health check failure"


class RefreshError(Exception):
    """Something stands in the way; the text says what it is and what to do."""


@dataclass(frozen=True)
class Member:
    """An instance of a group: its launch template version, and what the group and the load balancer say of it."""

    instance_id: str
    version: str
    template: tuple[str, str]
    lifecycle: str
    group_health: str
    targets: tuple[str, ...]
    reasons: tuple[str, ...]

    @property
    def leaving(self) -> bool:
        """Whether it is on its way out."""
        return self.lifecycle.startswith("Terminat")

    @property
    def serves(self) -> bool:
        """Whether it is in service and healthy wherever it is registered."""
        in_service = self.lifecycle == "InService" and self.group_health.lower() == "healthy"
        return in_service and all(state == "healthy" for state in self.targets)

    @property
    def told(self) -> str:
        """What a person who waits wants to know of it: `i-1 (version 7) warming up`."""
        if self.leaving:
            doing = "draining" if "draining" in self.targets else "leaving"
        elif self.serves:
            doing = "in service"
        elif self.reasons:
            doing = f"unhealthy: {self.reasons[0]}"
        else:
            doing = "warming up" if self.lifecycle == "InService" else "starting"
        return f"{self.instance_id} (version {self.version}) {doing}"


@dataclass
class Fleet:
    """An Auto Scaling group with its target groups, as the API tells them.

    Args:
        autoscaling: an Auto Scaling client.
        elbv2: an ELBv2 client.
        name: the group.
    """

    autoscaling: Any
    elbv2: Any
    name: str

    def group(self) -> dict[str, Any]:
        """Return the group's description.

        Raises:
            RefreshError: there is no such group.
        """
        found: list[dict[str, Any]] = self.autoscaling.describe_auto_scaling_groups(AutoScalingGroupNames=[self.name])[
            "AutoScalingGroups"
        ]
        if not found:
            raise RefreshError(f"There is no Auto Scaling group {self.name} in this region: create it first.")
        return found[0]

    def refreshes(self, *ids: str) -> list[dict[str, Any]]:
        """Return the group's refreshes, newest first, or those with these ids."""
        wanted: dict[str, Any] = {"InstanceRefreshIds": list(ids)} if ids else {}
        found: list[dict[str, Any]] = []
        while True:
            answer = self.autoscaling.describe_instance_refreshes(AutoScalingGroupName=self.name, **wanted)
            found += answer["InstanceRefreshes"]
            if not answer.get("NextToken"):
                return found
            wanted["NextToken"] = answer["NextToken"]

    def active(self) -> dict[str, Any] | None:
        """Return the refresh that is not over."""
        return next((one for one in self.refreshes() if one["Status"] in ACTIVE), None)

    def members(self) -> list[Member]:
        """Return the group's instances, with what its target groups say of them."""
        group = self.group()
        seen: dict[str, list[dict[str, Any]]] = {}
        for arn in group.get("TargetGroupARNs", []):
            answer = self.elbv2.describe_target_health(TargetGroupArn=arn)
            known = {one["Target"]["Id"]: one["TargetHealth"] for one in answer["TargetHealthDescriptions"]}
            for instance in group["Instances"]:
                health = known.get(instance["InstanceId"], {"State": "unregistered", "Reason": "Target.NotRegistered"})
                seen.setdefault(instance["InstanceId"], []).append(health)
        members = []
        for instance in group["Instances"]:
            template = instance.get("LaunchTemplate", {})
            healths = seen.get(instance["InstanceId"], [])
            members.append(
                Member(
                    instance_id=instance["InstanceId"],
                    version=str(template.get("Version", "")),
                    template=(template.get("LaunchTemplateId", ""), template.get("LaunchTemplateName", "")),
                    lifecycle=instance["LifecycleState"],
                    group_health=instance["HealthStatus"],
                    targets=tuple(health["State"] for health in healths),
                    reasons=tuple(_reason(health) for health in healths if health["State"] == "unhealthy"),
                )
            )
        return members

    def failures_since(self, moment: datetime) -> tuple[dict[str, str], dict[str, str]]:
        """Return what the group's activities say of launches and of ELB checks that failed since then.

        An instance that somebody ended while it started is not a failed launch.

        Returns:
            Two times the reason, by the instance's id, or by the activity's description where none came to be.
        """
        answer = self.autoscaling.describe_scaling_activities(AutoScalingGroupName=self.name, MaxRecords=50)
        launches: dict[str, str] = {}
        checks: dict[str, str] = {}
        for activity in answer["Activities"]:
            key, cause = activity["Description"].rpartition(": ")[2], activity.get("Cause", "")
            if activity["StartTime"] < moment:
                continue
            said = activity.get("StatusMessage") or activity["Description"]
            if activity["StatusCode"] == "Failed" and "UserInitiatedShutdown" not in said:
                launches.setdefault(key, said)
            elif _ELB_CAUSE in cause:
                checks.setdefault(key, cause.partition(_ELB_CAUSE)[2].strip(": .") or cause)
        return launches, checks

    def health_checks(self) -> str:
        """Return what the target groups ask, as `GET /alive`, in words for a message."""
        arns = self.group().get("TargetGroupARNs", [])
        if not arns:
            return "the EC2 status check"
        groups = self.elbv2.describe_target_groups(TargetGroupArns=arns)["TargetGroups"]
        return " and ".join(
            f"GET {one['HealthCheckPath']}" if one.get("HealthCheckPath") else f"the {one['HealthCheckProtocol']} check"
            for one in groups
        )


def serving(members: list[Member]) -> str:
    """Say which versions serve where: `version 6 serves on i-1 and i-2`."""
    by_version: dict[str, list[str]] = {}
    for member in sorted(members, key=lambda m: m.instance_id):
        if member.serves:
            by_version.setdefault(member.version, []).append(member.instance_id)
    if not by_version:
        return "no instance serves"
    return "; ".join(f"version {version} serves on {listed(ids)}" for version, ids in sorted(by_version.items()))


def listed(names: list[str]) -> str:
    """Write names as a person would: `a, b and c`."""
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]])) if names else ""


def _reason(health: dict[str, Any]) -> str:
    description, reason = health.get("Description"), health.get("Reason")
    if description and reason:
        return f"{description} ({reason})"
    return str(description or reason or health["State"])
