"""Finding memos by their text, at a cost that does not grow with how many a user has.

MySQL's own FULLTEXT index is one for all users and sorts every match before it gives the first ten. Here a row says
that one user's memo holds one piece of text (`memo.grams`), and rows of one piece lie in the order of the list. A
search reads the rows of the query's rarest piece from the newest on, at most `_MOST_READ` of them, and compares the
texts. `bench/big_user.py` measures it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, cast

from flask_sqlalchemy.session import Session
from sqlalchemy import Table, delete, func, insert, literal, select, tuple_, union_all, update
from sqlalchemy.orm import scoped_session

from memo import grams
from memo.models import Memo, MemoGram

MOST_CHARACTERS = 100
"""The longest query."""

_READ_AT_ONCE = 500
_MOST_READ = 2000
"""Rows of the rarest piece that one search reads; it says where the following one goes on."""

_MOST_PIECES = 24
"""Pieces of a query whose rows are counted; further ones would not make a rare one much rarer."""

_MOST_COMPARED = 5
"""Further pieces that must also be there before a text is read."""

_RARE = (50, 1000)
"""Counting stops here: first at what a page holds, and only if everything is more common, later."""

_ROWS_AT_ONCE = 1000
_TABLE = cast(Table, MemoGram.__table__)


class InvalidQuery(ValueError):  # noqa: N818 - it is no fault of the program
    """A query that nothing can be looked up by: `reason` is `too-short` or `too-long`."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class SearchIndex:
    """The pieces of all memos, in MySQL. Nothing here commits but `catch_up`: a memo and its pieces change together.

    Args:
        session: the database session of the current request.
    """

    def __init__(self, session: scoped_session[Session]) -> None:
        self._session = session

    def add(self, user_id: str, texts: Iterable[tuple[int, str]]) -> None:
        """Make memos of one user findable: pairs of id and text. What is there already stays."""
        rows = sorted((gram, memo_id) for memo_id, text in texts for gram in grams.numbers(user_id, text))
        self._insert(rows)

    def remove(self, user_id: str, texts: Iterable[tuple[int, str]]) -> None:
        """Forget memos of one user: pairs of id and text."""
        rows = sorted((gram, memo_id) for memo_id, text in texts for gram in grams.numbers(user_id, text))
        self._delete(rows)

    def replace(self, user_id: str, memo_id: int, before: str, after: str) -> None:
        """A memo has another text now."""
        old, new = grams.numbers(user_id, before), grams.numbers(user_id, after)
        self._delete(sorted((gram, memo_id) for gram in old - new))
        self._insert(sorted((gram, memo_id) for gram in new - old))

    def catch_up(self, user_id: str, *, memos: int, seconds: float) -> bool:
        """Index memos that another version of the service wrote, or that were imported; the newest first.

        Args:
            user_id: whose.
            memos: at most so many in one transaction.
            seconds: begin no other transaction after so long.

        Returns:
            Whether all are indexed now.
        """
        finish = time.monotonic() + seconds
        while True:
            query = (
                select(Memo.id, Memo.text, Memo.updated_at)
                .with_hint(Memo, "FORCE INDEX (ix_memos_user_id_unindexed)", "mysql")
                .where(Memo.user_id == user_id, Memo.unindexed == literal(1))
                .order_by(Memo.id.desc())
                .limit(memos)
            )
            # Nobody changes them meanwhile. Of two searches at once the second waits, or it would miss what the first
            # is about to make findable.
            rows = self._session.execute(query.with_for_update()).all()
            if rows:
                self.add(user_id, ((row.id, row.text) for row in rows))
                self._session.execute(
                    update(Memo).where(Memo.id.in_([row.id for row in rows])).values(indexed_at=Memo.updated_at)
                )
            self._session.commit()
            if len(rows) < memos:
                return True
            if time.monotonic() >= finish:
                return False

    def candidates(self, user_id: str, query: str, before: int | None) -> Iterator[tuple[list[int], int | None]]:
        """The memos that may match, newest first, in parts.

        Args:
            user_id: whose.
            query: what is looked for.
            before: only memos with a smaller id.

        Yields:
            Ids, and the id below which there may be more, None after the last. It ends after `_MOST_READ` rows.

        Raises:
            InvalidQuery: nothing was looked up.
        """
        pieces = wanted(query)
        rarest, *others = self._by_rarity([grams.number(user_id, piece) for piece in pieces], before)
        for _ in range(_MOST_READ // _READ_AT_ONCE):
            rows = select(_TABLE.c.memo_id).where(_TABLE.c.gram == rarest)
            if before is not None:
                rows = rows.where(_TABLE.c.memo_id < before)
            ids = list(self._session.scalars(rows.order_by(_TABLE.c.memo_id.desc()).limit(_READ_AT_ONCE)))
            before = ids[-1] if len(ids) == _READ_AT_ONCE else None
            for other in others[:_MOST_COMPARED]:
                if not ids:
                    break
                also = select(_TABLE.c.memo_id).where(_TABLE.c.gram == other, _TABLE.c.memo_id.in_(ids))
                ids = sorted(self._session.scalars(also), reverse=True)
            yield ids, before
            if before is None:
                return

    def _by_rarity(self, numbers: list[int], before: int | None) -> list[int]:
        """A query's pieces, the rarest first, as far as counting goes."""
        numbers = sorted(numbers)[:_MOST_PIECES]
        counts: dict[int, int] = {}
        for most in _RARE:
            counts = self._counts(numbers, before, most)
            if len(numbers) == 1 or min(counts.values()) < most:
                break
        return sorted(numbers, key=lambda number: counts[number])

    def _counts(self, numbers: list[int], before: int | None, most: int) -> dict[int, int]:
        counts = []
        for number in numbers:
            rows = select(literal(1).label("one")).where(_TABLE.c.gram == number)
            if before is not None:
                rows = rows.where(_TABLE.c.memo_id < before)
            limited = rows.limit(most).subquery()
            counts.append(select(literal(number).label("gram"), func.count().label("rows")).select_from(limited))
        return {int(row.gram): int(row.rows) for row in self._session.execute(union_all(*counts))}

    def _insert(self, rows: Sequence[tuple[int, int]]) -> None:
        # In the table's order, as every writer: two at once then cannot wait for each other in a circle.
        for part in _parts(rows):
            self._session.execute(
                insert(_TABLE).prefix_with("IGNORE"), [{"gram": gram, "memo_id": memo_id} for gram, memo_id in part]
            )

    def _delete(self, rows: Sequence[tuple[int, int]]) -> None:
        for part in _parts(rows):
            self._session.execute(delete(_TABLE).where(tuple_(_TABLE.c.gram, _TABLE.c.memo_id).in_(part)))


def wanted(query: str) -> set[str]:
    """The pieces to look for.

    Raises:
        InvalidQuery: there are none, or the query is too long.
    """
    if len(query) > MOST_CHARACTERS:
        raise InvalidQuery("too-long")
    pieces = grams.wanted(query)
    if not pieces:
        raise InvalidQuery("too-short")
    return pieces


def _parts(rows: Sequence[tuple[int, int]]) -> Iterator[list[Any]]:
    remaining = iter(rows)
    while part := list(islice(remaining, _ROWS_AT_ONCE)):
        yield part
