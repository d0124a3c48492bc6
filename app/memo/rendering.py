"""What the pages' views share: who is there, the way back to the list, and answers with and without a script.

The script sends the same forms to the same addresses, with a header. It then gets the part of the page that changed
instead of a redirect to all of it, so that markup, words and times have one source.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from flask import Response, current_app, redirect, render_template, request, url_for

from memo.identity import current_user_id, end_session, forget_cookie
from memo.memos import StoredMemo
from memo.notices import notice
from memo.services import services

_FRAGMENT = "X-Memo-Fragment"


def fragment_wanted() -> bool:
    """Whether the script asks."""
    return _FRAGMENT in request.headers


def draft_key(user_id: str) -> str:
    """A name for a user's drafts in the browser's storage, so that another who logs in there does not get them."""
    return sha256(user_id.encode()).hexdigest()[:16]


def list_arguments() -> dict[str, str]:
    """The part of the list that a form's address says it stands in: what is searched, and from where on."""
    return {name: request.args[name] for name in ("q", "cursor") if request.args.get(name)}


def html(template: str, status: int = 200, **context: object) -> Response:
    """A page."""
    response = current_app.make_response(render_template(template, **context))
    response.status_code = status
    return response


def back(
    code: str | None, status: int = 303, *, to: str = "pages.index", place: Mapping[str, Any] | None = None
) -> Response:
    """The way to another page.

    Args:
        code: of the notice that it shows.
        status: 303, or 302 where clients that exist expect it.
        to: its endpoint.
        place: further values for its address.
    """
    # current_app.make_response gives Flask's response class, which the cookie functions take.
    return current_app.make_response(redirect(url_for(to, notice=code, **(place or {})), status))


def done(code: str | None, *, memo: StoredMemo | None = None, undo: int | None = None) -> Response:
    """A form did its work.

    Args:
        code: of the notice to show.
        memo: the memo as it is now.
        undo: the id of the memo whose deletion can be undone.
    """
    if fragment_wanted():
        return html("fragment.html", message=notice(code), memo=memo, undo=undo, place=list_arguments())
    return back(code, place={**list_arguments(), "undo": undo})


def refused(message: str, status: int) -> Response:
    """A form could not do its work, for the script; without one the view shows a page that keeps what was typed."""
    return html("fragment.html", status, message=message, error=True)


def person() -> tuple[str, str | None] | None:
    """The id and the name of the user who is logged in, or None."""
    user_id = current_user_id()
    if user_id is None:
        return None
    known, name = services().users.find(user_id)
    return (user_id, name) if known else None


def session_over(text: str | None = None, action: str | None = None) -> Response:
    """A form came without a live session; nothing was changed.

    Args:
        text: what was typed: it is shown again, to be sent again after the log-in.
        action: where to.
    """
    if fragment_wanted():
        response = html("fragment.html", 401, message=notice("session-over"), error=True, log_in=True)
    elif text is None:
        response = back("session-over")
    else:
        limit = services().settings.memo_max_characters
        response = html("session_over.html", 401, text=text, action=action, max_characters=limit)
    if response.status_code == 401:
        response.headers["WWW-Authenticate"] = 'Cookie realm="memo"'
    if current_user_id() is None:
        forget_cookie(response)
    else:
        end_session(response)  # the session outlived its user's row
    return response
