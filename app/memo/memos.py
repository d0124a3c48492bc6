"""What is stored about memos, and how."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pymysql
from flask_sqlalchemy.session import Session
from sqlalchemy import Engine, delete, insert, select, update
from sqlalchemy.engine import CursorResult
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import scoped_session

from memo import grams
from memo.cache import MemoCache
from memo.characters import VISIBLE
from memo.database import insert_row
from memo.models import DeletedMemo, IdempotencyKey, Memo
from memo.search import SearchIndex

MAX_ID = 2**63 - 1
PAGE_SIZE = 100
MAX_PAGE_SIZE = 500

KEY_LIFETIME = timedelta(days=1)
"""How long a request can be repeated under its idempotency key."""

DELETED_LIFETIME = timedelta(days=30)
"""How long a deletion can be undone."""

_PURGED_AT_ONCE = 100
_LEAST_READ = 50
_INDEXED_AT_ONCE = 200
_INDEXING_SECONDS = 0.5

_MYSQL_DUPLICATE = 1062
_MYSQL_NO_REFERENCED_ROW = 1452
_VISIBLE = re.compile(VISIBLE)


_ADD = "INSERT INTO memos (user_id, text, pinned, created_at, updated_at) VALUES (%s, %s, 0, %s, %s)"


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
_KEPT = (DeletedMemo.id, DeletedMemo.text, DeletedMemo.pinned, DeletedMemo.created_at, DeletedMemo.updated_at)


@dataclass(frozen=True)
class Page:
    """A part of the list, newest first; `next` is where the following part begins, None at the end.

    `complete` is false when a search could not see every memo yet, because some are not indexed.
    """

    memos: Sequence[StoredMemo]
    next: int | None
    complete: bool = True


@dataclass(frozen=True, slots=True)
class Position:
    """A place in the list that begins with the pinned memos: in which half, and below which id."""

    pinned: bool = True
    before: int | None = None


@dataclass(frozen=True)
class Overview:
    """A part of that list; `next` is where the following part begins, None at the end."""

    memos: Sequence[StoredMemo]
    next: Position | None


@dataclass(frozen=True, slots=True)
class Deleted:
    """A memo that can be brought back, and when it was deleted."""

    memo: StoredMemo
    deleted_at: datetime


class MemoStore:
    """The memos in MySQL.

    Args:
        session: the database session of the current request.
        cache: what is shown to a user may be kept there.
        max_characters: the most a memo's text may have.
    """

    def __init__(self, session: scoped_session[Session], cache: MemoCache, max_characters: int) -> None:
        self._session = session
        self._cache = cache
        self._index = SearchIndex(session)
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
        if _VISIBLE.search(text) is None:
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
        # Named, because MySQL would otherwise sometimes walk the table of all users from its end.
        index = "ix_memos_user_id" if pinned is None else "ix_memos_user_id_pinned"
        query = select(*_COLUMNS).with_hint(Memo, f"FORCE INDEX ({index})", "mysql").where(Memo.user_id == user_id)
        if pinned is not None:
            query = query.where(Memo.pinned == pinned)
        if before is not None:
            query = query.where(Memo.id < before)
        rows = self._session.execute(query.order_by(Memo.id.desc()).limit(limit + 1)).all()
        memos = [StoredMemo(*row) for row in rows[:limit]]
        return Page(memos, memos[-1].id if len(rows) > limit else None)

    def overview(self, user_id: str, *, limit: int, after: Position) -> Overview:
        """The pinned memos of one user, newest first, then the others.

        Args:
            user_id: whose.
            limit: at most so many.
            after: where to begin: `Position()`, or the `next` of the part before.
        """
        memos: list[StoredMemo] = []
        if after.pinned:
            pinned = self.page(user_id, limit=limit, before=after.before, pinned=True)
            if pinned.next is not None:
                return Overview(pinned.memos, Position(True, pinned.next))
            memos.extend(pinned.memos)
        if len(memos) == limit:
            return Overview(memos, Position(False, None))
        before = None if after.pinned else after.before
        rest = self.page(user_id, limit=limit - len(memos), before=before, pinned=False)
        return Overview([*memos, *rest.memos], None if rest.next is None else Position(False, rest.next))

    def search(
        self,
        user_id: str,
        query: str,
        *,
        limit: int = PAGE_SIZE,
        before: int | None = None,
        pinned: bool | None = None,
    ) -> Page:
        """The newest memos of one user in which every word of a query is found, whatever its case.

        Args:
            user_id: whose.
            query: words, or parts of words.
            limit: at most so many.
            before: only memos with a smaller id: the cursor.
            pinned: only those that are pinned, or that are not; None for all.

        Returns:
            A page that may hold fewer than `limit`, even none, and still have a `next`: a search reads a bounded part.

        Raises:
            memo.search.InvalidQuery: nothing was looked up.
        """
        complete = self._index.catch_up(user_id, memos=_INDEXED_AT_ONCE, seconds=_INDEXING_SECONDS)
        found: list[StoredMemo] = []
        following: int | None = None
        for ids, below in self._index.candidates(user_id, query, before):
            following = below
            step = max(limit, _LEAST_READ)
            for start in range(0, len(ids), step):
                rows = select(*_COLUMNS).where(Memo.id.in_(ids[start : start + step]), Memo.user_id == user_id)
                memos = [StoredMemo(*row) for row in self._session.execute(rows.order_by(Memo.id.desc()))]
                found += [
                    memo
                    for memo in memos
                    if (pinned is None or memo.pinned == pinned) and grams.matches(memo.text, query)
                ]
                if len(found) > limit:
                    return Page(found[:limit], found[limit - 1].id, complete)
        return Page(found, following, complete)

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
        with self._cache.changing(user_id):
            return self._add(user_id, text, key)

    def _add(self, user_id: str, text: str, key: str | None) -> StoredMemo:
        now = datetime.now(UTC)
        statement = insert(Memo).values(
            user_id=user_id, text=text, pinned=False, created_at=now, updated_at=now, indexed_at=now
        )
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
            self._index.add(user_id, [(memo_id, text)])
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

    def add_quickly(self, engine: Engine, user_id: str, text: str) -> StoredMemo:
        """Store a memo that was checked, behind a fence of the caller's, in as few round trips as can be.

        The search finds it all the same: it indexes what waits for that.

        Args:
            engine: of the database; no session of a request is used.
            user_id: whose.
            text: what.

        Raises:
            UnknownUser: nothing was stored.
        """
        now = datetime.now(UTC)
        moment = now.replace(tzinfo=None)
        try:
            memo_id = insert_row(engine, _ADD, (user_id, text, moment, moment))
        except pymysql.err.IntegrityError as error:
            if error.args[0] == _MYSQL_NO_REFERENCED_ROW:
                raise UnknownUser(user_id) from None
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
        with self._cache.changing(user_id):
            before = self._locked(user_id, memo_id, unless)
            return None if before is None else self._change(user_id, before, text, pinned)

    def _change(self, user_id: str, before: StoredMemo, text: str | None, pinned: bool | None) -> StoredMemo:
        memo_id = before.id
        after = replace(before, pinned=before.pinned if pinned is None else pinned)
        if text is not None and text != before.text:
            # Never earlier than before, whatever the web hosts' clocks say.
            after = replace(after, text=text, updated_at=max(datetime.now(UTC), before.updated_at))
        # One that waits for the index goes on waiting: what both texts have in common is not there yet.
        indexed = after.text != before.text and self._is_indexed(memo_id)
        if after != before:
            self._session.execute(
                update(Memo)
                .where(Memo.id == memo_id)
                .values(text=after.text, pinned=after.pinned, updated_at=after.updated_at)
            )
        if indexed:
            self._index.replace(user_id, memo_id, before.text, after.text)
            self._session.execute(update(Memo).where(Memo.id == memo_id).values(indexed_at=after.updated_at))
        self._session.commit()
        return after

    def delete(self, user_id: str, memo_id: int, *, unless: Callable[[StoredMemo], bool] | None = None) -> bool:
        """Delete one of the user's memos; it can be brought back for DELETED_LIFETIME.

        Args:
            user_id: whose.
            memo_id: which.
            unless: told the memo as it is; True stops the deletion.

        Returns:
            False when there is no such memo, or it is somebody else's.

        Raises:
            Changed: `unless` stopped it.
        """
        with self._cache.changing(user_id):
            memo = self._locked(user_id, memo_id, unless)
            if memo is not None:
                self._delete(user_id, memo)
        if memo is not None:
            self._purge()
        return memo is not None

    def _delete(self, user_id: str, memo: StoredMemo) -> None:
        memo_id = memo.id
        self._session.execute(
            insert(DeletedMemo).values(
                id=memo.id,
                user_id=user_id,
                text=memo.text,
                pinned=memo.pinned,
                created_at=memo.created_at,
                updated_at=memo.updated_at,
                deleted_at=datetime.now(UTC),
            )
        )
        self._session.execute(delete(Memo).where(Memo.id == memo_id))
        self._index.remove(user_id, [(memo_id, memo.text)])
        self._session.commit()

    def restore(self, user_id: str, memo_id: int) -> StoredMemo | None:
        """Bring a deleted memo back: the same id, text, pin and times. Once more does no harm.

        Returns:
            The memo, or None when the user has deleted no such memo, or too long ago.
        """
        with self._cache.changing(user_id):
            return self._restore(user_id, memo_id)

    def _restore(self, user_id: str, memo_id: int) -> StoredMemo | None:
        query = select(*_KEPT).where(DeletedMemo.id == memo_id, DeletedMemo.user_id == user_id).with_for_update()
        row = self._session.execute(query).one_or_none()
        if row is None:
            self._session.rollback()
            return self.find(user_id, memo_id)
        memo = StoredMemo(*row)
        self._session.execute(
            insert(Memo).values(
                id=memo.id,
                user_id=user_id,
                text=memo.text,
                pinned=memo.pinned,
                created_at=memo.created_at,
                updated_at=memo.updated_at,
                indexed_at=memo.updated_at,
            )
        )
        self._session.execute(delete(DeletedMemo).where(DeletedMemo.id == memo_id))
        self._index.add(user_id, [(memo_id, memo.text)])
        self._session.commit()
        return memo

    def deleted(self, user_id: str, *, limit: int = PAGE_SIZE) -> Sequence[Deleted]:
        """The memos of one user that can be brought back, the last deleted first."""
        query = (
            select(*_KEPT, DeletedMemo.deleted_at)
            .where(DeletedMemo.user_id == user_id, DeletedMemo.deleted_at > datetime.now(UTC) - DELETED_LIFETIME)
            .order_by(DeletedMemo.deleted_at.desc())
            .limit(limit)
        )
        return [Deleted(StoredMemo(*row[:-1]), row[-1]) for row in self._session.execute(query)]

    def _purge(self) -> None:
        """Forget some of what was deleted long ago, whose ever: those who never come back leave nothing either."""
        old = (
            select(DeletedMemo.id)
            .where(DeletedMemo.deleted_at < datetime.now(UTC) - DELETED_LIFETIME)
            .limit(_PURGED_AT_ONCE)
            .with_for_update(skip_locked=True)
        )
        ids = list(self._session.scalars(old))
        if ids:
            self._session.execute(delete(DeletedMemo).where(DeletedMemo.id.in_(ids)))
        self._session.commit()

    def _is_indexed(self, memo_id: int) -> bool:
        return self._session.scalar(select(Memo.unindexed).where(Memo.id == memo_id)) is None

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
