"""Memos out of the service and into it again: as JSON, which can be read back, and as Markdown, for people."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
from flask_sqlalchemy.session import Session
from sqlalchemy import insert, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import scoped_session

from memo.cache import MemoCache
from memo.memos import MAX_PAGE_SIZE, InvalidText, MemoStore, StoredMemo, UnknownUser
from memo.models import Memo
from memo.search import SearchIndex

FORMAT = "memo-export"
VERSION = 1
MOST_BYTES = 10 * 1024 * 1024
MOST_MEMOS = 20_000

_AT_ONCE = 500
_INDEXED_AT_ONCE = 200
_INDEXING_SECONDS = 3
_FUTURE = timedelta(days=1)
"""How wrong the clock of the service that a file comes from may be."""


class InvalidExport(ValueError):  # noqa: N818 - it is no fault of the program
    """A file that cannot be imported.

    Args:
        reason: `not-json`, `not-an-export`, `too-many`, or of one memo: `no-memo`, `blank`, `too-long`, `not-text`,
            `no-time`.
        number: which memo in the file, from 1; 0 when it is the whole file.
    """

    def __init__(self, reason: str, number: int = 0) -> None:
        self.reason = reason
        self.number = number
        super().__init__(f"{reason} ({number})")


@dataclass(frozen=True, slots=True)
class ForeignMemo:
    """A memo from a file; its id meant something elsewhere."""

    text: str
    pinned: bool
    created_at: datetime
    updated_at: datetime


def every(store: MemoStore, user_id: str) -> Iterator[StoredMemo]:
    """All memos of one user, newest first, read in parts."""
    before: int | None = None
    while True:
        page = store.page(user_id, limit=MAX_PAGE_SIZE, before=before)
        yield from page.memos
        if page.next is None:
            return
        before = page.next


def as_json(memos: Iterable[StoredMemo], now: datetime) -> Iterator[bytes]:
    """An export that `parse` reads, in parts."""
    head = {"format": FORMAT, "version": VERSION, "exported_at": now}
    yield orjson.dumps(head, option=orjson.OPT_UTC_Z)[:-1] + b',"memos":['
    separator = b"\n"
    for memo in memos:
        yield separator + orjson.dumps(memo, option=orjson.OPT_UTC_Z)
        separator = b",\n"
    yield b"\n]}\n"


def as_markdown(memos: Iterable[StoredMemo]) -> Iterator[bytes]:
    """The memos for people, in parts: a heading with the time, then the text as it is."""
    for memo in memos:
        pin = " 📌" if memo.pinned else ""
        yield f"## {memo.created_at:%Y-%m-%d %H:%M} UTC{pin}\n\n{memo.text}\n\n---\n\n".encode()


def parse(data: bytes, check_text: MemoStore) -> Sequence[ForeignMemo]:
    """Read an export.

    Args:
        data: the file.
        check_text: knows which text can be a memo.

    Returns:
        The memos, oldest first.

    Raises:
        InvalidExport: the first thing that is wrong with it; nothing is to be imported then.
    """
    try:
        body: Any = orjson.loads(data)
    except orjson.JSONDecodeError:
        raise InvalidExport("not-json") from None
    if not isinstance(body, dict) or body.get("format") != FORMAT or not isinstance(body.get("memos"), list):
        raise InvalidExport("not-an-export")
    if len(body["memos"]) > MOST_MEMOS:
        raise InvalidExport("too-many")
    latest = datetime.now(UTC) + _FUTURE
    memos = []
    for number, given in enumerate(body["memos"], 1):
        if not isinstance(given, dict) or not isinstance(given.get("text"), str):
            raise InvalidExport("no-memo", number)
        try:
            check_text.check(given["text"])
        except InvalidText as error:
            raise InvalidExport(error.reason, number) from None
        created = _moment(given.get("created_at"), number)
        updated = max(created, _moment(given.get("updated_at", given.get("created_at")), number))
        if updated > latest:
            raise InvalidExport("no-time", number)
        memos.append(ForeignMemo(given["text"], given.get("pinned") is True, created, updated))
    return sorted(memos, key=lambda memo: memo.created_at)


class Importer:
    """Stores memos from a file.

    Args:
        session: the database session of the current request.
        cache: what is shown to a user may be kept there.
    """

    def __init__(self, session: scoped_session[Session], cache: MemoCache) -> None:
        self._session = session
        self._cache = cache
        self._index = SearchIndex(session)

    def add(self, user_id: str, memos: Sequence[ForeignMemo]) -> int:
        """Store those that the user does not have yet, which are told by their text and time.

        So a file can be imported again after a connection broke, and into the account it came from. As many as a person
        waits for are indexed; the search does the rest.

        Args:
            user_id: whose they become.
            memos: oldest first, the order they get in the list.

        Returns:
            How many were new.

        Raises:
            UnknownUser: nothing was stored.
        """
        with self._cache.changing(user_id):
            stored = self._add(user_id, memos)
        self._index.catch_up(user_id, memos=_INDEXED_AT_ONCE, seconds=_INDEXING_SECONDS)
        return stored

    def _add(self, user_id: str, memos: Sequence[ForeignMemo]) -> int:
        stored = 0
        for start in range(0, len(memos), _AT_ONCE):
            part = memos[start : start + _AT_ONCE]
            held = select(Memo.created_at, Memo.text).where(
                Memo.user_id == user_id, Memo.created_at.in_({memo.created_at for memo in part})
            )
            known = {(row.created_at, row.text) for row in self._session.execute(held)}
            rows = []
            for memo in part:
                if (memo.created_at, memo.text) not in known:
                    known.add((memo.created_at, memo.text))
                    rows.append(
                        {
                            "user_id": user_id,
                            "text": memo.text,
                            "pinned": memo.pinned,
                            "created_at": memo.created_at,
                            "updated_at": memo.updated_at,
                        }
                    )
            if rows:
                try:
                    self._session.execute(insert(Memo), rows)
                except IntegrityError:
                    self._session.rollback()
                    raise UnknownUser(user_id) from None
            # Each part by itself: what was stored stays when the connection breaks.
            self._session.commit()
            stored += len(rows)
        return stored


def _moment(value: object, number: int) -> datetime:
    if not isinstance(value, str):
        raise InvalidExport("no-time", number)
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise InvalidExport("no-time", number) from None
    if moment.year < 1970:
        raise InvalidExport("no-time", number)
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
