"""The records of Auto Scaling. moto's own launch and kill at once, on paper; these only say what is wanted."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

LAUNCHING = "autoscaling:EC2_INSTANCE_LAUNCHING"
TERMINATING = "autoscaling:EC2_INSTANCE_TERMINATING"

_CAUSES_TOLD = 10


def at_this_time(text: str) -> str:
    """Begin a sentence of an activity's cause as AWS does, e.g. `At 2026-11-24T00:00:00Z a user request …`."""
    return f"At {datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {text}"


@dataclass
class Hook:
    """A lifecycle hook (Auto Scaling API Reference, "LifecycleHook").

    `transition` is LAUNCHING or TERMINATING, `heartbeat` seconds, `default_result` CONTINUE or ABANDON.
    """

    name: str
    transition: str
    heartbeat: int = 3600
    default_result: str = "ABANDON"
    metadata: str | None = None


@dataclass
class Wait:
    """A lifecycle action that is under way: a member waits for it.

    `deadline` moves with each heartbeat, `latest` never does; both on the control plane's clock.
    `result` is CONTINUE or ABANDON once it is over.
    """

    hook: Hook
    deadline: float
    latest: float
    result: str | None = None


@dataclass
class Member:
    """An instance of a group.

    `lifecycle` is AWS's lifecycle state; `changed` the monotonic time at which it began.
    `health` is what was set by SetInstanceHealth or found by the checks.
    `offered` are the target groups that it was put into, or kept out of while AddToLoadBalancer was suspended.
    `waits` are the lifecycle actions of its current transition, by hook.
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
    offered: set[str] = field(default_factory=set)
    waits: dict[str, Wait] = field(default_factory=dict)

    @property
    def launching(self) -> bool:
        """Whether it is on its way into service."""
        return self.lifecycle.startswith("Pending")

    @property
    def terminating(self) -> bool:
        """Whether it is on its way out for good."""
        return self.lifecycle.startswith("Terminating")

    @property
    def serving(self) -> bool:
        """Whether it counts for the desired capacity: in service or soon to be; standby does not count."""
        return self.launching or self.lifecycle == "InService"


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


ACTIVE = ("Pending", "InProgress", "Baking", "RollbackInProgress", "Cancelling")
"""Statuses of a refresh that is not over: there is one at a time."""


@dataclass
class Rollback:
    """A refresh's way back (Auto Scaling API Reference, "RollbackDetails")."""

    reason: str
    percentage: int
    to_update: int
    started: datetime = field(default_factory=lambda: datetime.now(UTC))


@dataclass
class Refresh:
    """An instance refresh (Auto Scaling API Reference, "InstanceRefresh").

    `desired` is the launch template wanted, as in `Group.template` (None: the group's own); `preferences` are the API's
    with AWS's defaults filled in, but MaxHealthyPercentage only when it was given, because that changes the order.
    `known` are the members at the beginning of the current phase (the way there or the way back), `outdated` those of
    them that the phase replaces, out of `total`; `failed` tells of its new ones that failed, by id. `since` is when
    something last went forward and `reached` when the current checkpoint was, both on the control plane's clock.
    `extra` is how many instances the group holds above its desired capacity for now.
    """

    group_name: str
    desired: dict[str, Any] | None
    preferences: dict[str, Any]
    status: str = "Pending"
    reason: str | None = None
    percentage: int = 0
    to_update: int = 0
    known: set[str] = field(default_factory=set)
    outdated: set[str] = field(default_factory=set)
    total: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    since: float = 0.0
    reached: float | None = None
    checkpoint: int = 0
    extra: int = 0
    rollback: Rollback | None = None
    wait_on_cancel: bool = True
    refresh_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    ended: datetime | None = None

    def end(self, status: str, reason: str | None = None) -> None:
        """Close the refresh."""
        self.status, self.reason, self.extra, self.ended = status, reason, 0, datetime.now(UTC)


@dataclass
class Group:
    """An Auto Scaling group.

    `template` holds LaunchTemplateId, LaunchTemplateName and the Version as the caller gave it (None: the default one).
    `causes` tell why the desired capacity is what it is, for the activities that bring the group there.
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
    hooks: dict[str, Hook] = field(default_factory=dict)
    causes: list[str] = field(default_factory=list)
    created: datetime = field(default_factory=lambda: datetime.now(UTC))
    deleting: bool = False
    max_instance_lifetime: int | None = None
    capacity_rebalance: bool = False
    retry_at: float = 0.0
    failures: int = 0
    refreshes: list[Refresh] = field(default_factory=list)

    @property
    def refresh(self) -> Refresh | None:
        """The instance refresh that is not over, if there is one; they are kept newest first."""
        return self.refreshes[0] if self.refreshes and self.refreshes[0].status in ACTIVE else None

    @property
    def launch_from(self) -> dict[str, Any]:
        """The launch template for new instances: while a refresh goes on, the one it desires.

        Auto Scaling User Guide, "Start an instance refresh": the desired configuration is saved to the group when the
        refresh succeeds; until then it is what all launches use. A rollback launches from what the group had saved.
        """
        refresh = self.refresh
        if refresh is None or refresh.desired is None or refresh.status in ("RollbackInProgress", "Cancelling"):
            return self.template
        return refresh.desired

    def set_desired(self, wanted: int, why: str) -> None:
        """Change the desired capacity.

        Args:
            wanted: how many instances, within the bounds.
            why: AWS's words, e.g. `a user request explicitly set group desired capacity`.
        """
        self.causes.append(at_this_time(f"{why} changing the desired capacity from {self.desired} to {wanted}."))
        self.desired = wanted
        del self.causes[:-_CAUSES_TOLD]

    def log(self, description: str, cause: str) -> Activity:
        """Open an activity, newest first; the last hundred are kept."""
        activity = Activity(self.name, description, cause)
        self.activities.insert(0, activity)
        del self.activities[100:]
        return activity
