"""The end of an account: everything of a user, in parts that are short enough for a request."""

from __future__ import annotations

import time

from flask_sqlalchemy.session import Session
from sqlalchemy import delete, select
from sqlalchemy.orm import scoped_session

from memo.cache import MemoCache
from memo.models import ApiToken, DeletedMemo, Memo, User
from memo.search import SearchIndex

_MEMOS_AT_ONCE = 100
_DELETED_AT_ONCE = 1000


class AccountStore:
    """Users and all that is theirs, in MySQL.

    Args:
        session: the database session of the current request.
        cache: what is shown to a user may be kept there.
    """

    def __init__(self, session: scoped_session[Session], cache: MemoCache) -> None:
        self._session = session
        self._cache = cache
        self._index = SearchIndex(session)

    def delete(self, user_id: str, *, seconds: float) -> bool:
        """Delete a user: tokens, memos, deleted memos, then the row itself. Nothing can be brought back.

        Args:
            user_id: whose account.
            seconds: begin no other part after so long.

        Returns:
            Whether all is gone; if not, the same again goes on.
        """
        with self._cache.changing(user_id):
            return self._delete(user_id, time.monotonic() + seconds)

    def _delete(self, user_id: str, finish: float) -> bool:
        self._session.execute(delete(ApiToken).where(ApiToken.user_id == user_id))
        self._session.commit()
        while self._some_memos(user_id) or self._some_deleted(user_id):
            if time.monotonic() >= finish:
                return False
        # What came in meanwhile goes with the row, by the foreign keys.
        self._session.execute(delete(User).where(User.id == user_id))
        self._session.commit()
        return True

    def _some_memos(self, user_id: str) -> bool:
        query = (
            select(Memo.id, Memo.text)
            .with_hint(Memo, "FORCE INDEX (ix_memos_user_id)", "mysql")
            .where(Memo.user_id == user_id)
            .limit(_MEMOS_AT_ONCE)
        )
        rows = self._session.execute(query.with_for_update()).all()
        if rows:
            self._index.remove(user_id, ((row.id, row.text) for row in rows))
            self._session.execute(delete(Memo).where(Memo.id.in_([row.id for row in rows])))
        self._session.commit()
        return bool(rows)

    def _some_deleted(self, user_id: str) -> bool:
        ids = list(
            self._session.scalars(select(DeletedMemo.id).where(DeletedMemo.user_id == user_id).limit(_DELETED_AT_ONCE))
        )
        if ids:
            self._session.execute(delete(DeletedMemo).where(DeletedMemo.id.in_(ids)))
            self._session.commit()
        return bool(ids)
