"""Who calls: the account's administrator, or an instance with its role's temporary credentials.

Long-term keys stand for the administrator and are not checked further: they are taken from this machine only,
never from an instance, and no other machine reaches the API.
Temporary keys (`ASIA…`) must be ones we gave out, with their session token, and may do what the role's policies say.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from moto.iam.models import Role, iam_backends
from moto.sts.models import AssumedRole, sts_backends

from localcloud.api import ec2
from localcloud.api.registry import AwsError
from localcloud.settings import ACCOUNT_ID

if TYPE_CHECKING:
    from localcloud.api import ControlPlane
    from localcloud.model import DesiredInstance

log = logging.getLogger(__name__)

_LIFETIME = timedelta(hours=6)
_RENEW_BEFORE = timedelta(minutes=15)
"""EC2 makes new credentials available at least five minutes before the old ones expire (IAM User Guide)."""
_NEVER_REFUSED = {"sts:GetCallerIdentity"}


@dataclass(frozen=True)
class Credentials:
    """Temporary credentials, as the metadata service gives them out."""

    access_key_id: str
    secret_access_key: str
    token: str
    last_updated: datetime
    expiration: datetime


class CredentialStore:
    """The temporary credentials of instances.

    Args:
        plane: the cloud.
    """

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane
        self._given: dict[tuple[str, str], Credentials] = {}

    def of_instance(self, instance: DesiredInstance) -> Credentials | None:
        """Return credentials for the instance's role, the same ones until they are about to expire."""
        if instance.role_name is None:
            return None
        key = (instance.instance_id, instance.role_name)
        now = datetime.now(UTC)
        known = self._given.get(key)
        if known is not None and known.expiration - now > _RENEW_BEFORE:
            return known
        role = _role(instance.role_name)
        if role is None:
            return None
        assumed = sts_backends[ACCOUNT_ID]["aws"].assume_role(
            region_name=self._plane.settings.region,
            role_session_name=instance.instance_id,
            role_arn=role.arn,
            policy="",
            duration=int(_LIFETIME.total_seconds()),
            external_id="",
        )
        given = Credentials(
            access_key_id=assumed.access_key_id,
            secret_access_key=assumed.secret_access_key,
            token=assumed.session_token,
            last_updated=now,
            expiration=now + _LIFETIME,
        )
        self._given[key] = given
        return given


@dataclass(frozen=True)
class Caller:
    """Where a request comes from, and the credentials it names."""

    access_key: str
    session_token: str | None
    address: str


def is_temporary(access_key: str) -> bool:
    """Whether the key belongs to temporary credentials (IAM User Guide, "Unique ID prefixes")."""
    return access_key.startswith("ASIA")


def check(plane: ControlPlane, caller: Caller, service: str, action: str, params: dict[str, Any]) -> None:
    """Refuse made-up temporary credentials, actions the role may not do, and instances that play administrator.

    Args:
        plane: the cloud, its lock held.
        caller: who asks.
        service: the IAM prefix, e.g. `ssm`.
        action: the API action.
        params: the request's parameters where they are JSON.

    Raises:
        AwsError: `UnrecognizedClientException`, `ExpiredTokenException` or `AccessDeniedException`.
    """
    if not is_temporary(caller.access_key):
        if any(nic.private_ip_address == caller.address for nic in ec2.backend(plane).enis.values()):
            raise AwsError(
                "UnrecognizedClientException",
                "The security token included in the request is invalid: instances have their role's credentials only.",
            )
        return
    assumed: AssumedRole | None = sts_backends[ACCOUNT_ID]["aws"].get_assumed_role_from_access_key(caller.access_key)
    if assumed is None or assumed.session_token != caller.session_token:
        raise AwsError("UnrecognizedClientException", "The security token included in the request is invalid.")
    if assumed.expiration.replace(tzinfo=UTC) < datetime.now(UTC):
        raise AwsError("ExpiredTokenException", "The security token included in the request is expired")
    wanted = f"{service}:{action}"
    if wanted in _NEVER_REFUSED:
        return
    role = _role(assumed.role_arn.rpartition("/")[2])
    statements = list(_statements(role)) if role else []
    for resource in _resources(plane, service, params):
        if not _allowed(statements, wanted, resource):
            code = "UnauthorizedOperation" if service == "ec2" else "AccessDeniedException"
            raise AwsError(
                code,
                f"User: {assumed.arn} is not authorized to perform: {wanted} on resource: {resource} "
                f"because no identity-based policy allows the {wanted} action",
            )


def _role(name: str) -> Role | None:
    return next((r for r in iam_backends[ACCOUNT_ID]["aws"].roles.values() if r.name == name), None)


def _resources(plane: ControlPlane, service: str, params: dict[str, Any]) -> list[str]:
    """Name what the call is about; only parameters have names of their own here, the rest is `*`."""
    if service != "ssm":
        return ["*"]
    names = [params.get("Name"), params.get("Path"), *(params.get("Names") or [])]
    found = [str(name) for name in names if name]
    prefix = f"arn:aws:ssm:{plane.settings.region}:{ACCOUNT_ID}:parameter/"
    return [n if n.startswith("arn:") else prefix + n.partition(":")[0].lstrip("/") for n in found] or ["*"]


def _statements(role: Role) -> Iterable[dict[str, Any]]:
    documents = [*role.policies.values(), *_managed_documents(role)]
    for document in documents:
        parsed = json.loads(document) if isinstance(document, str) else document
        found = parsed.get("Statement", [])
        yield from found if isinstance(found, list) else [found]


def _managed_documents(role: Role) -> Iterable[str]:
    for policy in role.managed_policies.values():
        yield from (str(v.document) for v in policy.versions if v.version_id == policy.default_version_id)


def _allowed(statements: list[dict[str, Any]], action: str, resource: str) -> bool:
    """Judge as IAM does: a deny wins, what nothing allows is denied (IAM User Guide, "Policy evaluation logic").

    Conditions are not modelled: an allow with one does not count, a deny with one does.
    """
    allowed = False
    for statement in statements:
        if not _matches(statement, action, resource):
            continue
        if statement.get("Effect") == "Deny":
            return False
        if statement.get("Condition"):
            log.warning("a policy statement with a Condition was left out: conditions are not modelled")
            continue
        allowed = True
    return allowed


def _matches(statement: dict[str, Any], action: str, resource: str) -> bool:
    if "NotAction" in statement:
        acts = not _any(statement["NotAction"], action, re.IGNORECASE)
    else:
        acts = _any(statement.get("Action", []), action, re.IGNORECASE)
    if "NotResource" in statement:
        return acts and not _any(statement["NotResource"], resource, 0)
    return acts and _any(statement.get("Resource", []), resource, 0)


def _any(patterns: str | list[str], value: str, flags: int) -> bool:
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        expression = re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".")
        if re.fullmatch(expression, value, flags | re.DOTALL):
            return True
    return False
