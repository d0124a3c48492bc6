"""Slow work on instances, one piece at a time per instance, off the reconcile loop's thread."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

logger = logging.getLogger(__name__)

Failure = Callable[[str], None]
"""Told the text of the error when a job fails."""


class Jobs:
    """A small pool of threads with one lane per instance.

    Args:
        errors: what a job may raise and is reported; anything else is logged with its traceback and reported too.
        workers: how many jobs run at once.
        ended: called in the job's thread when its lane is free again.
    """

    def __init__(
        self, errors: tuple[type[Exception], ...], workers: int = 4, ended: Callable[[], None] = lambda: None
    ) -> None:
        self._errors = errors
        self._ended = ended
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="job")
        self._changed = threading.Condition()
        self._busy: set[str] = set()

    @property
    def busy(self) -> frozenset[str]:
        """The instances something is being done to."""
        with self._changed:
            return frozenset(self._busy)

    def submit(self, instance_id: str, work: Callable[[], None], failed: Failure) -> bool:
        """Begin a job unless the instance is busy.

        Args:
            instance_id: the lane.
            work: what to do.
            failed: called in the job's thread when it raises.

        Returns:
            Whether it was taken.
        """
        with self._changed:
            if instance_id in self._busy:
                return False
            self._busy.add(instance_id)
        self._pool.submit(self._run, instance_id, work, failed)
        return True

    @contextmanager
    def exclusive(self, instance_id: str, timeout: float = 120) -> Iterator[None]:
        """Hold an instance's lane in the caller's own thread, waiting for the job that has it.

        Args:
            instance_id: the lane.
            timeout: seconds to wait.

        Raises:
            TimeoutError: it was not free in time.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: instance_id not in self._busy, timeout):
                raise TimeoutError(f"{instance_id} was busy for {timeout:.0f} s")
            self._busy.add(instance_id)
        try:
            yield
        finally:
            self._leave(instance_id)

    def stop(self) -> None:
        """Drop what has not begun and wait for the rest."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _run(self, instance_id: str, work: Callable[[], None], failed: Failure) -> None:
        try:
            work()
        except self._errors as error:
            logger.error("%s: %s", instance_id, error)
            failed(str(error))
        except Exception as error:  # a bug must end neither the lane nor the pool unseen
            logger.exception("%s: unexpected", instance_id)
            failed(f"{type(error).__name__}: {error}")
        finally:
            self._leave(instance_id)
            self._ended()

    def _leave(self, instance_id: str) -> None:
        with self._changed:
            self._busy.discard(instance_id)
            self._changed.notify_all()
