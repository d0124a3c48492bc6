"""What is stored about memos, and how."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

from flask_sqlalchemy.session import Session
from sqlalchemy import delete, insert, select
from sqlalchemy.engine import CursorResult
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import scoped_session

from memo.models import Memo

MAX_ID = 2**63 - 1
PAGE_SIZE = 100
MAX_PAGE_SIZE = 500

_MYSQL_NO_REFERENCED_ROW = 1452
_INVISIBLE = frozenset("\u115f\u1160\u2800\u3164\uffa0")
"""Letters and symbols to Unicode, empty to the eye: the Hangul fillers and the blank Braille pattern."""


class InvalidText(ValueError):  # noqa: N818 - it is no fault of the program
    """A text that is no memo: `reason` is `blank`, `too-long` or `not-text`."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class UnknownUser(LookupError):  # noqa: N818 - it is no fault of the program
    """The user a memo is for is not in the database (any more)."""


@dataclass(frozen=True, slots=True)
class StoredMemo:
    """A memo as clients see it: the attributes are the keys of its JSON. Times are aware, in UTC."""

    id: int
    text: str
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True)
class Page:
    """A part of the list, newest first; `next` is where the following part begins, None at the end."""

    memos: Sequence[StoredMemo]
    next: int | None


class MemoStore:
    """The memos in MySQL.

    Args:
        session: the database session of the current request.
        max_characters: the most a memo's text may have.
    """

    def __init__(self, session: scoped_session[Session], max_characters: int) -> None:
        self._session = session
        self.max_characters = max_characters

    def check(self, text: str) -> None:
        """Tell whether a text can be a memo.

        Raises:
            InvalidText: it is blank, too long, or not encodable text.
        """
        if len(text) > self.max_characters:
            raise InvalidText("too-long")
        if not text.isascii():
            try:
                text.encode()
            except UnicodeEncodeError as error:  # half of a surrogate pair
                raise InvalidText("not-text") from error
        if all(_is_invisible(character) for character in text):
            raise InvalidText("blank")

    def page(self, user_id: str, *, limit: int = PAGE_SIZE, before: int | None = None) -> Page:
        """The newest memos of one user.

        Args:
            user_id: whose.
            limit: at most so many (1 … MAX_PAGE_SIZE).
            before: only memos with a smaller id: the cursor. Keys, not offsets, so that the list
                neither repeats nor skips when memos are added meanwhile.
        """
        query = select(Memo.id, Memo.text, Memo.created_at, Memo.updated_at).where(Memo.user_id == user_id)
        if before is not None:
            query = query.where(Memo.id < before)
        rows = self._session.execute(query.order_by(Memo.id.desc()).limit(limit + 1)).all()
        memos = [StoredMemo(*row) for row in rows[:limit]]
        return Page(memos, memos[-1].id if len(rows) > limit else None)

    def add(self, user_id: str, text: str) -> StoredMemo:
        """Store a memo.

        Raises:
            InvalidText: nothing was stored.
            UnknownUser: nothing was stored.
        """
        self.check(text)
        now = datetime.now(UTC)
        statement = insert(Memo).values(user_id=user_id, text=text, created_at=now, updated_at=now)
        try:
            result = self._session.execute(statement)
            self._session.commit()
        except IntegrityError as error:
            self._session.rollback()
            if error.orig is not None and error.orig.args[0] == _MYSQL_NO_REFERENCED_ROW:
                raise UnknownUser(user_id) from None
            raise
        return StoredMemo(cast(CursorResult[Any], result).lastrowid, text, now, now)

    def delete(self, user_id: str, memo_id: int) -> bool:
        """Delete one of the user's memos.

        Returns:
            False when there is no such memo, or it is somebody else's.
        """
        result = self._session.execute(delete(Memo).where(Memo.id == memo_id, Memo.user_id == user_id))
        self._session.commit()
        return cast(CursorResult[Any], result).rowcount == 1


def _is_invisible(character: str) -> bool:
    return character in _INVISIBLE or unicodedata.category(character)[0] in "CZ"
