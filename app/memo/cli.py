"""Commands for operators: `flask --app memo.wsgi migrate` and `… check`."""

from __future__ import annotations

import logging

import click
from alembic.runtime.migration import MigrationContext
from flask.cli import with_appcontext
from flask_migrate import upgrade
from redis.exceptions import RedisError
from sqlalchemy import NullPool, create_engine, text
from sqlalchemy.exc import SQLAlchemyError

from memo import database
from memo.config import Settings
from memo.services import services


@click.command()
@with_appcontext
def migrate() -> None:
    """Bring the database's tables to this version of the service.

    Needs a database user who may change tables: set MEMO_DATABASE_USER and MEMO_DATABASE_PASSWORD (or _FILE)
    for this command. Safe to run from several hosts at once, and when there is nothing to do.
    """
    settings = services().settings
    # Alembic tells each step ("Running upgrade …") at this level.
    logging.getLogger("alembic.runtime.migration").setLevel(logging.INFO)
    before = _revision(settings)
    upgrade()
    after = _revision(settings)
    click.echo(f"database unchanged at {after}" if before == after else f"database migrated from {before} to {after}")


@click.command()
@click.option("--connect", is_flag=True, help="Also ask MySQL and Redis for an answer.")
@with_appcontext
def check(connect: bool) -> None:
    """Check the configuration; with --connect, the way to MySQL and Redis too.

    A configuration that cannot work never gets here: it is refused when the application is made.
    """
    settings = services().settings
    click.echo("configuration: ok")
    if not connect:
        return
    click.echo(f"mysql: ok, tables at {_revision(settings)}")
    try:
        services().redis.ping()
    except RedisError as error:
        where = f"{settings.redis_host}:{settings.redis_port}"
        raise click.ClickException(f"redis at {where}: {error}. Check MEMO_REDIS_* and the host.") from None
    click.echo("redis: ok")


def _revision(settings: Settings) -> str:
    """The migration the database is at."""
    engine = create_engine(
        database.url(settings),
        poolclass=NullPool,
        hide_parameters=True,
        connect_args=database.engine_options(settings)["connect_args"],
    )
    try:
        with engine.connect() as connection:
            connection.execute(text("SELECT 1"))
            return MigrationContext.configure(connection).get_current_revision() or "nothing"
    except SQLAlchemyError as error:
        where = f"{settings.database_host}:{settings.database_port}"
        reason = getattr(error, "orig", None) or type(error).__name__
        raise click.ClickException(f"mysql at {where}: {reason}. Check MEMO_DATABASE_* and the host.") from None
