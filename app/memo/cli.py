"""Commands for operators: `flask --app memo.wsgi migrate` and `… check`."""

from __future__ import annotations

import logging
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import BinaryIO

import click
import orjson
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from flask.cli import with_appcontext
from flask_migrate import upgrade
from redis.exceptions import AuthenticationError, RedisError
from sqlalchemy import Engine, NullPool, create_engine, literal, select, text
from sqlalchemy.exc import SQLAlchemyError

from memo import create_app, database
from memo.compatibility import describe, problems
from memo.config import Settings
from memo.models import Memo, db
from memo.search import SearchIndex
from memo.services import services

MIGRATIONS = Path(__file__).parent / "migrations"
REHEARSAL_SUFFIX = "_rehearsal"
_NOTHING = "nothing"
_INDEXED_AT_ONCE = 200

_MYSQL_REFUSALS = {1044, 1045, 1049, 1698, 3118, 3159}
"""Access to the database or for the user denied, no such database, locked account, TLS required (MySQL 9.7 Reference
Manual, "Server Error Message Reference")."""


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
    if not _known(before):
        click.echo(f"database left at {before}, which a later version made")
        return
    try:
        upgrade()
    except SQLAlchemyError as error:
        raise click.ClickException(_reason(error)) from None
    after = _revision(settings)
    click.echo(f"database unchanged at {after}" if before == after else f"database migrated from {before} to {after}")


@click.command()
@with_appcontext
def rehearse() -> None:
    """Try this version's migrations in a scratch database, and describe the tables they make.

    Needs the database user of `migrate`, with rights on the database MEMO_DATABASE_NAME followed by `_rehearsal`.
    Prints JSON: `pending` tells whether the real database is behind, `tables` is for `compatible`. Nothing real is
    changed.
    """
    settings = services().settings
    head = str(ScriptDirectory(str(MIGRATIONS)).get_current_head())
    at = _revision(settings)
    if at == head or not _known(at):
        click.echo(orjson.dumps({"pending": False, "from": at, "to": head, "tables": {}}))
        return
    scratch = replace(settings, database_name=f"{settings.database_name}{REHEARSAL_SUFFIX}")
    name = scratch.database_name
    try:
        _execute(settings, f"DROP DATABASE IF EXISTS `{name}`", f"CREATE DATABASE `{name}`")
        try:
            with create_app(scratch).app_context():
                upgrade()
            with _engine(scratch).connect() as connection:
                tables = describe(connection)
        finally:
            _execute(settings, f"DROP DATABASE IF EXISTS `{name}`")
    except SQLAlchemyError as error:
        raise click.ClickException(
            f"The migrations fail in the scratch database {name}, so nothing was changed: {_reason(error)}"
        ) from None
    click.echo(orjson.dumps({"pending": True, "from": at, "to": head, "tables": tables}))


@click.command()
@click.argument("description", type=click.File("rb"), default="-")
@with_appcontext
def compatible(description: BinaryIO) -> None:
    """Check that this version works on other tables: the JSON of another version's `rehearse`, on standard input."""
    found = problems(orjson.loads(description.read())["tables"])
    if found:
        raise click.ClickException(" ".join(found))
    click.echo("compatible")


@click.command()
@with_appcontext
def index() -> None:
    """Make every memo findable: those from before there was a search, and those that were imported.

    Searches do it too, some at a time; after the first migration this spares people the wait. Safe while the service
    runs, and to stop and start again.
    """
    users = list(db.session.scalars(select(Memo.user_id).where(Memo.unindexed == literal(1)).distinct()))
    for number, user_id in enumerate(users, 1):
        SearchIndex(db.session).catch_up(user_id, memos=_INDEXED_AT_ONCE, seconds=inf)
        click.echo(f"{number} of {len(users)} users")
    click.echo("all memos are indexed")


