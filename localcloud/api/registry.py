"""How our corrections of moto are written down: per AWS service and action, checks, replacements and follow-ups.

moto's response classes have one method per API action. A `Service` collects our functions for
actions and `install` puts them around (or instead of) those methods, once per process.
A check refuses what AWS would refuse; a replacement is the whole action and may call
`Call.forward` for moto's own; a follow-up runs after the action has succeeded.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from moto.core.exceptions import ServiceException
from moto.core.parse import PROTOCOL_PARSERS
from moto.core.request import determine_request_protocol
from moto.core.responses import ActionResult, BaseResponse
from moto.core.utils import camelcase_to_underscores, get_service_model

if TYPE_CHECKING:
    from localcloud.api import ControlPlane


class AwsError(ServiceException):
    """An error as AWS words it: `AwsError("InvalidAMIName.Duplicate", "AMI name … is already in use …")`."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)


def unsupported(what: str) -> AwsError:
    """Refuse something that AWS has and the local cloud does not model, rather than accept it and do nothing."""
    return AwsError("UnsupportedOperation", f"The local cloud does not model {what}; use AWS itself for it.")


@dataclass
class Call:
    """One API call on its way: the cloud, moto's response object, and the parameters as the API names them."""

    plane: ControlPlane
    service: str
    action: str
    response: Any
    forward: Callable[[], object]
    params: dict[str, Any] = field(default_factory=dict)

    def refuse_parameters(self, reasons: dict[str, str]) -> None:
        """Refuse parameters that would be ignored.

        Args:
            reasons: parameter name (dots for nesting) to what it stands for, in words.

        Raises:
            AwsError: one of them is given.
        """
        for name, what in reasons.items():
            value: Any = self.params
            for part in name.split("."):
                value = value.get(part) if isinstance(value, dict) else None
            if value not in (None, [], {}, ""):
                raise unsupported(f"{what} ({name})")


Check: TypeAlias = Callable[[Call], None]
Replacement: TypeAlias = Callable[[Call], object]

_active: ControlPlane | None = None


def activate(plane: ControlPlane | None) -> None:
    """Set the control plane that calls are for; moto's backends are global, so there is one per process."""
    global _active
    if plane is not None and _active is not None and _active is not plane:
        raise RuntimeError("a control plane already runs in this process; moto allows one")
    _active = plane


def running() -> bool:
    """Whether a control plane runs in this process; without one moto is left to itself."""
    return _active is not None


def active() -> ControlPlane:
    """Return the running control plane."""
    if _active is None:
        raise RuntimeError("no control plane runs in this process")
    return _active


class Service:
    """Our functions around one AWS service's actions.

    Args:
        name: the name boto3 has for the service, e.g. `elbv2`.
        response: moto's response class.
    """

    def __init__(self, name: str, response: type[BaseResponse]) -> None:
        self.name = name
        self.response = response
        self._checks: dict[str, list[Check]] = defaultdict(list)
        self._replacements: dict[str, Replacement] = {}
        self._follow_ups: dict[str, list[Check]] = defaultdict(list)
        self._installed = False

    def check(self, *actions: str) -> Callable[[Check], Check]:
        """Register a function that runs before the actions."""

        def register(function: Check) -> Check:
            for action in actions:
                self._checks[action].append(function)
            return function

        return register

    def action(self, *actions: str) -> Callable[[Replacement], Replacement]:
        """Register the function that is the action."""

        def register(function: Replacement) -> Replacement:
            for action in actions:
                self._replacements[action] = function
            return function

        return register

    def after(self, *actions: str) -> Callable[[Check], Check]:
        """Register a function that runs when the actions have succeeded."""

        def register(function: Check) -> Check:
            for action in actions:
                self._follow_ups[action].append(function)
            return function

        return register

    def knows(self, action: str) -> bool:
        """Whether the action can be called, ours or moto's."""
        return callable(getattr(self.response, camelcase_to_underscores(action), None))

    def install(self) -> None:
        """Put the functions into moto's response class; the second time does nothing."""
        if self._installed:
            return
        for action in {*self._checks, *self._replacements, *self._follow_ups}:
            method = camelcase_to_underscores(action)
            setattr(self.response, method, self._wrap(action, getattr(self.response, method, None)))
        self._installed = True

    def _wrap(self, action: str, original: Callable[[BaseResponse], object] | None) -> Callable[[BaseResponse], object]:
        replacement = self._replacements.get(action)
        if original is None and replacement is None:
            raise LookupError(f"moto has no {self.name} {action} to add to")

        def wrapped(response: BaseResponse) -> object:
            forward = functools.partial(original, response) if original else _nothing_to_forward
            if not running():
                return forward()
            call = Call(active(), self.name, action, response, forward, _parameters(response))
            for check in self._checks.get(action, ()):
                check(call)
            result = replacement(call) if replacement else call.forward()
            for follow_up in self._follow_ups.get(action, ()):
                follow_up(call)
            return result

        return wrapped


def _nothing_to_forward() -> ActionResult:
    raise LookupError("moto does not have this action")


def _parameters(response: BaseResponse) -> dict[str, Any]:
    """Parse the request as the service's model describes it, plain dictionaries and lists."""
    model = get_service_model(response.boto3_service_name)
    request = response.normalized_request
    protocol = determine_request_protocol(model, request.content_type)
    parser = PROTOCOL_PARSERS[protocol](model.operation_model(response._get_action()), map_type=dict)
    parsed = parser.parse(
        {
            "method": request.method,
            "values": request.values,
            "headers": request.headers,
            "body": request.data,
            "url_path": request.path,
            "url_params": response.uri_match,
        }
    )
    return dict(parsed)
