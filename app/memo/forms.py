"""What is done to memos on the page: each a plain form, which the script sends too."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime

from flask import Blueprint, Response, request, url_for
from flask_babel import gettext

from memo.api import parse_id, text_problem
from memo.identity import current_user_id
from memo.memos import DELETED_LIFETIME, Changed, InvalidText, KeyReused, MemoGone, StoredMemo, UnknownUser
from memo.notices import notice
from memo.pages import memos_page
from memo.rendering import back, done, draft_key, fragment_wanted, html, list_arguments, person, refused, session_over
from memo.services import services

blueprint = Blueprint("forms", __name__)

_KEY = re.compile(r"[A-Za-z0-9_-]{16,64}")


@blueprint.post("/memos")
def create_memo() -> Response:
    """The form for a new memo; a text that will not do comes back in the form, with the reason."""
    text = _typed()
    user_id = current_user_id()
    if user_id is None:
        return session_over(text, url_for("forms.create_memo"))
    # A double click, or a second try after a lost answer, sends the same key again: one memo.
    key = request.form.get("key", "")
    try:
        memo = _add(user_id, text, key if _KEY.fullmatch(key) else None)
    except InvalidText as error:
        problem = text_problem(error)
        message, status = problem.description or "", problem.code or 400
        return refused(message, status) if fragment_wanted() else memos_page(message, text=text, status=status)
    except UnknownUser:
        return session_over(text, url_for("forms.create_memo"))
    return done("saved" if fragment_wanted() else None, memo=memo)


@blueprint.get("/memos")
@blueprint.get("/memos/<memo_id>")
def again(memo_id: str | None = None) -> Response:
    """The address of a form's answer, opened again."""
    return back(None) if memo_id is None else back(None, to="forms.edit_memo", place={"memo_id": memo_id})


@blueprint.get("/memos/<memo_id>/edit")
def edit_memo(memo_id: str) -> Response:
    """The form to change a memo."""
    somebody = person()
    if somebody is None:
        return session_over()
    number = parse_id(memo_id)
    memo = None if number is None else services().memos.find(somebody[0], number)
    if memo is None:
        return _no_such_memo()
    return _edit_page(somebody[0], memo, memo.text)


@blueprint.post("/memos/<memo_id>")
def change_memo(memo_id: str) -> Response:
    """Change a memo's text, unless it was changed elsewhere since the form was opened."""
    text = _typed()
    user_id = current_user_id()
    if user_id is None:
        return session_over(text, request.path)
    number = parse_id(memo_id)
    if number is None:
        return _no_such_memo()
    try:
        memo = services().memos.change(
            user_id, number, text=text, unless=_changed_since(request.form.get("seen"), text)
        )
    except InvalidText as error:
        problem = text_problem(error)
        return _edit_again(user_id, number, text, problem.description or "", problem.code or 400)
    except Changed:
        words = gettext(
            "This memo was changed elsewhere meanwhile. Your text is below, the stored one beneath it. Save again to "
            "keep yours."
        )
        return _edit_again(user_id, number, text, words, 409)
    return _no_such_memo() if memo is None else done("changed", memo=memo)


@blueprint.post("/memos/<memo_id>/pin")
def pin_memo(memo_id: str) -> Response:
    """Pin a memo to the top of the list, or no longer."""
    user_id = current_user_id()
    if user_id is None:
        return session_over()
    pinned = request.form.get("pinned") == "1"
    number = parse_id(memo_id)
    memo = None if number is None else services().memos.change(user_id, number, pinned=pinned)
    return _no_such_memo() if memo is None else done("pinned" if pinned else "unpinned", memo=memo)


@blueprint.post("/memos/<memo_id>/delete")
def delete_memo(memo_id: str) -> Response:
    """Delete a memo, and offer to bring it back."""
    user_id = current_user_id()
    if user_id is None:
        return session_over()
    number = parse_id(memo_id)
    if number is None or not services().memos.delete(user_id, number):
        return _no_such_memo()
    return done("deleted", undo=number)


@blueprint.post("/memos/<memo_id>/restore")
def restore_memo(memo_id: str) -> Response:
    """Bring a deleted memo back."""
    user_id = current_user_id()
    if user_id is None:
        return session_over()
    number = parse_id(memo_id)
    memo = None if number is None else services().memos.restore(user_id, number)
    return _no_such_memo() if memo is None else done("restored", memo=memo)


@blueprint.get("/deleted")
def deleted() -> Response:
    """What was deleted a short while ago."""
    somebody = person()
    if somebody is None:
        return session_over()
    return html(
        "deleted.html",
        message=notice(request.args.get("notice")),
        deleted=services().memos.deleted(somebody[0]),
        days=DELETED_LIFETIME.days,
        draft=draft_key(somebody[0]),
    )


def _typed() -> str:
    # Browsers send line ends in forms as CR LF (HTML standard, form submission).
    return request.form.get("text", "").replace("\r\n", "\n")


def _add(user_id: str, text: str, key: str | None) -> StoredMemo:
    try:
        return services().memos.add(user_id, text, key)
    except (KeyReused, MemoGone):
        # The browser's "back", then another text, or the same again after it was deleted: a new memo is what is meant.
        return services().memos.add(user_id, text)


def _changed_since(seen: str | None, text: str) -> Callable[[StoredMemo], bool] | None:
    """A test that stops a change when the memo is no longer the one that the form showed."""
    if not seen:
        return None
    try:
        moment = datetime.fromisoformat(seen)
    except ValueError:
        return None
    # The same text again is no conflict: it is the second try after a lost answer.
    return lambda memo: memo.updated_at != moment and memo.text != text


def _edit_again(user_id: str, memo_id: int, text: str, message: str, status: int) -> Response:
    memo = services().memos.find(user_id, memo_id)
    return _no_such_memo() if memo is None else _edit_page(user_id, memo, text, message, status)


def _edit_page(user_id: str, memo: StoredMemo, text: str, message: str | None = None, status: int = 200) -> Response:
    return html(
        "edit.html",
        status,
        message=message,
        memo=memo,
        text=text,
        theirs=memo.text if status == 409 else None,
        place=list_arguments(),
        max_characters=services().settings.memo_max_characters,
        draft=draft_key(user_id),
    )


def _no_such_memo() -> Response:
    words = notice("no-such-memo") or ""
    return refused(words, 404) if fragment_wanted() else back("no-such-memo")
