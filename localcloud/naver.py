"""A stand-in for Naver Login, so that the memo service logs people in where Naver cannot be reached.

It answers as the public documentation says (naver/naver-openapi-guide, `ko/login/api` and `ko/login/devguide`):

=========================  =====================================================================================
`/oauth2.0/authorize`      a page on which a person picks who to be, or refuses; back to `redirect_uri` with
                           `code` and `state`, or `error`, `error_description` and `state`
`/oauth2.0/token`          GET or POST; `grant_type` authorization_code, refresh_token or delete. An error is
                           **200** with `{"error", "error_description"}`; `expires_in` is a string
`/oauth2.0/revoke`         POST; an empty 200
`/v1/nid/me`               the profile; 401 with resultcode 024 (bad token) or 028 (no header)
=========================  =====================================================================================

What the real service does not have, for tests and for people who want to see a failure (JSON in and out):

=====================================  =========================================================================
`GET|PUT|DELETE /_standin/faults`      `{"token": {"mode": "slow", "seconds": 8}}`: endpoints are authorize, token,
                                       revoke, profile or all; modes are `down` (the connection is cut), `slow`
                                       (answers after `seconds`) and `error` (500, or `status`)
`GET /_standin/people`                 who can be picked
`PUT /_standin/people/KEY`             `{"name": "…"}` adds a person or changes a name; a null name is withheld
=====================================  =========================================================================

A test needs no browser: `POST` to the authorize URL with `person=KEY` (or `person=refuse`) is what the page does.

Two things differ from Naver: any http(s) `redirect_uri` is taken unless callback URLs are given, and nobody has a
password.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import hmac
import logging
import secrets
import signal
import socket
import threading
import time
from dataclasses import dataclass, field
from typing import Literal, NamedTuple
from urllib.parse import urlencode, urlsplit

from flask import Flask, Response, jsonify, redirect, render_template, request
from flask.json.provider import DefaultJSONProvider
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server
from werkzeug.wrappers import Response as WerkzeugResponse


class Client(NamedTuple):
    """An application registered with Naver: its id and its secret."""

    id: str
    secret: str


LOCAL_CLIENT = Client("memo-local", "memo-local-secret")
"""What the local cloud registers. It guards nothing: there are no passwords behind it."""

CODE_SECONDS = 600
TOKEN_SECONDS = 3600
"""As in the documented example of a token answer."""

Endpoint = Literal["authorize", "token", "revoke", "profile"]
ENDPOINTS: tuple[Endpoint, ...] = ("authorize", "token", "revoke", "profile")
MODES = ("down", "slow", "error")

PEOPLE: dict[str, str | None] = {
    "minjun": "김민준",
    "seoyeon": "이서연",
    "jihu": "박지후",
    "haeun": "최하은",
    "nameless": None,
}

_log = logging.getLogger(__name__)


class NaverStandInError(RuntimeError):
    """The stand-in cannot do what it was asked; the text names the fix."""


@dataclass(frozen=True)
class Fault:
    """How an endpoint misbehaves: `seconds` counts for slow, `status` for error."""

    mode: str
    seconds: float = 5.0
    status: int = 500


@dataclass(frozen=True)
class Grant:
    """A code that was handed out, and everything it is bound to."""

    client_id: str
    redirect_uri: str
    state: str
    person: str
    expires: float


@dataclass
class TokenPair:
    """An access token with the refresh token that belongs to it; `expires` is on the monotonic clock."""

    access: str
    refresh: str
    client_id: str
    person: str
    expires: float


@dataclass
class Book:
    """Everything the stand-in remembers. Nothing of it outlives the process.

    Args:
        client: the one registered application.
        callback_urls: the callback URLs registered for it; empty takes every http(s) URL.
    """

    client: Client = LOCAL_CLIENT
    callback_urls: frozenset[str] = frozenset()
    people: dict[str, str | None] = field(default_factory=lambda: dict(PEOPLE))
    faults: dict[str, Fault] = field(default_factory=dict)
    grants: dict[str, Grant] = field(default_factory=dict)
    tokens: list[TokenPair] = field(default_factory=list)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def profile_id(self, person: str) -> str:
        """The identifier of a person, which differs from application to application (as documented)."""
        digest = hashlib.sha256(f"{self.client.id}/{person}".encode()).digest()
        return base64.urlsafe_b64encode(digest).decode().rstrip("=")

    def authorized(self, client_id: str, client_secret: str) -> bool:
        """Whether these are the credentials of the registered application."""
        expected = "\0".join(self.client).encode()
        return hmac.compare_digest(f"{client_id}\0{client_secret}".encode(), expected)

    def may_return_to(self, redirect_uri: str) -> bool:
        """Whether a person may be sent to this address."""
        if self.callback_urls:
            return redirect_uri in self.callback_urls
        parts = urlsplit(redirect_uri)
        return parts.scheme in ("http", "https") and bool(parts.hostname)

    def grant(self, redirect_uri: str, state: str, person: str) -> str:
        """Hand out a code for one use."""
        code = secrets.token_urlsafe(16)
        with self.lock:
            self.grants[code] = Grant(self.client.id, redirect_uri, state, person, time.monotonic() + CODE_SECONDS)
        return code

    def redeem(self, code: str, state: str, redirect_uri: str | None) -> TokenPair | None:
        """Turn a code into tokens, once.

        Args:
            code: what the callback received.
            state: what the callback received with it.
            redirect_uri: the address of the callback, if the application says it again.

        Returns:
            The tokens, or None for a code that is used, expired, or bound to something else.
        """
        with self.lock:
            grant = self.grants.pop(code, None)
            if grant is None or grant.expires < time.monotonic() or grant.state != state:
                return None
            if redirect_uri is not None and redirect_uri != grant.redirect_uri:
                return None
            pair = TokenPair(
                secrets.token_urlsafe(45),
                secrets.token_urlsafe(48),
                grant.client_id,
                grant.person,
                time.monotonic() + TOKEN_SECONDS,
            )
            self.tokens.append(pair)
            return pair

    def refresh(self, refresh_token: str) -> TokenPair | None:
        """Give the holder of a refresh token a new access token; the old one stops working."""
        with self.lock:
            for pair in self.tokens:
                if hmac.compare_digest(pair.refresh.encode(), refresh_token.encode()):
                    pair.access = secrets.token_urlsafe(45)
                    pair.expires = time.monotonic() + TOKEN_SECONDS
                    return pair
        return None

    def revoke(self, token: str) -> bool:
        """Forget an access or refresh token and its counterpart; False when there is none such."""
        with self.lock:
            kept = [pair for pair in self.tokens if token not in (pair.access, pair.refresh)]
            found = len(kept) < len(self.tokens)
            self.tokens = kept
            return found

    def person_of(self, access_token: str) -> str | None:
        """Whose access token this is, or None for one that is unknown or expired."""
        with self.lock:
            for pair in self.tokens:
                if hmac.compare_digest(pair.access.encode(), access_token.encode()):
                    return pair.person if pair.expires > time.monotonic() else None
        return None


class Misuse(NamedTuple):
    """Naver's `error` and `error_description`."""

    error: str
    description: str


