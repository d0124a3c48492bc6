"""The HTTP side of the API: who calls, for which service, region and action; answers and errors as AWS words them."""

from __future__ import annotations

import io
import json
import logging
import socket
import threading
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import flask
from botocore.model import OperationNotFoundError
from moto.backends import SERVICE_NAMES
from moto.core.exceptions import ServiceException
from moto.core.model import OperationModel
from moto.core.responses import BaseResponse
from moto.core.serialize import get_serializer_class
from moto.core.utils import get_service_model
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import BaseWSGIServer, make_server
from werkzeug.test import run_wsgi_app

from localcloud.api import access, registry
from localcloud.api.modelled import is_modelled
from localcloud.api.registry import AwsError, Service, unsupported

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

    from localcloud.api import ControlPlane

log = logging.getLogger(__name__)

_POLL_SECONDS = 0.1
"""How often the server looks whether it is to end."""
_LARGEST_REQUEST = 4 * 1024 * 1024
_GLOBAL_REGION = "us-east-1"
"""IAM and the global STS endpoint are signed for this region wherever the caller is (IAM User Guide)."""
_GLOBAL_SERVICES = ("iam", "sts")
_ACTION_KEY = "localcloud.action"


_moto_action = BaseResponse._get_action


def _get_action(self: BaseResponse) -> str:
    """Replace moto's: the action is the one that was admitted, not one that moto finds elsewhere in the request.

    Every request to a control plane has been admitted; what comes without one is a test with moto itself.
    """
    if not registry.running():
        return _moto_action(self)
    return str(self.normalized_request.environ[_ACTION_KEY])


BaseResponse._get_action = _get_action  # type: ignore[method-assign]

# moto warns that an error code is not in botocore's list for the service; AWS's common errors never are.
warnings.filterwarnings("ignore", message=r"Exception\(.*\) with code .* does not match an error shape")


@dataclass(frozen=True)
class Envelope:
    """What is known of a request before anything is done for it."""

    signing_name: str
    region: str
    access_key: str
    session_token: str | None
    action: str
    content_type: str
    path: str
    remote_address: str


class Application:
    """The WSGI application: refuses what is not for this cloud, hands the rest to moto one call at a time.

    Args:
        plane: the cloud; its lock is held around every call.
        services: by the name that requests are signed for.
    """

    def __init__(self, plane: ControlPlane, services: dict[str, Service]) -> None:
        self._plane = plane
        self._services = services
        self._moto = DomainDispatcherApplication(_backend_app)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        length = int(environ.get("CONTENT_LENGTH") or 0)
        body = environ["wsgi.input"].read(min(length, _LARGEST_REQUEST))
        environ["wsgi.input"] = io.BytesIO(body)
        # moto lets a caller choose an account by this header; there is one.
        environ.pop("HTTP_X_MOTO_ACCOUNT_ID", None)
        envelope = _open(environ, body)
        environ[_ACTION_KEY] = envelope.action
        service = self._services.get(envelope.signing_name)
        try:
            if length > _LARGEST_REQUEST:
                raise AwsError("RequestEntityTooLarge", f"The request is larger than {_LARGEST_REQUEST} bytes.")
            service = self._admit(envelope, service, body)
        except ServiceException as error:
            status, headers, text = render_error(service, envelope, error)
            start_response(status, headers)
            return [text]
        with self._plane.lock:
            content, status, answer_headers = run_wsgi_app(self._moto, environ, buffered=True)
        start_response(status, list(answer_headers))
        return content

    def _admit(self, envelope: Envelope, service: Service | None, body: bytes) -> Service:
        region = self._plane.settings.region
        if not envelope.signing_name:
            raise AwsError("MissingAuthenticationToken", "Request is missing Authentication Token")
        if service is None:
            raise unsupported(f"the service {envelope.signing_name!r}")
        if envelope.path.startswith(("/moto-api", "/latest")):
            raise AwsError("InvalidAction", "The local cloud's records are changed by AWS's API only.")
        regions = {region, _GLOBAL_REGION} if service.name in _GLOBAL_SERVICES else {region}
        if envelope.region not in regions:
            code = "AuthFailure" if service.name == "ec2" else "SignatureDoesNotMatch"
            raise AwsError(
                code,
                f"Credential should be scoped to a valid region, not '{envelope.region}': "
                f"this local cloud is {region} only.",
            )
        try:
            get_service_model(service.name).operation_model(envelope.action)
        except OperationNotFoundError as error:
            raise AwsError(
                "InvalidAction", f"The action {envelope.action or '(none)'} is not valid for this web service."
            ) from error
        if not service.knows(envelope.action) or not is_modelled(service.name, envelope.action):
            raise unsupported(f"{service.name} {envelope.action}")
        with self._plane.lock:
            access.check(
                self._plane,
                access.Caller(envelope.access_key, envelope.session_token, envelope.remote_address),
                envelope.signing_name,
                envelope.action,
                _json(body) if "json" in envelope.content_type else {},
            )
        if access.is_temporary(envelope.access_key) and service.name == "ssm" and b"&" in body:
            # moto would read such a body as a form as well, and so other names than those just checked.
            raise AwsError("ValidationException", "The request body may not contain '&'.")
        return service


