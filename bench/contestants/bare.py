"""The contract's list and new memo with nothing around them: plain WSGI, one MySQL connection a thread, no framework.

What it leaves out besides: security headers, ETags, the check for other sites' requests, limits, the page, the log.
"""

from __future__ import annotations

import os
import ssl
import threading
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import pymysql
from redis import Redis

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

_context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
_context.check_hostname = False
_context.verify_mode = ssl.CERT_NONE
_mine = threading.local()
_redis = Redis(
    os.environ["MEMO_REDIS_HOST"],
    password=Path(os.environ["MEMO_REDIS_PASSWORD_FILE"]).read_text(encoding="utf-8").strip(),
    decode_responses=True,
)


def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Answer a request."""
    token = environ.get("HTTP_COOKIE", "").partition("userId=")[2].partition(";")[0]
    user_id = _redis.getex(f"memo:plain-session:{token}", ex=12 * 3600)
    if user_id is None:
        start_response("302 Found", [("Location", "/memo/")])
        return [b""]
    if environ["REQUEST_METHOD"] == "POST":
        body = _create(user_id, orjson.loads(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))["text"])
    else:
        body = _list(user_id)
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]


def _list(user_id: object) -> bytes:
    cursor = _cursor()
    cursor.execute(
        "SELECT id, text, created_at, updated_at FROM memos WHERE user_id = %s ORDER BY id DESC LIMIT 100", [user_id]
    )
    names = ("id", "text", "created_at", "updated_at")
    return orjson.dumps({"memos": [dict(zip(names, row, strict=True)) for row in cursor]})


def _create(user_id: object, text: str) -> bytes:
    cursor, now = _cursor(), datetime.now(UTC).replace(tzinfo=None)
    cursor.execute(
        "INSERT INTO memos (user_id, text, created_at, updated_at) VALUES (%s, %s, %s, %s)", [user_id, text, now, now]
    )
    return orjson.dumps({"id": cursor.lastrowid, "text": text, "created_at": now, "updated_at": now})


def _cursor() -> Any:  # noqa: ANN401 - PyMySQL's
    if not hasattr(_mine, "connection"):
        _mine.connection = pymysql.connect(
            host=os.environ["MEMO_DATABASE_HOST"],
            user=os.environ["MEMO_DATABASE_USER"],
            password=Path(os.environ["MEMO_DATABASE_PASSWORD_FILE"]).read_text(encoding="utf-8").strip(),
            database=os.environ["MEMO_DATABASE_NAME"],
            charset="utf8mb4",
            ssl=_context,
            autocommit=True,
        )
    return _mine.connection.cursor()
