"""Requests that make a memo can be repeated without making a second one."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "idempotency_keys",
        sa.Column("user_id", mysql.VARCHAR(64, charset="utf8mb4", collation="utf8mb4_0900_bin"), nullable=False),
        sa.Column("key", mysql.VARCHAR(128, charset="ascii", collation="ascii_bin"), nullable=False),
        sa.Column("request_hash", mysql.CHAR(64, charset="ascii", collation="ascii_bin"), nullable=False),
        sa.Column("memo_id", mysql.BIGINT(unsigned=True), nullable=False),
        sa.Column("created_at", mysql.DATETIME(fsp=6), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_idempotency_keys_user_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("user_id", "key"),
        sa.Index("ix_idempotency_keys_user_id_created_at", "user_id", "created_at"),
        mysql_engine="InnoDB",
        mysql_charset="utf8mb4",
        mysql_collate="utf8mb4_0900_ai_ci",
    )


def downgrade() -> None:
    """Remove the table."""
    op.drop_table("idempotency_keys")
