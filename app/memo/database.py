"""How the service reaches MySQL: TLS, time-outs, pool, and which errors mean that a connection is of no more use."""

from __future__ import annotations

import ssl
from typing import Any

from pymysql.connections import Connection
from sqlalchemy import URL, Engine, ExceptionContext, event

from memo.breaker import GuardedPool
from memo.config import Settings

_POOL_WAIT_SECONDS = 2
_POOL_RECYCLE_SECONDS = 900
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
        "pool_pre_ping": True,
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
        arguments = getattr(context.original_exception, "args", ())
        if arguments and arguments[0] in _LEAVE:
            context.is_disconnect = True  # drops every connection of the pool
