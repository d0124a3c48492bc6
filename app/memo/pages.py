"""The page, the log-in, and the forms that work without a script."""

from __future__ import annotations

import logging

from flask import Blueprint, Response, current_app, redirect, render_template, request, url_for

from memo.api import parse_id, text_problem
from memo.identity import (
    begin_session,
    browser_key,
    current_user_id,
    end_session,
    forget_cookie,
    remember_browser,
)
from memo.memos import InvalidText, UnknownUser
from memo.naver import ProviderError
from memo.notices import notice
from memo.services import services

blueprint = Blueprint("pages", __name__)

_PAGE_SIZE = 50
_log = logging.getLogger(__name__)


@blueprint.get("/")
def index() -> Response:
    """The page: memos for a user, the log-in for everybody else."""
    return _page(notice(request.args.get("notice")))


@blueprint.get("/login")
def login() -> Response:
    """Send the browser to the provider."""
    service = services()
    response = current_app.make_response("")
    key = remember_browser(response, browser_key())
    state = service.logins.begin(key)
    response.status_code = 302
    response.location = service.naver.authorization_url(_redirect_uri(), state)
    return response


@blueprint.get("/auth")
def auth() -> Response:
    """The provider's callback: check the state, learn who it is, begin a session."""
    service = services()
    state, code = request.args.get("state"), request.args.get("code")
    if not service.logins.finish(state, browser_key()):
        return _back("login-state")
    if request.args.get("error") or not state or not code:
        return _back("login-refused")
    try:
        profile = service.naver.profile(code, state, _redirect_uri())
    except ProviderError as error:
        _log.warning("log-in failed", extra={"reason": error.reason, "detail": error.detail})
        return _back(f"login-{error.reason}")
    service.users.save(profile.id, profile.name)
    response = _back(None)
    begin_session(response, profile.id)
    return response


@blueprint.post("/logout")
def logout() -> Response:
    """End the session on the server and in the browser."""
    response = _back("logged-out", 303)
    end_session(response)
    return response


@blueprint.post("/memos")
def create_memo() -> Response:
    """The form for a new memo; a text that will not do comes back in the form, with the reason."""
    user_id = current_user_id()
    if user_id is None:
        return _session_over()
    # Browsers send line ends in forms as CR LF (HTML standard, form submission).
    text = request.form.get("text", "").replace("\r\n", "\n")
    try:
        services().memos.add(user_id, text)
    except InvalidText as error:
        problem = text_problem(error)
        return _page(problem.description, text=text, status=problem.code or 400)
    except UnknownUser:
        return _session_over()
    return _back(None, 303)


@blueprint.post("/memos/<memo_id>/delete")
def delete_memo(memo_id: str) -> Response:
    """The form beside each memo."""
    user_id = current_user_id()
    if user_id is None:
        return _session_over()
    number = parse_id(memo_id)
    deleted = number is not None and services().memos.delete(user_id, number)
    return _back(None if deleted else "no-such-memo", 303)


def _page(message: str | None, *, text: str = "", status: int = 200) -> Response:
    service = services()
    user_id = current_user_id()
    known, name = service.users.find(user_id) if user_id is not None else (False, None)
    if user_id is None or not known:
        response = current_app.make_response(render_template("login.html", message=message))
        if user_id is None:
            forget_cookie(response)
        else:
            end_session(response)
        return response
    before = parse_id(request.args.get("cursor", ""))
    page = service.memos.page(user_id, limit=_PAGE_SIZE, before=before)
    html = render_template(
        "memos.html",
        message=message,
        name=name,
        page=page,
        first=before is None,
        text=text,
        max_characters=service.settings.memo_max_characters,
    )
    response = current_app.make_response(html)
    response.status_code = status
    return response


def _back(code: str | None, status: int = 302) -> Response:
    # current_app.make_response gives Flask's response class, which the cookie functions take.
    return current_app.make_response(redirect(url_for("pages.index", notice=code), status))


def _session_over() -> Response:
    response = _back("session-over", 303)
    forget_cookie(response)
    return response


def _redirect_uri() -> str:
    """Our callback as the provider knows it: the same in both steps (RFC 6749, section 4.1.3)."""
    public = services().settings.public_url
    return f"{public}{url_for('pages.auth')}" if public else url_for("pages.auth", _external=True)
