"""How the service reaches MySQL: TLS, time-outs, pool."""

from __future__ import annotations

import ssl
from typing import Any

from sqlalchemy import URL

from memo.breaker import GuardedPool
from memo.config import Settings

_POOL_WAIT_SECONDS = 2
_POOL_RECYCLE_SECONDS = 900


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
    """SQLAlchemy's engine arguments for serving requests: every wait is bounded, a dead connection is replaced."""
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
            "read_timeout": settings.database_read_timeout,
            "write_timeout": settings.database_read_timeout,
        },
    }
