"""The instance types one machine can stand for, and in which zones AWS offers them."""

from __future__ import annotations

from functools import cache
from typing import Any

from moto.core.responses import ActionResult
from moto.ec2.models.instance_types import INSTANCE_TYPE_OFFERINGS, INSTANCE_TYPES

from localcloud.api.ec2.service import SERVICE, backend
from localcloud.api.registry import AwsError, Call, active

MODELLED = tuple(f"{family}.{size}" for family in ("t2", "t3") for size in ("nano", "micro", "small", "medium"))


@cache
def _zones(region: str) -> dict[str, tuple[str, ...]]:
    """Type to zones, from AWS's own answers that moto carries (in Seoul: t2 in the zones a and c only)."""
    offerings = INSTANCE_TYPE_OFFERINGS["availability-zone"].get(region, [])
    return {name: tuple(sorted(o["Location"] for o in offerings if o["InstanceType"] == name)) for name in MODELLED}


def offered(instance_type: str, zone: str) -> bool:
    """Whether AWS offers the type in the zone."""
    return zone in _zones(active().settings.region).get(instance_type, ())


def check(instance_type: str, zone: str | None = None) -> None:
    """Refuse a type that does not exist, that this cloud cannot stand for, or that the zone does not offer.

    Raises:
        AwsError: as RunInstances words it.
    """
    if instance_type not in INSTANCE_TYPES:
        raise AwsError("InvalidParameterValue", f"Invalid value '{instance_type}' for InstanceType.")
    if instance_type not in MODELLED:
        raise AwsError("Unsupported", f"The local cloud does not model {instance_type}; it has {', '.join(MODELLED)}.")
    if zone and not offered(instance_type, zone):
        better = ", ".join(_zones(active().settings.region)[instance_type])
        raise AwsError(
            "Unsupported",
            f"Your requested instance type ({instance_type}) is not supported in your requested Availability Zone "
            f"({zone}). Please retry your request by not specifying an Availability Zone or choosing {better}.",
        )


@SERVICE.action("DescribeInstanceTypes")
def describe_instance_types(call: Call) -> ActionResult:
    """List only what can be launched."""
    names = call.params.get("InstanceTypes") or []
    for name in names:
        if name not in INSTANCE_TYPES:
            raise AwsError("InvalidInstanceType", f"The following supplied instance types do not exist: [{name}]")
    types = backend(call.plane).describe_instance_types(
        [n for n in names if n in MODELLED] or list(MODELLED), call.response._filters_from_querystring()
    )
    return ActionResult({"InstanceTypes": [t for t in types if not names or t["InstanceType"] in names]})


@SERVICE.action("DescribeInstanceTypeOfferings")
def describe_instance_type_offerings(call: Call) -> ActionResult:
    """List only what can be launched, with AWS's zones."""
    offerings: list[dict[str, Any]] = backend(call.plane).describe_instance_type_offerings(
        call.params.get("LocationType"), call.response._filters_from_querystring()
    )
    return ActionResult({"InstanceTypeOfferings": [o for o in offerings if o["InstanceType"] in MODELLED]})
