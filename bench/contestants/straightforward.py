"""The contract as most people would write it, and well: pooled ORM, sessions in Redis, Flask's own JSON and templates.

It lists a user's memos newest first, at most 100 at once, as the service does, and answers a client that has the list
already with 304. No rate limits, no cache, no search.
"""

from __future__ import annotations

import os
import ssl
from datetime import UTC, datetime
from pathlib import Path

from flask import Flask, Response, g, jsonify, redirect, render_template_string, request, url_for
from flask_sqlalchemy import SQLAlchemy
from redis import Redis
from sqlalchemy import URL, ForeignKey, String, Text, select
from sqlalchemy.dialects import mysql
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

MOST_CHARACTERS = 10_000
PAGE_SIZE = 100
IDLE_SECONDS = 12 * 3600
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Memo</title></head>
<body><h1>Hello, {{ name }}</h1>
<form method="post" action="{{ url_for('create_memo') }}"><textarea name="text"></textarea><button>Save</button></form>
<ol>{% for memo in memos %}<li id="memo-{{ memo.id }}"><p>{{ memo.text }}</p><time>{{ memo.created_at }}</time></li>
{% endfor %}</ol></body></html>
"""


class Base(DeclarativeBase):
    """The parent of the tables."""


db = SQLAlchemy(model_class=Base)


class User(db.Model):  # type: ignore[name-defined,misc]  # made at run time by Flask-SQLAlchemy
    """A person."""

    __tablename__ = "users"
    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    name: Mapped[str | None] = mapped_column(String(255))


class Memo(db.Model):  # type: ignore[name-defined,misc]  # as above
    """A memo."""

    __tablename__ = "memos"
    id: Mapped[int] = mapped_column(mysql.BIGINT(unsigned=True), primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id"), index=True)
    text: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(mysql.DATETIME(fsp=6))
    updated_at: Mapped[datetime] = mapped_column(mysql.DATETIME(fsp=6))

    def as_dict(self) -> dict[str, object]:
        """What clients see."""
        return {
            "id": self.id,
            "text": self.text,
            "created_at": self.created_at.isoformat() + "Z",
            "updated_at": self.updated_at.isoformat() + "Z",
        }


app = Flask(__name__)
app.config["SQLALCHEMY_DATABASE_URI"] = URL.create(
    "mysql+pymysql",
    username=os.environ["MEMO_DATABASE_USER"],
    password=Path(os.environ["MEMO_DATABASE_PASSWORD_FILE"]).read_text(encoding="utf-8").strip(),
    host=os.environ["MEMO_DATABASE_HOST"],
    database=os.environ["MEMO_DATABASE_NAME"],
    query={"charset": "utf8mb4"},
)
# The server wants TLS. One context for all connections: PyMySQL would spend 50 ms on one of its own for each.
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname = False
context.verify_mode = ssl.CERT_NONE
app.config["SQLALCHEMY_ENGINE_OPTIONS"] = {
    "pool_size": 5,
    "pool_pre_ping": True,
    "connect_args": {"ssl": context},
}
db.init_app(app)
redis = Redis(
    os.environ["MEMO_REDIS_HOST"],
    password=Path(os.environ["MEMO_REDIS_PASSWORD_FILE"]).read_text(encoding="utf-8").strip(),
    decode_responses=True,
)


@app.before_request
def find_user() -> None:
    """Who asks; asking keeps the session alive."""
    key = f"memo:plain-session:{request.cookies.get('userId', '')}"
    g.user_id = redis.get(key)
    if g.user_id:
        redis.expire(key, IDLE_SECONDS)


@app.get("/memo/")
def page() -> str:
    """The page."""
    user = db.session.get(User, g.user_id) if g.user_id else None
    if user is None:
        return "Log in"
    return render_template_string(PAGE, name=user.name, memos=newest(user.id))


@app.get("/memo/memo")
def list_memos() -> Response:
    """The caller's memos."""
    if not g.user_id:
        return redirect(url_for("page"))  # type: ignore[return-value]  # Flask's own response class at run time
    response = jsonify(memos=[memo.as_dict() for memo in newest(g.user_id)])
    response.add_etag()
    return response.make_conditional(request)  # type: ignore[return-value]  # as above


@app.post("/memo/memo")
def create_memo() -> Response | tuple[Response, int]:
    """A new memo."""
    if not g.user_id:
        return redirect(url_for("page"))  # type: ignore[return-value]  # as above
    body = request.get_json()
    text = body.get("text") if isinstance(body, dict) else None
    if not isinstance(text, str) or not text.strip() or len(text) > MOST_CHARACTERS:
        return jsonify(error="'text' is missing, blank or too long"), 400
    now = datetime.now(UTC).replace(tzinfo=None)
    memo = Memo(user_id=g.user_id, text=text, created_at=now, updated_at=now)
    db.session.add(memo)
    db.session.commit()
    return jsonify(memo.as_dict())


def newest(user_id: str) -> list[Memo]:
    """A user's newest memos."""
    query = select(Memo).where(Memo.user_id == user_id).order_by(Memo.id.desc()).limit(PAGE_SIZE)
    return list(db.session.scalars(query))
