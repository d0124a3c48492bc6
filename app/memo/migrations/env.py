"""Runs the migrations for Flask-Migrate: one host at a time, and without the requests' short time-outs."""

from __future__ import annotations

from alembic import context
from memo import database
from memo.models import Base
from memo.services import services
from sqlalchemy import NullPool, create_engine, text

_LOCK = "memo-server migrations"
_LOCK_SECONDS = 120


def _run() -> None:
    settings = services().settings
    engine = create_engine(
        database.url(settings),
        poolclass=NullPool,
        connect_args={**database.tls(settings), "connect_timeout": settings.database_connect_timeout},
    )
    with engine.connect() as connection:
        # MySQL cannot roll table changes back: two hosts at once would leave a half-made table.
        if connection.scalar(text("SELECT GET_LOCK(:name, :wait)"), {"name": _LOCK, "wait": _LOCK_SECONDS}) != 1:
            raise RuntimeError(f"another migration has been running for {_LOCK_SECONDS} s: wait for it, then run again")
        connection.commit()
        context.configure(connection=connection, target_metadata=Base.metadata, compare_type=True)
        with context.begin_transaction():
            context.run_migrations()
        connection.commit()
    # Closing the connection gives the lock back.


if context.is_offline_mode():
    raise RuntimeError("migrations run against a database; --sql is not supported")
_run()