WRONG_CODE = Misuse("invalid_request", "no valid data in session")
WRONG_CLIENT = Misuse("invalid_client", "wrong client id / client secret pair")


def _error(misuse: Misuse) -> Response:
    """An error as Naver's token endpoint has been seen to give it: status 200."""
    return jsonify(error=misuse.error, error_description=misuse.description)


def _with_query(url: str, **values: str) -> str:
    """The address with these parameters added to those it has."""
    return url + ("&" if urlsplit(url).query else "?") + urlencode(values)


def _parse_fault(value: object) -> Fault:
    """Read one fault.

    Raises:
        NaverStandInError: it is not one.
    """
    if isinstance(value, str):
        value = {"mode": value}
    if not isinstance(value, dict) or value.get("mode") not in MODES:
        raise NaverStandInError(f'a fault is {{"mode": one of {", ".join(MODES)}}}, not {value!r}')
    try:
        return Fault(value["mode"], float(value.get("seconds", 5.0)), int(value.get("status", 500)))
    except (TypeError, ValueError) as error:
        raise NaverStandInError(f"a fault's seconds and status are numbers: {error}") from error


class _Json(DefaultJSONProvider):
    """Korean stays Korean."""

    ensure_ascii = False


def create_app(book: Book) -> Flask:
    """The stand-in as a WSGI application.

    Args:
        book: what it knows and remembers.

    Returns:
        The application.
    """
    app = Flask(__name__, template_folder="templates/naver", static_folder=None)
    app.json = _Json(app)

    def misbehave(endpoint: Endpoint) -> Response | None:
        fault = book.faults.get(endpoint) or book.faults.get("all")
        if fault is None:
            return None
        if fault.mode == "slow":
            time.sleep(fault.seconds)
            return None
        if fault.mode == "down":
            connection = request.environ.get("werkzeug.socket")
            if isinstance(connection, socket.socket):
                connection.shutdown(socket.SHUT_RDWR)
            raise ConnectionAbortedError("the fault 'down' cuts every connection")
        return Response('{"errorCode":"099"}', fault.status, mimetype="application/json")

    def problem(text: str) -> tuple[str, int]:
        return render_template("problem.html", text=text), 400

    @app.route("/oauth2.0/authorize", methods=["GET", "POST"])
    def authorize() -> WerkzeugResponse | str | tuple[str, int]:
        if (broken := misbehave("authorize")) is not None:
            return broken
        client_id, redirect_uri, state = (request.args.get(key, "") for key in ("client_id", "redirect_uri", "state"))
        if client_id != book.client.id:
            return problem(f"client_id {client_id!r} is not registered; this stand-in knows {book.client.id!r}.")
        if not book.may_return_to(redirect_uri):
            return problem(f"redirect_uri {redirect_uri!r} is not a registered callback URL.")
        if not state:
            return problem("state is missing; it is required.")
        if request.args.get("response_type") != "code":
            return problem("response_type must be 'code'.")
        if request.method == "GET":
            return render_template("authorize.html", people=book.people, application=client_id)
        person = request.form.get("person", "")
        if person == "refuse":
            denied = {"error": "access_denied", "error_description": "Canceled By User"}
            return redirect(_with_query(redirect_uri, **denied, state=state))
        if person not in book.people:
            return problem(f"there is no person {person!r} here.")
        return redirect(_with_query(redirect_uri, code=book.grant(redirect_uri, state, person), state=state))

    @app.route("/oauth2.0/token", methods=["GET", "POST"])
    def token() -> Response:
        if (broken := misbehave("token")) is not None:
            return broken
        values = request.values
        if not book.authorized(values.get("client_id", ""), values.get("client_secret", "")):
            return _error(WRONG_CLIENT)
        grant_type = values.get("grant_type", "")
        if grant_type == "delete":
            access_token = values.get("access_token", "")
            if not book.revoke(access_token):
                return _error(WRONG_CODE)
            return jsonify(access_token=access_token, result="success")
        if grant_type == "refresh_token":
            pair = book.refresh(values.get("refresh_token", ""))
            if pair is None:
                return _error(Misuse("invalid_request", "invalid refresh_token"))
            answer = {"access_token": pair.access, "token_type": "bearer", "expires_in": str(TOKEN_SECONDS)}
            return jsonify(answer)
        if grant_type != "authorization_code":
            return _error(Misuse("unsupported_grant_type", f"grant_type {grant_type!r} is not supported"))
        pair = book.redeem(values.get("code", ""), values.get("state", ""), values.get("redirect_uri"))
        if pair is None:
            return _error(WRONG_CODE)
        return jsonify(
            {
                "access_token": pair.access,
                "refresh_token": pair.refresh,
                "token_type": "bearer",
                "expires_in": str(TOKEN_SECONDS),
            }
        )

    @app.post("/oauth2.0/revoke")
    def revoke() -> Response:
        if (broken := misbehave("revoke")) is not None:
            return broken
        if not book.authorized(request.form.get("client_id", ""), request.form.get("client_secret", "")):
            answer = _error(WRONG_CLIENT)
            answer.status_code = 401
            return answer
        # RFC 7009, section 2.2: a token that is unknown is as good as revoked.
        book.revoke(request.form.get("token", ""))
        return Response("", 200)

    @app.get("/v1/nid/me")
    def profile() -> tuple[Response, int] | Response:
        if (broken := misbehave("profile")) is not None:
            return broken
        header = request.headers.get("Authorization")
        if not header:
            text = "Authentication header not exists (OAuth 인증 헤더(authorization header)가 없습니다.)"
            return jsonify(resultcode="028", message=text), 401
        kind, _, value = header.partition(" ")
        person = book.person_of(value.strip()) if kind.lower() == "bearer" else None
        if person is None:
            return jsonify(resultcode="024", message="Authentication failed (인증 실패하였습니다.)"), 401
        response = {"id": book.profile_id(person)}
        name = book.people.get(person)
        if name is not None:
            response["name"] = name
        return jsonify(resultcode="00", message="success", response=response)

    @app.route("/_standin/faults", methods=["GET", "PUT", "DELETE"])
    def faults() -> Response | tuple[Response, int]:
        if request.method == "DELETE":
            book.faults.clear()
        if request.method == "PUT":
            wanted = request.get_json(silent=True)
            if not isinstance(wanted, dict) or not set(wanted) <= {*ENDPOINTS, "all"}:
                return jsonify(error=f"send an object whose keys are among {', '.join(ENDPOINTS)}, all"), 400
            try:
                parsed = {endpoint: _parse_fault(value) for endpoint, value in wanted.items()}
            except NaverStandInError as error:
                return jsonify(error=str(error)), 400
            book.faults = parsed
        return jsonify({endpoint: vars(fault) for endpoint, fault in book.faults.items()})

    @app.get("/_standin/people")
    def people() -> Response:
        return jsonify({key: {"id": book.profile_id(key), "name": name} for key, name in book.people.items()})

    @app.put("/_standin/people/<key>")
    def person(key: str) -> Response | tuple[Response, int]:
        wanted = request.get_json(silent=True)
        if not isinstance(wanted, dict) or not isinstance(wanted.get("name"), str | None) or key == "refuse":
            return jsonify(error='send {"name": "…"}, or null for a name that is withheld'), 400
        book.people[key] = wanted.get("name")
        return jsonify(id=book.profile_id(key), name=book.people[key])

    return app


