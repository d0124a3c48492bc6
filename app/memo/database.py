"""How the service reaches MySQL: TLS, time-outs, pool, and which errors mean that a connection is of no more use."""

from __future__ import annotations

import select
import ssl
import time
from contextvars import ContextVar
from typing import Any

import pymysql
from pymysql.connections import Connection
from sqlalchemy import URL, Engine, ExceptionContext, event
from sqlalchemy.exc import InvalidatePoolError, OperationalError
from sqlalchemy.pool import ConnectionPoolEntry, PoolResetState

from memo.breaker import GuardedPool
from memo.config import Settings

_POOL_WAIT_SECONDS = 2
_POOL_RECYCLE_SECONDS = 900
_TRUSTED_SECONDS = 1.0
"""No server restarts within so short a time."""

CLEAN = "clean"
"""In a connection's `info`: its transaction is over, there is nothing to roll back."""

_USED_AT = "used_at"
_trusting: ContextVar[bool] = ContextVar("trusting", default=False)

_PING_SECONDS = 1.0

_LEAVE = frozenset({1053, 1290, 1836, 1927, 3169})
"""The server shuts down, only reads (both of its words for that), or killed the connection (MySQL 9.7 Reference Manual,
"Server Error Message Reference"; 1927 is MariaDB's). After a failover another server stands behind the address."""


def url(settings: Settings) -> URL:
    """The SQLAlchemy address of the database; its text form hides the password."""
    return URL.create(
        "mysql+pymysql",
        username=settings.database_user,
        password=settings.database_password,
        host=settings.database_host,
        port=settings.database_port,
        database=settings.database_name,
        query={"charset": "utf8mb4"},
    )


def tls(settings: Settings) -> dict[str, Any]:
    """PyMySQL's arguments for the encryption of the connection.

    MySQL's default authentication (caching_sha2_password) sends the password over TLS, or encrypted with the
    server's RSA key where TLS is off. One context is shared by all connections: PyMySQL builds one for each
    connect otherwise, ~50 ms of CPU (measured). Without a CA file the connection is encrypted but the server
    is not authenticated, like `mysql --ssl-mode=REQUIRED`: MySQL makes its own certificate at initialisation.
    """
    if settings.database_tls == "off":
        return {"ssl_disabled": True}
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False  # the certificate MySQL makes for itself names no host
    if settings.database_ca_file:
        context.load_verify_locations(settings.database_ca_file)
    else:
        context.verify_mode = ssl.CERT_NONE
    return {"ssl": context}


def engine_options(settings: Settings) -> dict[str, Any]:
    """SQLAlchemy's engine arguments for serving requests: every wait is bounded, a dead connection is replaced.

    A statement that waits for a lock, or reads for too long, is ended by the server before we would give the connection
    up: so that stays of use, and the statement does not go on without us.
    """
    seconds = settings.database_read_timeout
    lock_seconds = max(1, int(seconds / 2))
    return {
        "poolclass": GuardedPool,
        "pool_size": settings.database_pool_size,
        "max_overflow": settings.database_pool_size,
        "pool_timeout": _POOL_WAIT_SECONDS,
        "pool_reset_on_return": None,
        "pool_events": [(_check_before_use, "checkout"), (_clean_after_use, "reset")],
        "pool_recycle": _POOL_RECYCLE_SECONDS,
        "hide_parameters": True,  # an error's text would otherwise carry memo texts and names into the log
        "isolation_level": "READ COMMITTED",
        "connect_args": {
            **tls(settings),
            "connect_timeout": settings.database_connect_timeout,
            # PyMySQL reads the server's greeting with this one; `bound_waits` sets that of statements.
            "read_timeout": settings.database_connect_timeout,
            "write_timeout": seconds,
            "init_command": (
                f"SET SESSION lock_wait_timeout={lock_seconds}, innodb_lock_wait_timeout={lock_seconds}, "
                f"max_execution_time={int(seconds * 800)}"
            ),
        },
    }


def insert_row(engine: Engine, statement: str, values: tuple[object, ...]) -> int:
    """Insert one row and commit it, at the least cost: two round trips, and nothing of SQLAlchemy's but the pool.

    The connection is not asked before its use if it was good a moment ago and has no news since. Everywhere else each
    use begins with a question: the answer that does not come is what tells the breaker that MySQL is gone.

    Args:
        engine: whose pool.
        statement: with a `%s` for each value.
        values: of one row.

    Returns:
        The row's id.

    Raises:
        pymysql.err.IntegrityError: nothing was stored.
        sqlalchemy.exc.OperationalError: MySQL did not answer; whether the row was stored is not known.
    """
    token = _trusting.set(True)
    try:
        connection = engine.raw_connection()
    except (pymysql.err.OperationalError, pymysql.err.InterfaceError) as error:
        raise OperationalError(statement, None, error, hide_parameters=True) from None
    finally:
        _trusting.reset(token)
    try:
        cursor = connection.cursor()
        cursor.execute(statement, values)
        connection.commit()
        connection.info[CLEAN] = True
        return int(cursor.lastrowid)
    except (pymysql.err.OperationalError, pymysql.err.InterfaceError) as error:
        if _leaves(error):
            engine.pool._invalidate(connection, error)  # as SQLAlchemy itself drops every connection of the pool
        else:
            connection.invalidate(error)
        raise OperationalError(statement, None, error, hide_parameters=True) from None
    finally:
        connection.close()


def _check_before_use(connection: Connection[Any], record: ConnectionPoolEntry, _proxy: object) -> None:
    """Replace a connection that is dead, and all older ones, as SQLAlchemy's own pre-ping does."""
    used_at = record.info.get(_USED_AT)
    if used_at is None:
        return
    if _trusting.get() and time.monotonic() - used_at < _TRUSTED_SECONDS and _is_silent(connection):
        return
    try:
        connection.ping(reconnect=False)
    except pymysql.err.Error as error:
        raise InvalidatePoolError from error


def _clean_after_use(connection: Connection[Any], record: ConnectionPoolEntry, state: PoolResetState) -> None:
    """End the transaction, if one may be open."""
    record.info[_USED_AT] = time.monotonic()
    if not record.info.pop(CLEAN, False) and not state.transaction_was_reset:
        connection.rollback()


def _is_silent(connection: Connection[Any]) -> bool:
    """Nothing to read: a server that goes says so, and ends the connection."""
    link = connection._sock  # type: ignore[attr-defined]  # PyMySQL has no public way to its socket
    if link is None:
        return False
    watch = select.poll()
    watch.register(link, select.POLLIN)
    return not watch.poll(0)


def bound_waits(engine: Engine, settings: Settings) -> None:
    """Give statements their time-out and an idle connection's check a shorter one; leave servers that only read.

    PyMySQL has no public way to change a connection's time-out after it was made (1.2.4), hence the private attribute.
    """

    @event.listens_for(engine, "checkout")
    def _in_use(connection: Connection[Any], *_: object) -> None:
        connection._read_timeout = settings.database_read_timeout  # type: ignore[attr-defined]

    @event.listens_for(engine, "checkin")
    def _idle(connection: Connection[Any] | None, *_: object) -> None:
        if connection is not None:  # it is None when the connection was given up
            connection._read_timeout = min(_PING_SECONDS, settings.database_read_timeout)  # type: ignore[attr-defined]

    @event.listens_for(engine, "handle_error")
    def _leave(context: ExceptionContext) -> None:
        if _leaves(context.original_exception):
            context.is_disconnect = True  # drops every connection of the pool


def _leaves(error: BaseException) -> bool:
    return bool(error.args) and error.args[0] in _LEAVE
