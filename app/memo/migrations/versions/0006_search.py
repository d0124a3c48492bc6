"""Memos can be searched, and imported twice without becoming two.

Memos that exist are not indexed here: that takes minutes for a large table, and this must stay short. `unindexed` finds
them, and those that the version before this one writes or changes meanwhile; `memo index` and every search catch up.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the index's table, then the columns and indexes in one statement: MySQL makes all of it or nothing."""
    op.create_table(
        "memo_grams",
        sa.Column("gram", mysql.BIGINT(unsigned=True), autoincrement=False, nullable=False),
        sa.Column("memo_id", mysql.BIGINT(unsigned=True), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("gram", "memo_id"),
        mysql_engine="InnoDB",
        mysql_charset="utf8mb4",
        mysql_collate="utf8mb4_0900_ai_ci",
    )
    op.execute(
        "ALTER TABLE memos ADD COLUMN indexed_at DATETIME(6) NULL,"
        " ADD COLUMN unindexed BOOL GENERATED ALWAYS AS (IF(indexed_at = updated_at, NULL, 1)) VIRTUAL,"
        " ADD INDEX ix_memos_user_id_unindexed (user_id, unindexed),"
        " ADD INDEX ix_memos_user_id_created_at (user_id, created_at)"
    )


def downgrade() -> None:
    """Remove all of it; it can be made again from the memos."""
    op.execute(
        "ALTER TABLE memos DROP INDEX ix_memos_user_id_created_at, DROP INDEX ix_memos_user_id_unindexed,"
        " DROP COLUMN unindexed, DROP COLUMN indexed_at"
    )
    op.drop_table("memo_grams")
