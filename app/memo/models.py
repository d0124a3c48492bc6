"""The tables: users and their memos.

Schema changes are migrations (`memo/migrations`); a test keeps the two equal.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Any

from flask_sqlalchemy import SQLAlchemy
from flask_sqlalchemy.session import Session
from sqlalchemy import Boolean, Computed, DateTime, ForeignKey, Index, String, Text, TypeDecorator
from sqlalchemy import text as sql_text
from sqlalchemy.dialects import mysql
from sqlalchemy.engine import Dialect
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

_log = logging.getLogger(__name__)

USER_ID_LENGTH = 64
"""Naver's `id` has up to 64 characters (naver-openapi-guide, profile API)."""

USER_NAME_LENGTH = 255
TOKEN_NAME_LENGTH = 64
IDEMPOTENCY_KEY_LENGTH = 128

_TABLE_OPTIONS = {"mysql_engine": "InnoDB", "mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_0900_ai_ci"}

# The provider's ids differ by letter case; a collation that ignores case would give one person another's memos.
_USER_ID = String(USER_ID_LENGTH).with_variant(
    mysql.VARCHAR(USER_ID_LENGTH, charset="utf8mb4", collation="utf8mb4_0900_bin"), "mysql"
)


# SHA-256 in hexadecimal, and what a client chose: bytes to us, whose case counts.
_HASH = String(64).with_variant(mysql.CHAR(64, charset="ascii", collation="ascii_bin"), "mysql")
_KEY = String(IDEMPOTENCY_KEY_LENGTH).with_variant(
    mysql.VARCHAR(IDEMPOTENCY_KEY_LENGTH, charset="ascii", collation="ascii_bin"), "mysql"
)


class UtcDateTime(TypeDecorator[datetime]):
    """A moment: aware in Python, UTC with microseconds in the database, whatever the server's time zone."""

    impl = DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> Any:  # noqa: ANN401 - the parent's signature
        """MySQL drops fractions of a second unless told otherwise."""
        return dialect.type_descriptor(mysql.DATETIME(fsp=6) if dialect.name == "mysql" else DateTime())

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """To the database: UTC, without the zone."""
        return None if value is None else value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """From the database: UTC, with the zone."""
        return None if value is None else value.replace(tzinfo=UTC)


class Base(DeclarativeBase):
    """The parent of the tables."""


class RequestSession(Session):
    """A request's session, which ends after the answer was made."""

    def close(self) -> None:
        """Give the connection back; one that was lost meanwhile is no error any more.

        What was to stay was committed, and the answer's head may be out: an error now would only cut its body off.
        """
        try:
            super().close()
        except DBAPIError as error:
            if not error.connection_invalidated:
                raise
            _log.warning("connection lost after use", extra={"dependency": "mysql", "error": type(error).__name__})
            super().close()


db = SQLAlchemy(model_class=Base, session_options={"class_": RequestSession})


class User(Base):
    """A person, as the log-in provider knows them."""

    __tablename__ = "users"
    __table_args__ = (_TABLE_OPTIONS,)

    id: Mapped[str] = mapped_column(_USER_ID, primary_key=True)
    name: Mapped[str | None] = mapped_column(String(USER_NAME_LENGTH))
    """None when the person withholds it."""
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime)


