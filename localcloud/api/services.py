"""The AWS services that this cloud answers for, and moto's records of them."""

from __future__ import annotations

from moto.core.base_backend import BackendDict
from moto.iam.responses import IamResponse
from moto.ssm.responses import SimpleSystemManagerResponse
from moto.sts.responses import TokenResponse

from localcloud.api import (
    ec2,
    elbv2,
    instance_refresh,
    lifecycle_hooks,
    metric_queries,
    scaling_policies,
    scaling_processes,
    standby,
)
from localcloud.api.registry import Service

# Each of these adds its actions to the one service.
(_AUTOSCALING,) = {
    part.SERVICE for part in (instance_refresh, lifecycle_hooks, scaling_policies, scaling_processes, standby)
}

SERVICES: dict[str, Service] = {
    "ec2": ec2.SERVICE,
    "autoscaling": _AUTOSCALING,
    "elasticloadbalancing": elbv2.SERVICE,
    "iam": Service("iam", IamResponse),
    "sts": Service("sts", TokenResponse),
    "ssm": Service("ssm", SimpleSystemManagerResponse),
    "monitoring": metric_queries.SERVICE,
}
"""By the name that requests are signed for."""


def install() -> None:
    """Put our corrections into moto; the second time does nothing."""
    for service in SERVICES.values():
        service.install()


def forget_everything() -> None:
    """Empty all of moto's records."""
    BackendDict.reset()
