"""What is stored about people, and how."""

from __future__ import annotations

from datetime import UTC, datetime

from flask_sqlalchemy.session import Session
from sqlalchemy import select
from sqlalchemy.dialects.mysql import insert
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import scoped_session

from memo.cache import MemoCache
from memo.models import USER_NAME_LENGTH, User

_MYSQL_DEADLOCK = 1213
_ATTEMPTS = 3


class UserStore:
    """The users in MySQL.

    Args:
        session: the database session of the current request.
        cache: what is shown to a user may be kept there.
    """

    def __init__(self, session: scoped_session[Session], cache: MemoCache) -> None:
        self._session = session
        self._cache = cache

    def save(self, user_id: str, name: str | None) -> None:
        """Make a row for a new id, refresh the name of a known one.

        One statement, so that two first log-ins at once both succeed.

        Args:
            user_id: the provider's id, at most 64 characters.
            name: None when the person withholds it; a name given earlier is then forgotten.
        """
        now = datetime.now(UTC)
        name = name[:USER_NAME_LENGTH] if name else None
        statement = insert(User).values(id=user_id, name=name, created_at=now, updated_at=now)
        statement = statement.on_duplicate_key_update(
            name=statement.inserted.name, updated_at=statement.inserted.updated_at
        )
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                with self._cache.changing(user_id):
                    self._session.execute(statement)
                    self._session.commit()
            except OperationalError as error:
                self._session.rollback()
                # InnoDB may choose one of several at once as a deadlock's victim; its manual says to try again.
                if error.orig is None or error.orig.args[0] != _MYSQL_DEADLOCK or attempt == _ATTEMPTS:
                    raise
            else:
                return

    def find(self, user_id: str) -> tuple[bool, str | None]:
        """Look a user up.

        Returns:
            Whether there is such a user, and the name.
        """
        row = self._session.execute(select(User.name).where(User.id == user_id)).one_or_none()
        return (False, None) if row is None else (True, row[0])
