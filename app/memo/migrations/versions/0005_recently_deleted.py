"""Deleted memos wait in a table of their own, so that a deletion can be undone.

A table and not a column `deleted_at`: the version before this one reads every row of `memos`, and would show what was
deleted.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "deleted_memos",
        sa.Column("id", mysql.BIGINT(unsigned=True), autoincrement=False, nullable=False),
        sa.Column("user_id", mysql.VARCHAR(64, charset="utf8mb4", collation="utf8mb4_0900_bin"), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("pinned", sa.Boolean(), nullable=False),
        sa.Column("created_at", mysql.DATETIME(fsp=6), nullable=False),
        sa.Column("updated_at", mysql.DATETIME(fsp=6), nullable=False),
        sa.Column("deleted_at", mysql.DATETIME(fsp=6), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_deleted_memos_user_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
        sa.Index("ix_deleted_memos_user_id_deleted_at", "user_id", "deleted_at"),
        sa.Index("ix_deleted_memos_deleted_at", "deleted_at"),
        mysql_engine="InnoDB",
        mysql_charset="utf8mb4",
        mysql_collate="utf8mb4_0900_ai_ci",
    )


def downgrade() -> None:
    """Remove the table; what was deleted can no longer be brought back."""
    op.drop_table("deleted_memos")
