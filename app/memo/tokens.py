"""Personal API tokens: a program's way in, without a browser and without a session."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from flask_sqlalchemy.session import Session
from sqlalchemy import delete, func, insert, or_, select, update
from sqlalchemy.engine import CursorResult
from sqlalchemy.orm import scoped_session

from memo.cache import MemoCache
from memo.characters import NAME
from memo.memos import UnknownUser
from memo.models import TOKEN_NAME_LENGTH, ApiToken, User

PREFIX = "memo_"
"""What every token begins with, so that scanners for leaked secrets can know one."""

MOST = 20
"""How many tokens a user may have."""

_TOKEN = re.compile(rf"{PREFIX}[A-Za-z0-9_-]{{43}}")
_NAME = re.compile(NAME)
_BYTES = 32
_USE_NOTED_EVERY = timedelta(minutes=1)


class InvalidName(ValueError):  # noqa: N818 - it is no fault of the program
    """A token needs a name of 1 to TOKEN_NAME_LENGTH characters on one line, by which its owner knows it."""


class TooMany(ValueError):  # noqa: N818 - it is no fault of the program
    """The user has as many tokens as one may have."""


@dataclass(frozen=True, slots=True)
class StoredToken:
    """A token as its owner sees it later: never the token itself."""

    id: int
    name: str
    created_at: datetime
    last_used_at: datetime | None


class TokenStore:
    """The tokens in MySQL, by their SHA-256: 256 random bits need no salt and no slow hash.

    Args:
        session: the database session of the current request.
        cache: nothing is kept there of a user who has a token.
    """

    def __init__(self, session: scoped_session[Session], cache: MemoCache) -> None:
        self._session = session
        self._cache = cache

    def create(self, user_id: str, name: str) -> tuple[str, StoredToken]:
        """Make a token.

        Args:
            user_id: whose.
            name: what for, in the owner's words.

        Returns:
            The token, which is shown this once, and what is stored of it.

        Raises:
            InvalidName: nothing was stored.
            TooMany: nothing was stored.
            UnknownUser: nothing was stored.
        """
        if len(name) > TOKEN_NAME_LENGTH or _NAME.fullmatch(name) is None:
            raise InvalidName(name)
        name = name.strip()
        with self._cache.changing(user_id):
            return self._create(user_id, name)

    def _create(self, user_id: str, name: str) -> tuple[str, StoredToken]:
        # The user's row is locked, so that two requests at once cannot pass the limit together.
        if self._session.execute(select(User.id).where(User.id == user_id).with_for_update()).one_or_none() is None:
            self._session.rollback()
            raise UnknownUser(user_id)
        held = self._session.execute(select(func.count()).where(ApiToken.user_id == user_id)).scalar_one()
        if held >= MOST:
            self._session.rollback()
            raise TooMany(user_id)
        token = PREFIX + secrets.token_urlsafe(_BYTES)
        now = datetime.now(UTC)
        result = self._session.execute(
            insert(ApiToken).values(user_id=user_id, name=name, hash=_hash(token), created_at=now)
        )
        self._session.commit()
        return token, StoredToken(cast(CursorResult[Any], result).lastrowid, name, now, None)

    def of(self, user_id: str) -> Sequence[StoredToken]:
        """A user's tokens, oldest first."""
        query = select(ApiToken.id, ApiToken.name, ApiToken.created_at, ApiToken.last_used_at)
        rows = self._session.execute(query.where(ApiToken.user_id == user_id).order_by(ApiToken.id)).all()
        return [StoredToken(*row) for row in rows]

    def any(self, user_id: str) -> bool:
        """Whether a user has a token."""
        query = select(ApiToken.id).where(ApiToken.user_id == user_id).limit(1)
        return self._session.scalar(query) is not None

    def revoke(self, user_id: str, token_id: int) -> bool:
        """End a token.

        Returns:
            False when the user has no such token.
        """
        result = self._session.execute(delete(ApiToken).where(ApiToken.id == token_id, ApiToken.user_id == user_id))
        self._session.commit()
        return cast(CursorResult[Any], result).rowcount == 1

    def user(self, token: str) -> str | None:
        """The id of the user a token stands for, None when there is no such token; notes the use, once a minute."""
        if _TOKEN.fullmatch(token) is None:
            return None
        query = select(ApiToken.id, ApiToken.user_id, ApiToken.last_used_at).where(ApiToken.hash == _hash(token))
        row = self._session.execute(query).one_or_none()
        if row is None:
            return None
        now = datetime.now(UTC)
        if row.last_used_at is None or now - row.last_used_at >= _USE_NOTED_EVERY:
            self._session.execute(
                update(ApiToken)
                .where(ApiToken.id == row.id)
                .where(or_(ApiToken.last_used_at.is_(None), ApiToken.last_used_at < now))
                .values(last_used_at=now)
            )
            self._session.commit()
        return cast(str, row.user_id)


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
