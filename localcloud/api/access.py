"""Who calls: the account's administrator, or an instance with its role's temporary credentials."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def calling(access_key: str) -> Iterator[None]:
    """Make the caller known to the action that runs inside."""
    yield
