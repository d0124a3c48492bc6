"""The EC2 service object that the files beside this one add to, and moto's records of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moto.ec2.models import EC2Backend, ec2_backends
from moto.ec2.responses import EC2Response

from localcloud.api.registry import Service
from localcloud.settings import ACCOUNT_ID

if TYPE_CHECKING:
    from localcloud.api import ControlPlane

SERVICE = Service("ec2", EC2Response)


def backend(plane: ControlPlane) -> EC2Backend:
    """Return moto's records of the cloud's EC2."""
    return ec2_backends[ACCOUNT_ID][plane.settings.region]
