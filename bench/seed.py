"""Fills the benchmark's database, as the service's own user and with its own session store. Prints the sessions.

Readers have 20 memos each, of an hour to a month ago; writers none. A session is stored once for the service and once
for the contestants, whose cookie is looked up as it is.
"""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime, timedelta

from memo import create_app
from memo.models import Memo, User, db
from sqlalchemy import insert

USERS, MEMOS = 200, 20
WORDS = ["회의", "예산", "여행", "영수증", "책", "산책", "요리", "선물", "milk", "coffee", "call", "home", "train"]


def main() -> None:
    """Fill it."""
    app = create_app()
    chance = random.Random(20261124)  # noqa: S311 - the same memos in every run
    now = datetime.now(UTC)
    sessions: dict[str, list[str]] = {}
    with app.app_context():
        service = app.extensions["memo"]
        for kind, memos in (("reader", MEMOS), ("writer", 0)):
            users = [f"{kind}-{number:03}" for number in range(USERS)]
            db.session.execute(
                insert(User), [{"id": user, "name": "김민준", "created_at": now, "updated_at": now} for user in users]
            )
            rows = [
                {"user_id": user, "text": " ".join(chance.choices(WORDS, k=8)), "created_at": at, "updated_at": at}
                for user in users
                for at in sorted(now - timedelta(hours=chance.uniform(1, 24 * 30)) for _ in range(memos))
            ]
            if rows:
                db.session.execute(insert(Memo), rows)
            db.session.commit()
            sessions[kind] = [service.sessions.create(user, "bench") for user in users]
            for user, session in zip(users, sessions[kind], strict=True):
                service.redis.set(f"memo:plain-session:{session}", user, ex=12 * 3600)
    print(json.dumps(sessions))


if __name__ == "__main__":
    main()