def _json(body: bytes) -> dict[str, Any]:
    try:
        parsed = json.loads(body or b"{}")
    except ValueError:
        return {}
    return parsed if isinstance(parsed, dict) else {}


def _open(environ: WSGIEnvironment, body: bytes) -> Envelope:
    """Read the credential scope (AWS Signature Version 4: `Credential=KEY/DATE/REGION/SERVICE/aws4_request`)."""
    content_type = str(environ.get("CONTENT_TYPE", ""))
    action = ""
    if content_type.startswith("application/x-www-form-urlencoded"):
        action = parse_qs(body.decode("utf-8", "replace")).get("Action", [""])[0]
    action = action or parse_qs(str(environ.get("QUERY_STRING", ""))).get("Action", [""])[0]
    action = action or str(environ.get("HTTP_X_AMZ_TARGET", "")).rpartition(".")[2]
    action = action or str(environ.get("PATH_INFO", "")).rpartition("/operation/")[2].strip("/")
    key = region = service = ""
    before, _, scope = str(environ.get("HTTP_AUTHORIZATION", "")).partition("Credential=")
    parts = scope.split(",")[0].strip().split("/")
    if before.strip() == "AWS4-HMAC-SHA256" and len(parts) == 5:
        key, _, region, service, _ = parts
    token = environ.get("HTTP_X_AMZ_SECURITY_TOKEN")
    path = str(environ.get("PATH_INFO", "/"))
    return Envelope(
        signing_name=service.lower(),
        region=region,
        access_key=key,
        session_token=str(token) if token else None,
        action=action,
        content_type=content_type,
        path=path,
        remote_address=str(environ.get("REMOTE_ADDR", "")),
    )


def render_error(
    service: Service | None, envelope: Envelope, error: ServiceException
) -> tuple[str, list[tuple[str, str]], bytes]:
    """Write an error in the protocol the caller speaks.

    Returns:
        status line, headers, body.
    """
    name = service.name if service else "ssm" if "json" in envelope.content_type else "sts"
    model = get_service_model(name)
    protocol = str(model.protocol)
    if "cbor" in envelope.content_type:
        protocol = "smithy-rpc-v2-cbor"
    elif "json" in envelope.content_type:
        protocol = "json"
    serializer = get_serializer_class(name, protocol)(operation_model=OperationModel({}, model))
    answer: Any = serializer.serialize(error)
    body = answer["body"]
    headers = [(str(key), str(value)) for key, value in answer["headers"].items()]
    status = answer["status_code"]
    return f"{status} Error", headers, body if isinstance(body, bytes) else str(body).encode()


def _backend_app(service: SERVICE_NAMES) -> flask.Flask:
    """Build moto's application for a service, with errors in AWS's form instead of HTML pages."""
    app = create_backend_app(service)
    app.debug = False

    def refuse(error: Exception) -> flask.Response:
        environ = flask.request.environ
        envelope = _open(environ, flask.request.get_data())
        if isinstance(error, NotImplementedError):
            log.warning("%s %s: %s", envelope.signing_name, envelope.action, error)
            shown: ServiceException = unsupported(f"this form of {envelope.action} ({error})")
            status = "400 Error"
        else:
            log.error("%s %s failed", envelope.signing_name, envelope.action, exc_info=error)
            shown = AwsError("InternalFailure", f"{envelope.action} failed in the local cloud: {error!r}; see its log")
            status = "500 Error"
        from localcloud.api import SERVICES

        _, headers, body = render_error(SERVICES.get(envelope.signing_name), envelope, shown)
        return flask.Response(body, status=status, headers=headers)

    app.register_error_handler(Exception, refuse)
    return app


class _QuietHandler(MotoRequestHandler):
    """One debug line per request, in the log rather than on the terminal."""

    def log(self, type: str, message: str, *args: object) -> None:
        log.debug("%s %s", self.address_string(), message % args if args else message)


class Server:
    """The listening socket and its thread.

    Args:
        application: what answers.
        host: address to listen on.
        port: TCP port, 0 for any free one.

    Raises:
        OSError: the address cannot be bound.
    """

    def __init__(self, application: Application, host: str, port: int) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._socket.bind((host, port))
            self._socket.listen(128)
        except OSError:
            self._socket.close()
            raise
        self.port = int(self._socket.getsockname()[1])
        self._server: BaseWSGIServer = make_server(
            host, self.port, application, threaded=True, request_handler=_QuietHandler, fd=self._socket.fileno()
        )
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(_POLL_SECONDS,), name="api", daemon=True
        )

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Stop answering and free the port."""
        self._server.shutdown()
        self._thread.join(timeout=5)
        self._server.server_close()
        self._socket.close()
