"""Waiting by asking, with a bound."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

POLL_SECONDS = 0.5


def until(question: Callable[[], T | None], what: str, timeout: float, poll: float = POLL_SECONDS) -> T:
    """Ask until the answer is neither None nor False.

    Args:
        question: what is asked, every `poll` seconds.
        what: what is waited for, for the failure's text.
        timeout: seconds after which the wait has failed.
        poll: seconds between two questions.

    Returns:
        The answer.

    Raises:
        AssertionError: `timeout` is over.
    """
    deadline = time.monotonic() + timeout
    while True:
        answer = question()
        if answer is not None and answer is not False:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {timeout:g} s")
        time.sleep(poll)
