"""What is stored about memos, and how."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from flask_sqlalchemy.session import Session
from sqlalchemy import delete, insert, select, update
from sqlalchemy.engine import CursorResult
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import scoped_session

from memo.models import IdempotencyKey, Memo

MAX_ID = 2**63 - 1
PAGE_SIZE = 100
MAX_PAGE_SIZE = 500

KEY_LIFETIME = timedelta(days=1)
"""How long a request can be repeated under its idempotency key."""

_MYSQL_DUPLICATE = 1062
_MYSQL_NO_REFERENCED_ROW = 1452
_INVISIBLE = frozenset("\u115f\u1160\u2800\u3164\uffa0")
"""Letters and symbols to Unicode, empty to the eye: the Hangul fillers and the blank Braille pattern."""


class InvalidText(ValueError):  # noqa: N818 - it is no fault of the program
    """A text that is no memo: `reason` is `blank`, `too-long` or `not-text`."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class KeyReused(ValueError):  # noqa: N818 - it is no fault of the program
    """An idempotency key came again with another request."""


class MemoGone(LookupError):  # noqa: N818 - it is no fault of the program
    """The memo that a repeated request made has been deleted since."""


class Changed(ValueError):  # noqa: N818 - it is no fault of the program
    """The memo is not the one that the caller has seen: somebody changed it meanwhile."""


class UnknownUser(LookupError):  # noqa: N818 - it is no fault of the program
    """The user a memo is for is not in the database (any more)."""


@dataclass(frozen=True, slots=True)
class StoredMemo:
    """A memo as clients see it: the attributes are the keys of its JSON. Times are aware, in UTC."""

    id: int
    text: str
    pinned: bool
    created_at: datetime
    updated_at: datetime