class Memo(Base):
    """One memo. A later memo has a greater id, so the id is also the order of the list."""

    __tablename__ = "memos"
    # InnoDB appends the primary key to every secondary index: these serve "the newest of one user", and of the pinned.
    __table_args__ = (
        Index("ix_memos_user_id", "user_id"),
        Index("ix_memos_user_id_pinned", "user_id", "pinned"),
        Index("ix_memos_user_id_unindexed", "user_id", "unindexed"),
        Index("ix_memos_user_id_created_at", "user_id", "created_at"),
        _TABLE_OPTIONS,
    )

    id: Mapped[int] = mapped_column(mysql.BIGINT(unsigned=True), primary_key=True, autoincrement=True)
    user_id: Mapped[str] = mapped_column(_USER_ID, ForeignKey("users.id", ondelete="CASCADE", name="fk_memos_user_id"))
    text: Mapped[str] = mapped_column(Text)
    # With a default in the database too: the version before this one, which inserts without it, keeps working.
    pinned: Mapped[bool] = mapped_column(Boolean, default=False, server_default=sql_text("0"))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime)
    indexed_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """The `updated_at` of the text that `memo_grams` knows; None before the first time."""
    # True or null, so that the few memos that wait for the search's index are found without reading the others. It
    # follows from the times: the version before this one, which knows no index, cannot leave it wrong.
    unindexed: Mapped[bool | None] = mapped_column(
        Boolean, Computed("(if((`indexed_at` = `updated_at`),NULL,1))", persisted=False)
    )


class MemoGram(Base):
    """The search's index: which memos hold a short piece of text; `memo.grams` tells what a gram is.

    Without a foreign key: it would want a second index, as large as the table, and a row too many only costs a look at
    a memo that is not there.
    """

    __tablename__ = "memo_grams"
    __table_args__ = (_TABLE_OPTIONS,)

    gram: Mapped[int] = mapped_column(mysql.BIGINT(unsigned=True), primary_key=True, autoincrement=False)
    memo_id: Mapped[int] = mapped_column(mysql.BIGINT(unsigned=True), primary_key=True, autoincrement=False)


class DeletedMemo(Base):
    """A memo that was deleted a short while ago, as it was."""

    __tablename__ = "deleted_memos"
    __table_args__ = (
        Index("ix_deleted_memos_user_id_deleted_at", "user_id", "deleted_at"),
        Index("ix_deleted_memos_deleted_at", "deleted_at"),
        _TABLE_OPTIONS,
    )

    id: Mapped[int] = mapped_column(mysql.BIGINT(unsigned=True), primary_key=True, autoincrement=False)
    user_id: Mapped[str] = mapped_column(
        _USER_ID, ForeignKey("users.id", ondelete="CASCADE", name="fk_deleted_memos_user_id")
    )
    text: Mapped[str] = mapped_column(Text)
    pinned: Mapped[bool] = mapped_column(Boolean)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime)
    deleted_at: Mapped[datetime] = mapped_column(UtcDateTime)


class IdempotencyKey(Base):
    """A client's own name for a request that made a memo: the same request again makes no second one."""

    __tablename__ = "idempotency_keys"
    __table_args__ = (Index("ix_idempotency_keys_user_id_created_at", "user_id", "created_at"), _TABLE_OPTIONS)

    user_id: Mapped[str] = mapped_column(
        _USER_ID, ForeignKey("users.id", ondelete="CASCADE", name="fk_idempotency_keys_user_id"), primary_key=True
    )
    key: Mapped[str] = mapped_column(_KEY, primary_key=True)
    request_hash: Mapped[str] = mapped_column(_HASH)
    memo_id: Mapped[int] = mapped_column(mysql.BIGINT(unsigned=True))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class ApiToken(Base):
    """A personal API token: its hash, never itself."""

    __tablename__ = "api_tokens"
    __table_args__ = (
        Index("ix_api_tokens_hash", "hash", unique=True),
        Index("ix_api_tokens_user_id", "user_id"),
        _TABLE_OPTIONS,
    )

    id: Mapped[int] = mapped_column(mysql.BIGINT(unsigned=True), primary_key=True, autoincrement=True)
    user_id: Mapped[str] = mapped_column(
        _USER_ID, ForeignKey("users.id", ondelete="CASCADE", name="fk_api_tokens_user_id")
    )
    name: Mapped[str] = mapped_column(String(TOKEN_NAME_LENGTH))
    hash: Mapped[str] = mapped_column(_HASH)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    last_used_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