@click.command("log-out")
@click.argument("user_id", required=False)
@click.option("--everybody", is_flag=True, help="End all sessions of all users.")
@with_appcontext
def log_out(user_id: str | None, everybody: bool) -> None:
    """End the sessions of the user USER_ID, as the table `users` has it, or of everybody. Their API tokens stay."""
    if (user_id is None) is not everybody:
        raise click.UsageError("give one user's id, or --everybody")
    sessions = services().sessions
    try:
        ended = sessions.end_everybodys() if user_id is None else sessions.end_all(user_id)
    except RedisError as error:
        raise click.ClickException(f"redis: {type(error).__name__}. Check MEMO_REDIS_* and the host.") from None
    click.echo(f"{ended} sessions ended")


@click.command()
@with_appcontext
def forget() -> None:
    """Forget the cached answers: rows were changed behind the service's back, by hand or from a backup."""
    services().cache.forget_all()
    click.echo("nothing that was cached is used any more")


@click.command()
@click.option("--connect", is_flag=True, help="Also ask MySQL and Redis for an answer.")
@click.option("--credentials", is_flag=True, help="Only fail when MySQL or Redis refuses the credentials.")
@with_appcontext
def check(connect: bool, credentials: bool) -> None:
    """Check the configuration; with --connect, the way to MySQL and Redis too.

    With --credentials a database that is not reached is no failure: the service starts during an outage and says 503,
    but with a wrong password it must never become healthy, or it would replace web hosts that work.

    A configuration that cannot work never gets here: it is refused when the application is made.
    """
    settings = services().settings
    click.echo("configuration: ok")
    if credentials:
        _check_credentials(settings)
    if not connect:
        return
    click.echo(f"mysql: ok, tables at {_revision(settings)}")
    try:
        services().redis.ping()
    except RedisError as error:
        where = f"{settings.redis_host}:{settings.redis_port}"
        raise click.ClickException(f"redis at {where}: {error}. Check MEMO_REDIS_* and the host.") from None
    click.echo("redis: ok")


def _check_credentials(settings: Settings) -> None:
    try:
        with _engine(settings).connect():
            click.echo("mysql: takes the credentials")
    except SQLAlchemyError as error:
        reason = getattr(error, "orig", None)
        if reason is not None and reason.args and reason.args[0] in _MYSQL_REFUSALS:
            raise click.ClickException(
                f"MySQL refuses the user {settings.database_user} (error {reason.args[0]}): MEMO_DATABASE_PASSWORD, "
                "MEMO_DATABASE_USER or MEMO_DATABASE_NAME is wrong."
            ) from None
        click.echo(f"mysql: not reached ({type(reason or error).__name__})")
    try:
        services().redis.ping()
        click.echo("redis: takes the credentials")
    except AuthenticationError:
        raise click.ClickException("Redis refuses the password: MEMO_REDIS_PASSWORD is wrong.") from None
    except RedisError as error:
        click.echo(f"redis: not reached ({type(error).__name__})")


def _known(revision: str) -> bool:
    """Whether this version's migrations lead to a revision; a later version's tables are left as they are."""
    revisions = {script.revision for script in ScriptDirectory(str(MIGRATIONS)).walk_revisions()}
    return revision == _NOTHING or revision in revisions


def _execute(settings: Settings, *statements: str) -> None:
    with _engine(settings).connect() as connection:
        for statement in statements:
            connection.execute(text(statement))


def _engine(settings: Settings) -> Engine:
    return create_engine(
        database.url(settings),
        poolclass=NullPool,
        hide_parameters=True,
        connect_args={
            **database.engine_options(settings)["connect_args"],
            "read_timeout": settings.database_read_timeout,
        },
    )


def _reason(error: SQLAlchemyError) -> str:
    """What the database itself said, without the statement and its parameters."""
    return str(getattr(error, "orig", None) or type(error).__name__)


def _revision(settings: Settings) -> str:
    """The migration the database is at."""
    try:
        with _engine(settings).connect() as connection:
            connection.execute(text("SELECT 1"))
            return MigrationContext.configure(connection).get_current_revision() or _NOTHING
    except SQLAlchemyError as error:
        where = f"{settings.database_host}:{settings.database_port}"
        reason = getattr(error, "orig", None) or type(error).__name__
        raise click.ClickException(f"mysql at {where}: {reason}. Check MEMO_DATABASE_* and the host.") from None
