"""Ask MySQL and Redis what their users ask, from another host; `read` finds again what `write` wrote.

`write` also checks what is refused. The settings come as JSON on standard input: no password is on a command line.
"""

from __future__ import annotations

import json
import ssl
import sys
from typing import Any

import pymysql
import redis

TEXT = "안녕하세요 👋"
_ACCESS_DENIED = (1044, 1045, 1142)


def connect(settings: dict[str, str], user: str, password: str, **options: Any) -> pymysql.Connection[Any]:  # noqa: ANN401 - PyMySQL's own
    """A connection as the application makes it: TLS, without a certificate to check."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return pymysql.connect(
        host=settings["host"],
        user=user,
        password=password,
        database="memo",
        charset="utf8mb4",
        connect_timeout=5,
        autocommit=True,
        **({"ssl": context} | options),
    )


def query(connection: pymysql.Connection[Any], statement: str, *values: object) -> Any:  # noqa: ANN401 - rows of any shape
    """All rows of one statement."""
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return cursor.fetchall()


def refused(settings: dict[str, str], user: str, password: str, statement: str, **options: Any) -> None:  # noqa: ANN401 - as in connect
    """Check that MySQL refuses a statement, or the connection for it."""
    try:
        query(connect(settings, user, password, **options), statement)
    except pymysql.err.OperationalError as error:
        if error.args[0] in _ACCESS_DENIED:
            return
        raise
    raise SystemExit(f"{user} was allowed to {statement}")


def write(settings: dict[str, str]) -> None:
    """Write as the users do, and check what they may not do."""
    owner = connect(settings, "memo_owner", settings["owner_password"])
    query(owner, "DROP TABLE IF EXISTS molecule_kept")
    query(owner, "CREATE TABLE molecule_kept (text VARCHAR(50))")
    app = connect(settings, "memo", settings["app_password"])
    query(app, "INSERT INTO molecule_kept VALUES (%s)", TEXT)
    refused(settings, "memo", settings["app_password"], "CREATE TABLE molecule_more (id INT)")
    refused(settings, "memo", settings["app_password"], "SELECT * FROM mysql.user")
    refused(settings, "memo_owner", settings["owner_password"], "SELECT * FROM mysql.user")
    refused(settings, "root", settings["root_password"], "SELECT 1")
    refused(settings, "memo", settings["app_password"], "SELECT 1", ssl=None, ssl_disabled=True)

    store = redis.Redis(settings["host"], password=settings["redis_password"], socket_timeout=5)
    store.set("memo:molecule", TEXT)
    for command in (["CONFIG", "GET", "*"], ["FLUSHALL"], ["SET", "other", "1"]):
        try:
            store.execute_command(*command)
        except redis.exceptions.NoPermissionError:
            continue
        raise SystemExit(f"Redis allowed {command}")
    try:
        redis.Redis(settings["host"], socket_timeout=5).ping()
    except redis.exceptions.AuthenticationError:
        return
    raise SystemExit("Redis answers without a password")


def read(settings: dict[str, str]) -> None:
    """Find what was written."""
    rows = query(connect(settings, "memo", settings["app_password"]), "SELECT text FROM molecule_kept")
    if rows != ((TEXT,),):
        raise SystemExit(f"MySQL has {rows!r}")
    value = redis.Redis(settings["host"], password=settings["redis_password"], socket_timeout=5).get("memo:molecule")
    if value != TEXT.encode():
        raise SystemExit(f"Redis has {value!r}")


if __name__ == "__main__":
    {"write": write, "read": read}[sys.argv[1]](json.load(sys.stdin))
