"""The records of Auto Scaling. moto's own launch and kill at once, on paper; these only say what is wanted."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any


@dataclass
class Member:
    """An instance of a group.

    `lifecycle` is AWS's lifecycle state; `changed` the monotonic time at which it began.
    `health` is what was set by SetInstanceHealth or found by the checks.
    """

    instance_id: str
    instance_type: str
    zone: str
    template_id: str
    template_name: str
    template_version: str
    lifecycle: str = "Pending"
    changed: float = 0.0
    health: str = "Healthy"
    cause: str = ""
    protected: bool = False
    decrement: bool = False
    activity: Activity | None = None


@dataclass
class Activity:
    """A scaling activity (Auto Scaling API Reference, "Activity")."""

    group_name: str
    description: str
    cause: str
    status: str = "InProgress"
    message: str | None = None
    progress: int = 0
    activity_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    ended: datetime | None = None

    def end(self, status: str = "Successful", message: str | None = None) -> None:
        """Close the activity."""
        self.status, self.message, self.progress, self.ended = status, message, 100, datetime.now(UTC)


@dataclass
class Policy:
    """A target tracking policy with the names of its two alarms."""

    name: str
    arn: str
    group_name: str
    configuration: dict[str, Any]
    warmup: int | None
    enabled: bool
    alarms: list[dict[str, str]] = field(default_factory=list)


@dataclass
class Group:
    """An Auto Scaling group.

    `template` holds LaunchTemplateId, LaunchTemplateName and the Version as the caller gave it (None: the default one).
    """

    name: str
    arn: str
    minimum: int
    maximum: int
    desired: int
    subnet_ids: list[str]
    template: dict[str, Any]
    target_group_arns: list[str]
    health_check_type: str = "EC2"
    grace_period: int = 0
    cooldown: int = 300
    warmup: int | None = None
    new_protected: bool = False
    termination_policies: list[str] = field(default_factory=lambda: ["Default"])
    tags: dict[str, dict[str, Any]] = field(default_factory=dict)
    metrics: list[str] = field(default_factory=list)
    suspended: set[str] = field(default_factory=set)
    members: dict[str, Member] = field(default_factory=dict)
    activities: list[Activity] = field(default_factory=list)
    policies: dict[str, Policy] = field(default_factory=dict)
    created: datetime = field(default_factory=lambda: datetime.now(UTC))
    deleting: bool = False
    max_instance_lifetime: int | None = None
    capacity_rebalance: bool = False
    retry_at: float = 0.0
    failures: int = 0

    def log(self, description: str, cause: str) -> Activity:
        """Open an activity, newest first; the last hundred are kept."""
        activity = Activity(self.name, description, cause)
        self.activities.insert(0, activity)
        del self.activities[100:]
        return activity
