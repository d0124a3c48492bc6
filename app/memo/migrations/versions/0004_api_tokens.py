"""Personal API tokens."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "api_tokens",
        sa.Column("id", mysql.BIGINT(unsigned=True), autoincrement=True, nullable=False),
        sa.Column("user_id", mysql.VARCHAR(64, charset="utf8mb4", collation="utf8mb4_0900_bin"), nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("hash", mysql.CHAR(64, charset="ascii", collation="ascii_bin"), nullable=False),
        sa.Column("created_at", mysql.DATETIME(fsp=6), nullable=False),
        sa.Column("last_used_at", mysql.DATETIME(fsp=6), nullable=True),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_api_tokens_user_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
        sa.Index("ix_api_tokens_hash", "hash", unique=True),
        sa.Index("ix_api_tokens_user_id", "user_id"),
        mysql_engine="InnoDB",
        mysql_charset="utf8mb4",
        mysql_collate="utf8mb4_0900_ai_ci",
    )


def downgrade() -> None:
    """Remove the table, and with it every token."""
    op.drop_table("api_tokens")
