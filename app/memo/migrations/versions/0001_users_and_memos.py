"""Users and memos."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_OPTIONS: dict[str, Any] = {"mysql_engine": "InnoDB", "mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_0900_ai_ci"}


def _user_id() -> mysql.VARCHAR:
    return mysql.VARCHAR(64, charset="utf8mb4", collation="utf8mb4_0900_bin")


def upgrade() -> None:
    """Make both tables."""
    op.create_table(
        "users",
        sa.Column("id", _user_id(), nullable=False),
        sa.Column("name", sa.String(255), nullable=True),
        sa.Column("created_at", mysql.DATETIME(fsp=6), nullable=False),
        sa.Column("updated_at", mysql.DATETIME(fsp=6), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        **_OPTIONS,
    )
    op.create_table(
        "memos",
        sa.Column("id", mysql.BIGINT(unsigned=True), autoincrement=True, nullable=False),
        sa.Column("user_id", _user_id(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("created_at", mysql.DATETIME(fsp=6), nullable=False),
        sa.Column("updated_at", mysql.DATETIME(fsp=6), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_memos_user_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
        sa.Index("ix_memos_user_id", "user_id"),
        **_OPTIONS,
    )


def downgrade() -> None:
    """Remove both tables, with everything in them."""
    op.drop_table("memos")
    op.drop_table("users")
