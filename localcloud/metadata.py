"""The instance metadata service: what 169.254.169.254 answers, with session tokens (IMDSv2).

Whoever asks is known by the address the question comes from.
Source of paths and behaviour: EC2 User Guide, "Instance metadata categories" and "Use the Instance Metadata Service".
What this cloud does not know of an instance (names of its groups, its VPC) is not there: 404, and not in the listings.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import re
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server
from werkzeug.wrappers import Request, Response

from .model import DesiredInstance
from .settings import ACCOUNT_ID, CloudSettings

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

    from .api.access import Credentials

logger = logging.getLogger(__name__)

Tree = dict[str, "Tree | str"]
"""Directories and values by name."""

_VERSION = re.compile(r"latest|1\.0|20\d\d-\d\d-\d\d")
_VERSIONS = ("1.0", "2009-04-04", "2016-09-02", "2018-09-24", "2021-03-23", "latest")
_SESSION_HEADER = "X-aws-ec2-metadata-token"
_TTL_HEADER = "X-aws-ec2-metadata-token-ttl-seconds"
_LONGEST_TTL = 21600


class MetadataServer:
    """The metadata service of one cloud.

    Args:
        settings: the cloud's settings.
        instance_by_ip: finds who asks.
        credentials: the temporary credentials of an instance's role; None without a role.
    """

    def __init__(
        self,
        settings: CloudSettings,
        instance_by_ip: Callable[[str], DesiredInstance | None],
        credentials: Callable[[DesiredInstance], Credentials | None],
    ) -> None:
        self._settings = settings
        self._instance_by_ip = instance_by_ip
        self._credentials = credentials
        self._key = secrets.token_bytes(32)
        self._server: BaseWSGIServer | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Answer from now on.

        Raises:
            OSError: the port is taken.
        """
        address = (self._settings.gateway, self._settings.metadata_port)
        # Bound here, because werkzeug would end the process when the port is taken.
        with socket.create_server(address, backlog=128) as listener:
            self._server = make_server(
                *address, self._application, threaded=True, request_handler=_QuietHandler, fd=listener.fileno()
            )
        self._thread = threading.Thread(target=self._server.serve_forever, name="metadata", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Answer no more."""
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()
            self._server = self._thread = None

    def _application(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        return self.answer(Request(environ))(environ, start_response)

    def answer(self, request: Request) -> Response:
        """Answer one question."""
        instance = self._instance_by_ip(request.remote_addr or "")
        if instance is None:
            return _plain("", 404)
        path = [part for part in request.path.split("/") if part]
        if request.method == "PUT":
            return self._give_token(request, instance) if path == ["latest", "api", "token"] else _plain("", 405)
        if request.method not in {"GET", "HEAD"}:
            return _plain("", 405)
        token = request.headers.get(_SESSION_HEADER)
        if token is None and instance.http_tokens == "required":
            return _plain("", 401)
        left = _LONGEST_TTL if token is None else self._seconds_left(token, instance)
        if left <= 0:
            return _plain("", 401)
        response = self._find(path, instance)
        if token is not None:
            response.headers[_TTL_HEADER] = str(left)
        return response

    def _give_token(self, request: Request, instance: DesiredInstance) -> Response:
        # A proxy that forwards for others must not get a token for them.
        if "X-Forwarded-For" in request.headers:
            return _plain("", 403)
        text = request.headers.get(_TTL_HEADER, "")
        if not text.isdecimal() or not 1 <= int(text) <= _LONGEST_TTL:
            return _plain("", 400)
        connection = request.environ.get("werkzeug.socket")
        if isinstance(connection, socket.socket):
            # The hop limit is the answer's time to live: a token gets no further from the instance than that.
            connection.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, instance.http_put_response_hop_limit)
        expires = str(int(time.time()) + int(text)).encode()
        token = base64.urlsafe_b64encode(expires + b"." + self._sign(expires, instance)).decode()
        response = _plain(token)
        response.headers[_TTL_HEADER] = text
        return response

    def _sign(self, expires: bytes, instance: DesiredInstance) -> bytes:
        return hmac.digest(self._key, instance.instance_id.encode() + b"." + expires, hashlib.sha256)

    def _seconds_left(self, token: str, instance: DesiredInstance) -> int:
        """How long a token still holds; 0 when it is not, or not this instance's."""
        try:
            expires, _, signature = base64.urlsafe_b64decode(token.encode()).partition(b".")
        except ValueError:
            return 0
        if not expires.isdigit() or not hmac.compare_digest(signature, self._sign(expires, instance)):
            return 0
        return max(0, int(expires) - int(time.time()))

    def _find(self, path: list[str], instance: DesiredInstance) -> Response:
        if not path:
            return _plain("\n".join(_VERSIONS))
        version, *rest = path
        if not _VERSION.fullmatch(version):
            return _plain("", 404)
        if rest == ["user-data"]:
            return (
                _plain(instance.user_data, mimetype="application/octet-stream")
                if instance.user_data
                else _plain("", 404)
            )
        tree: Tree = {"dynamic": self._dynamic(instance), "meta-data": self._meta_data(instance)}
        if not rest:
            return _plain("\n".join([*tree, *(["user-data"] if instance.user_data else [])]))
        if rest[:2] == ["meta-data", "public-keys"] and len(rest) == 2 and instance.key_name:
            return _plain(f"0={instance.key_name}")
        node: Tree | str = tree
        for part in rest:
            if not isinstance(node, dict) or part not in node:
                return _plain("", 404)
            node = node[part]
        if isinstance(node, str):
            return _plain(node)
        return _plain("\n".join(f"{name}/" if isinstance(value, dict) else name for name, value in node.items()))

    def _meta_data(self, instance: DesiredInstance) -> Tree:
        hostname = f"{instance.hostname}.{self._settings.region}.compute.internal"
        interface: Tree = {
            "device-number": "0",
            "local-hostname": hostname,
            "local-ipv4s": instance.private_ip,
            "mac": instance.mac,
            "owner-id": ACCOUNT_ID,
            "security-group-ids": "\n".join(instance.security_group_ids),
            "subnet-id": instance.subnet_id,
            "vpc-ipv4-cidr-block": self._settings.cidr,
        }
        tree: Tree = {
            "ami-id": instance.image_id,
            "ami-launch-index": "0",
            "block-device-mapping": {"ami": "/dev/xvda", "root": "/dev/xvda"},
            "hostname": hostname,
            "instance-action": "none",
            "instance-id": instance.instance_id,
            "instance-life-cycle": "on-demand",
            "instance-type": instance.instance_type,
            "local-hostname": hostname,
            "local-ipv4": instance.private_ip,
            "mac": instance.mac,
            "network": {"interfaces": {"macs": {instance.mac: interface}}},
            "placement": {"availability-zone": instance.availability_zone, "region": self._settings.region},
            "services": {"domain": "amazonaws.com", "partition": "aws"},
        }
        if instance.instance_profile_arn:
            tree["iam"] = self._iam(instance, instance.instance_profile_arn)
        if instance.key_name and instance.public_key:
            tree["public-keys"] = {"0": {"openssh-key": instance.public_key.strip()}}
        return dict(sorted(tree.items()))

    def _iam(self, instance: DesiredInstance, profile: str) -> Tree:
        iam: Tree = {}
        credentials = self._credentials(instance)
        if credentials is None or instance.role_name is None:
            return iam
        updated = _stamp(credentials.last_updated)
        iam["info"] = json.dumps(
            {
                "Code": "Success",
                "LastUpdated": updated,
                "InstanceProfileArn": profile,
                "InstanceProfileId": "AIPA" + hashlib.sha256(profile.encode()).hexdigest()[:17].upper(),
            }
        )
        iam["security-credentials"] = {
            instance.role_name: json.dumps(
                {
                    "Code": "Success",
                    "LastUpdated": updated,
                    "Type": "AWS-HMAC",
                    "AccessKeyId": credentials.access_key_id,
                    "SecretAccessKey": credentials.secret_access_key,
                    "Token": credentials.token,
                    "Expiration": _stamp(credentials.expiration),
                }
            )
        }
        return iam

    def _dynamic(self, instance: DesiredInstance) -> Tree:
        document = {
            "accountId": ACCOUNT_ID,
            "architecture": "x86_64",
            "availabilityZone": instance.availability_zone,
            "imageId": instance.image_id,
            "instanceId": instance.instance_id,
            "instanceType": instance.instance_type,
            "privateIp": instance.private_ip,
            "region": self._settings.region,
            "version": "2017-09-30",
        }
        return {"instance-identity": {"document": json.dumps(document, indent=2)}}


class _QuietHandler(WSGIRequestHandler):
    """Logs nothing but errors: boot asks for three dozen paths."""

    timeout = 10

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Leave a request unlogged; paths may name roles, and there are many."""


def _plain(content: str | bytes, status: int = 200, mimetype: str = "text/plain") -> Response:
    response = Response(content, status=status, content_type=mimetype)
    response.headers["Server"] = "EC2ws"
    return response


def _stamp(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