class _Handler(WSGIRequestHandler):
    """Logs what was asked, but not the query: codes and states stand there."""

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        _log.info("%s %s %s", self.command, urlsplit(self.path).path, code)


class NaverStandIn:
    """The stand-in as a server in a thread.

    Args:
        host: the address to listen on; never all interfaces.
        port: the TCP port; 0 takes a free one (see `port` after `start`).
        client: the registered application.
        callback_urls: its callback URLs; empty takes every http(s) URL.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        client: Client = LOCAL_CLIENT,
        callback_urls: frozenset[str] = frozenset(),
    ) -> None:
        self.host = host
        self.port = port
        self.book = Book(client=client, callback_urls=callback_urls)
        self._server: BaseWSGIServer | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """Where it answers, without a slash at the end."""
        return f"http://{self.host}:{self.port}"

    def start(self) -> None:
        """Listen and answer until `stop`.

        Raises:
            NaverStandInError: the address or the port cannot be had.
        """
        if self._server is not None:
            return
        # Bound here, not by werkzeug: that prints to stderr and ends the process when it cannot.
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((self.host, self.port))
            listener.listen(64)
        except OSError as error:
            listener.close()
            raise NaverStandInError(
                f"the Naver stand-in cannot listen on {self.host}:{self.port} ({error.strerror}); "
                f"see who does with: ss -ltnp 'sport = :{self.port}'"
            ) from error
        self.port = listener.getsockname()[1]
        self._server = make_server(
            self.host, self.port, create_app(self.book), threaded=True, request_handler=_Handler, fd=listener.fileno()
        )
        # werkzeug duplicates the descriptor it is given.
        listener.close()
        self._thread = threading.Thread(target=self._server.serve_forever, name="naver-standin", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop answering; a second call does nothing."""
        if self._server is None or self._thread is None:
            return
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=10)
        self._server = self._thread = None


def main(arguments: list[str] | None = None) -> int:
    """Run the stand-in alone until SIGINT or SIGTERM.

    Args:
        arguments: the command line; None for that of the process.

    Returns:
        The exit status: 0, or 1 when it cannot listen.
    """
    parser = argparse.ArgumentParser(prog="python -m localcloud.naver", description="A stand-in for Naver Login.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8088, help="TCP port (default: %(default)s)")
    parser.add_argument("--client-id", default=LOCAL_CLIENT.id, help="default: %(default)s")
    parser.add_argument("--client-secret", default=LOCAL_CLIENT.secret, help="default: %(default)s")
    parser.add_argument("--callback-url", action="append", default=[], help="registered callback URL; may be repeated")
    options = parser.parse_args(arguments)
    standin = NaverStandIn(
        options.host,
        options.port,
        client=Client(options.client_id, options.client_secret),
        callback_urls=frozenset(options.callback_url),
    )
    done = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: done.set())
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    try:
        standin.start()
    except NaverStandInError as error:
        parser.exit(1, f"{error}\n")
    print(f"Naver stand-in: {standin.url} (client {options.client_id})", flush=True)
    done.wait()
    standin.stop()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
