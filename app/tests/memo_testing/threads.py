"""Several threads at once, whose errors are not lost."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Answer = TypeVar("Answer")


def at_once(number: int, ask: Callable[[int], Answer]) -> list[Answer]:
    """Run a function in several threads, which begin together.

    Args:
        number: of the threads.
        ask: told which of them it is, from 0 on.

    Returns:
        What they answered, in their order. However long they take: an assertion that fails in one fails here.
    """
    together = threading.Barrier(number)

    def begin(index: int) -> Answer:
        together.wait()
        return ask(index)

    with ThreadPoolExecutor(number) as threads:
        return list(threads.map(begin, range(number)))
