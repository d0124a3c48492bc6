"""Text cut into the short pieces by which memos are found, for Korean as well as for Latin letters and digits.

Korean has no fixed word ends (회의, 회의는, 팀회의), so words will not do: every two neighbouring characters are a
piece, and every one, for words of one syllable (책). Two letters or digits would be in half of all memos, so those are
cut into pieces of two, three and five, and a query uses the longest that fit.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata

_RUN = re.compile(r"([0-9a-z]+)|([^\x00-\x7f\s]+)")
_LATIN_SIZES = (2, 3, 5)
_OTHER_SIZES = (1, 2)


def normalize(text: str) -> str:
    """Text as it is compared: without regard to case and to Unicode's spellings (full-width ＡＢＣ)."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


def pieces(text: str) -> set[str]:
    """Every piece by which a text can be found."""
    found: set[str] = set()
    for run, sizes in _runs(normalize(text)):
        for size in sizes:
            found.update(run[start : start + size] for start in range(len(run) - size + 1))
    return found


def wanted(query: str) -> set[str]:
    """The pieces that every text with a query in it has: the longest ones; empty when there is none to look for."""
    found: set[str] = set()
    for run, sizes in _runs(normalize(query)):
        fitting = [size for size in sizes if size <= len(run)]
        if fitting:
            size = max(fitting)
            found.update(run[start : start + size] for start in range(len(run) - size + 1))
    return found


def number(user_id: str, piece: str) -> int:
    """One user's piece as the 64 bits that are stored: rows of 16 bytes, one user's memos with it side by side.

    Two pieces may share a number by chance; what is found is compared with the query in any case.
    """
    digest = hashlib.blake2b(f"{user_id}\0{piece}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big")


def numbers(user_id: str, text: str) -> set[int]:
    """`number` of all `pieces` of a text."""
    return {number(user_id, piece) for piece in pieces(text)}


def matches(text: str, query: str) -> bool:
    """Whether every word of a query is somewhere in a text."""
    normal = normalize(text)
    return all(word in normal for word in normalize(query).split())


def _runs(text: str) -> list[tuple[str, tuple[int, ...]]]:
    return [(run[0], _LATIN_SIZES if run[1] else _OTHER_SIZES) for run in _RUN.finditer(text)]
