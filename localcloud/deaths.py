"""Tells of an instance's death when it happens, not at the next look: the kernel's own word, by pidfd."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Watched:
    instance_id: str
    process: int


class DeathWatch:
    """Watches the first process of every instance that runs.

    A file descriptor of pidfd_open(2) can be read from when its process has ended, and a process that is the first of
    its PID namespace ends last of all in it (pid_namespaces(7)): so the whole instance is dead by then.

    Args:
        died: told an instance's id as soon as it is dead, in the watch's own thread or in that of `keep`.
        lives: told the id of one that runs from now on, in the thread of `keep`. Of one instance both are told in the
            order in which it happened, so neither may call the watch.
    """

    def __init__(self, died: Callable[[str], None], lives: Callable[[str], None]) -> None:
        self._died = died
        self._lives = lives
        self._lock = threading.Lock()
        self._watched: dict[int, _Watched] = {}
        self._dead: dict[str, int] = {}
        self._thread: threading.Thread | None = None
        self._stop: int | None = None
        self._poll: select.epoll | None = None

    def start(self) -> None:
        """Begin."""
        self._poll = select.epoll()
        self._stop = os.eventfd(0, os.EFD_CLOEXEC)
        self._poll.register(self._stop, select.EPOLLIN)
        self._thread = threading.Thread(target=self._run, args=(self._poll, self._stop), name="deaths", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End, and give every file descriptor back."""
        if self._thread is None or self._poll is None or self._stop is None:
            return
        os.eventfd_write(self._stop, 1)
        self._thread.join()
        with self._lock:
            for descriptor in list(self._watched):
                self._leave(descriptor)
            self._poll.close()
            os.close(self._stop)
            self._thread = self._poll = self._stop = None

    def keep(self, processes: Mapping[str, int]) -> None:
        """Watch these and no others.

        Args:
            processes: instance id to process id, as they were just seen running. One that is known to be dead under
                this process id was seen before it died, and stays dead.
        """
        with self._lock:
            if self._poll is None:
                return
            for descriptor, one in list(self._watched.items()):
                if processes.get(one.instance_id) != one.process:
                    self._leave(descriptor)
            for gone in self._dead.keys() - processes.keys():
                del self._dead[gone]
            known = set(self._watched.values())
            for instance_id, process in processes.items():
                if _Watched(instance_id, process) in known or self._dead.get(instance_id) == process:
                    continue
                try:
                    descriptor = os.pidfd_open(process)
                except ProcessLookupError:
                    self._dead[instance_id] = process
                    self._tell(instance_id)
                    continue
                self._dead.pop(instance_id, None)
                self._watched[descriptor] = _Watched(instance_id, process)
                self._poll.register(descriptor, select.EPOLLIN)
                self._lives(instance_id)

    def _run(self, poll: select.epoll, stop: int) -> None:
        while True:
            for descriptor, _ in poll.poll():
                if descriptor == stop:
                    return
                with self._lock:
                    one = self._watched.get(descriptor)
                    # The number may have been given to another process' descriptor since the kernel told of it.
                    if one is None or not _can_be_read(descriptor):
                        continue
                    self._leave(descriptor)
                    self._dead[one.instance_id] = one.process
                    self._tell(one.instance_id)

    def _tell(self, instance_id: str) -> None:
        """Tell of a death. Called with the lock."""
        try:
            self._died(instance_id)
        except Exception:  # one that cannot be told must not leave the others unwatched; the next look sees it too
            logger.exception("%s died, and that could not be acted upon at once", instance_id)

    def _leave(self, descriptor: int) -> None:
        """Watch a process no longer. Called with the lock."""
        del self._watched[descriptor]
        if self._poll is not None:
            with contextlib.suppress(FileNotFoundError):
                self._poll.unregister(descriptor)
        os.close(descriptor)


def _can_be_read(descriptor: int) -> bool:
    once = select.poll()
    once.register(descriptor, select.POLLIN)
    return bool(once.poll(0))
