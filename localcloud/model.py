"""The words that the parts of the local cloud share: what should be, and what is.

`state` fills the desired records from moto; `hosts`, `volumes`, `network` and `balancer`
make them real and report the actual ones; `reconcile` compares the two.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


class InstanceState(StrEnum):
    """EC2 instance states (EC2 User Guide, "Instance lifecycle")."""

    PENDING = "pending"
    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"
    SHUTTING_DOWN = "shutting-down"
    TERMINATED = "terminated"


@dataclass(frozen=True)
class VolumeAttachment:
    """An EBS volume on an instance. `device` as the API has it, e.g. `/dev/sdf` or `/dev/xvdf`."""

    volume_id: str
    device: str
    size_gib: int
    delete_on_termination: bool = False


@dataclass(frozen=True)
class DesiredInstance:
    """An instance as the API describes it."""

    instance_id: str
    state: InstanceState
    image_id: str
    instance_type: str
    private_ip: str
    mac: str
    subnet_id: str
    availability_zone: str
    security_group_ids: tuple[str, ...] = ()
    key_name: str | None = None
    public_key: str | None = None
    user_data: bytes = b""
    instance_profile_arn: str | None = None
    role_name: str | None = None
    http_tokens: str = "optional"
    http_put_response_hop_limit: int = 1
    tags: tuple[tuple[str, str], ...] = ()
    volumes: tuple[VolumeAttachment, ...] = ()

    @property
    def hostname(self) -> str:
        """The private DNS label EC2 gives by default, e.g. `ip-10-201-0-10`."""
        return "ip-" + self.private_ip.replace(".", "-")


@dataclass(frozen=True)
class Rule:
    """One permission of a security group, with its sources already as networks or addresses.

    `protocol` is tcp, udp, icmp or all; ports are inclusive and None for icmp and all.
    An empty `sources` matches nothing.
    """

    protocol: str
    from_port: int | None
    to_port: int | None
    sources: tuple[str, ...]


@dataclass(frozen=True)
class Firewall:
    """What one address may receive and send; everything else is dropped. Answers always pass."""

    ingress: tuple[Rule, ...] = ()
    egress: tuple[Rule, ...] = ()


@dataclass(frozen=True)
class HealthCheck:
    """A target group's health check (ELB API Reference, "TargetGroup"); times in seconds."""

    protocol: str = "HTTP"
    port: str = "traffic-port"
    path: str = "/"
    interval: int = 30
    timeout: int = 5
    healthy_threshold: int = 5
    unhealthy_threshold: int = 2
    matcher: str = "200"


@dataclass(frozen=True)
class DesiredTarget:
    """A registered target; `address` is None while its instance has none to offer (not running)."""

    target_id: str
    address: str | None
    port: int


@dataclass(frozen=True)
class DesiredTargetGroup:
    """A target group with what is registered in it; `deregistration_delay` in seconds."""

    arn: str
    name: str
    protocol: str
    port: int
    health_check: HealthCheck
    targets: tuple[DesiredTarget, ...] = ()
    deregistration_delay: int = 300


@dataclass(frozen=True)
class DesiredListener:
    """A listener whose default action forwards to one target group, or answers a fixed response."""

    arn: str
    port: int
    target_group_arn: str | None
    fixed_status: int | None = None
    fixed_body: str = ""
    fixed_content_type: str = "text/plain"


@dataclass(frozen=True)
class DesiredLoadBalancer:
    """An application load balancer; `address` is the bridge address it serves on, `idle_timeout` in seconds."""

    arn: str
    name: str
    dns_name: str
    address: str
    security_group_ids: tuple[str, ...] = ()
    listeners: tuple[DesiredListener, ...] = ()
    idle_timeout: int = 60


class HealthState(StrEnum):
    """ELB API Reference, "TargetHealth"."""

    INITIAL = "initial"
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    UNUSED = "unused"
    DRAINING = "draining"


@dataclass(frozen=True)
class TargetHealth:
    """What the probes saw of one target; reason and description are AWS's own words."""

    state: HealthState
    reason: str | None = None
    description: str | None = None


@dataclass(frozen=True)
class ActualInstance:
    """A container as it stands: `state` is running or stopped; `image_id` of what it was made.

    `needs_boot` where one that should run waits to be started: its system asked for a reboot, or a boot broke off.
    """

    instance_id: str
    state: InstanceState
    image_id: str
    private_ip: str
    started_at: datetime | None = None
    devices: tuple[str, ...] = field(default=())
    needs_boot: bool = False
