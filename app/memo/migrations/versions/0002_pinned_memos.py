"""Memos can be pinned."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column and its index, in one statement: MySQL makes all of it or nothing."""
    op.execute(
        "ALTER TABLE memos ADD COLUMN pinned BOOL NOT NULL DEFAULT 0,"
        " ADD INDEX ix_memos_user_id_pinned (user_id, pinned)"
    )


def downgrade() -> None:
    """Remove both; what was pinned is forgotten."""
    op.execute("ALTER TABLE memos DROP INDEX ix_memos_user_id_pinned, DROP COLUMN pinned")