_COLUMNS = (Memo.id, Memo.text, Memo.pinned, Memo.created_at, Memo.updated_at)


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

    def page(
        self, user_id: str, *, limit: int = PAGE_SIZE, before: int | None = None, pinned: bool | None = None
    ) -> Page:
        """The newest memos of one user.

        Args:
            user_id: whose.
            limit: at most so many (1 … MAX_PAGE_SIZE).
            before: only memos with a smaller id: the cursor. Keys, not offsets, so that the list
                neither repeats nor skips when memos are added meanwhile.
            pinned: only those that are pinned, or that are not; None for all.
        """
        query = select(*_COLUMNS).where(Memo.user_id == user_id)
        if pinned is not None:
            query = query.where(Memo.pinned == pinned)
        if before is not None:
            query = query.where(Memo.id < before)
        rows = self._session.execute(query.order_by(Memo.id.desc()).limit(limit + 1)).all()
        memos = [StoredMemo(*row) for row in rows[:limit]]
        return Page(memos, memos[-1].id if len(rows) > limit else None)

    def find(self, user_id: str, memo_id: int) -> StoredMemo | None:
        """One of the user's memos; None when there is no such memo, or it is somebody else's."""
        query = select(*_COLUMNS).where(Memo.id == memo_id, Memo.user_id == user_id)
        row = self._session.execute(query).one_or_none()
        return None if row is None else StoredMemo(*row)

    def add(self, user_id: str, text: str, key: str | None = None) -> StoredMemo:
        """Store a memo.

        Args:
            user_id: whose.
            text: what.
            key: the caller's own name for this request. The same again gives the memo that the first one made
                (IETF draft "The Idempotency-Key HTTP Header Field"); two at once make one memo, because the key
                and the memo are stored in one transaction.

        Raises:
            InvalidText: nothing was stored.
            UnknownUser: nothing was stored.
            KeyReused: the key came before with another text; nothing was stored.
            MemoGone: the memo that the first request made has been deleted since; nothing was stored.
        """
        self.check(text)
        now = datetime.now(UTC)
        statement = insert(Memo).values(user_id=user_id, text=text, pinned=False, created_at=now, updated_at=now)
        digest = hashlib.sha256(text.encode()).hexdigest()
        try:
            # The key comes last: if it is taken, the memo goes with the transaction.
            memo_id = cast(CursorResult[Any], self._session.execute(statement)).lastrowid
            if key is not None:
                self._session.execute(
                    delete(IdempotencyKey).where(
                        IdempotencyKey.user_id == user_id, IdempotencyKey.created_at < now - KEY_LIFETIME
                    )
                )
                self._session.execute(
                    insert(IdempotencyKey).values(
                        user_id=user_id, key=key, request_hash=digest, memo_id=memo_id, created_at=now
                    )
                )
            self._session.commit()
        except IntegrityError as error:
            self._session.rollback()
            number = error.orig.args[0] if error.orig is not None else None
            if number == _MYSQL_NO_REFERENCED_ROW:
                raise UnknownUser(user_id) from None
            if number == _MYSQL_DUPLICATE and key is not None:
                return self._made_before(user_id, key, digest)
            raise
        return StoredMemo(memo_id, text, False, now, now)

    def _made_before(self, user_id: str, key: str, digest: str) -> StoredMemo:
        query = select(IdempotencyKey.request_hash, IdempotencyKey.memo_id).where(
            IdempotencyKey.user_id == user_id, IdempotencyKey.key == key
        )
        request_hash, memo_id = self._session.execute(query).one()
        if request_hash != digest:
            raise KeyReused(key)
        memo = self.find(user_id, memo_id)
        if memo is None:
            raise MemoGone(memo_id)
        return memo

    def change(
        self,
        user_id: str,
        memo_id: int,
        *,
        text: str | None = None,
        pinned: bool | None = None,
        unless: Callable[[StoredMemo], bool] | None = None,
    ) -> StoredMemo | None:
        """Change one of the user's memos.

        Args:
            user_id: whose.
            memo_id: which.
            text: the new text; None leaves it. A new text makes a new `updated_at`, a pin does not.
            pinned: whether it is pinned; None leaves it.
            unless: told the memo as it is, which nobody else can change meanwhile; True stops the change.

        Returns:
            The memo as it is now, or None when there is no such memo, or it is somebody else's.

        Raises:
            InvalidText: nothing was changed.
            Changed: `unless` stopped it.
        """
        if text is not None:
            self.check(text)
        before = self._locked(user_id, memo_id, unless)
        if before is None:
            return None
        after = replace(before, pinned=before.pinned if pinned is None else pinned)
        if text is not None and text != before.text:
            # Never earlier than before, whatever the web hosts' clocks say.
            after = replace(after, text=text, updated_at=max(datetime.now(UTC), before.updated_at))
        if after != before:
            self._session.execute(
                update(Memo)
                .where(Memo.id == memo_id)
                .values(text=after.text, pinned=after.pinned, updated_at=after.updated_at)
            )
        self._session.commit()
        return after

    def delete(self, user_id: str, memo_id: int, *, unless: Callable[[StoredMemo], bool] | None = None) -> bool:
        """Delete one of the user's memos.

        Args:
            user_id: whose.
            memo_id: which.
            unless: told the memo as it is; True stops the deletion.

        Returns:
            False when there is no such memo, or it is somebody else's.

        Raises:
            Changed: `unless` stopped it.
        """
        if unless is not None and self._locked(user_id, memo_id, unless) is None:
            return False
        result = self._session.execute(delete(Memo).where(Memo.id == memo_id, Memo.user_id == user_id))
        self._session.commit()
        return cast(CursorResult[Any], result).rowcount == 1

    def _locked(self, user_id: str, memo_id: int, unless: Callable[[StoredMemo], bool] | None) -> StoredMemo | None:
        query = select(*_COLUMNS).where(Memo.id == memo_id, Memo.user_id == user_id).with_for_update()
        row = self._session.execute(query).one_or_none()
        if row is None:
            self._session.rollback()
            return None
        found = StoredMemo(*row)
        if unless is not None and unless(found):
            self._session.rollback()
            raise Changed(memo_id)
        return found


def _is_invisible(character: str) -> bool:
    return character in _INVISIBLE or unicodedata.category(character)[0] in "CZ"
