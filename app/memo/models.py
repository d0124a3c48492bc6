"""The tables: users and their memos.

Schema changes are migrations (`memo/migrations`); a test keeps the two equal.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import DateTime, ForeignKey, Index, String, Text, TypeDecorator
from sqlalchemy.dialects import mysql
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

USER_ID_LENGTH = 64
"""Naver's `id` has up to 64 characters (naver-openapi-guide, profile API)."""

USER_NAME_LENGTH = 255

_TABLE_OPTIONS = {"mysql_engine": "InnoDB", "mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_0900_ai_ci"}

# The provider's ids differ by letter case; a collation that ignores case would give one person another's memos.
_USER_ID = String(USER_ID_LENGTH).with_variant(
    mysql.VARCHAR(USER_ID_LENGTH, charset="utf8mb4", collation="utf8mb4_0900_bin"), "mysql"
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


db = SQLAlchemy(model_class=Base)


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
    # InnoDB appends the primary key to every secondary index: this one serves "the newest of one user".
    __table_args__ = (Index("ix_memos_user_id", "user_id"), _TABLE_OPTIONS)

    id: Mapped[int] = mapped_column(mysql.BIGINT(unsigned=True), primary_key=True, autoincrement=True)
    user_id: Mapped[str] = mapped_column(_USER_ID, ForeignKey("users.id", ondelete="CASCADE", name="fk_memos_user_id"))
    text: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime)
