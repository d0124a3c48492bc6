"""Fails fast while a dependency is down, so that waiting requests do not use up every worker.

Without it, a database host that vanished would hold each request for seconds; the load balancer's probes would wait
behind them, and the group would replace web hosts that are well. No request is the one that tries whether it is back:
a thread does, so that nobody waits during an outage, and an idle process learns of its end as a busy one does.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pymysql
import redis
from sqlalchemy import QueuePool
from sqlalchemy.pool import PoolProxiedConnection

PAUSE_SECONDS = 0.5
"""Between two attempts to reach a dependency that is down."""

_REDIS_GONE = (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError)
_OUTLIVED = (*_REDIS_GONE, redis.exceptions.ReadOnlyError)
"""What a connection answers that was kept over a restart or a failover."""


_log = logging.getLogger(__name__)


class DependencyDown(Exception):  # noqa: N818 - a state, not an error of the program
    """A dependency did not answer a moment ago, so it was not asked again; `name` is `mysql` or `redis`."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(name)


class Breaker:
    """Lets requests through to a dependency until one fails, and again when an attempt in the background was answered.

    Args:
        name: of the dependency.
        failures: what it raises when it does not answer.
        answers: asks it, and tells whether it answered; run in a thread of its own while it is down.
        pause: seconds between two attempts.
    """

    def __init__(
        self,
        name: str,
        failures: tuple[type[Exception], ...],
        answers: Callable[[], bool],
        pause: float = PAUSE_SECONDS,
    ) -> None:
        self._name = name
        self._failures = failures
        self._answers = answers
        self._pause = pause
        self._lock = threading.Lock()
        self._open = False
        self._recoveries = 0

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Around each use.

        Raises:
            DependencyDown: it did not answer, and has not been reached since.
        """
        if self._open:
            raise DependencyDown(self._name)
        recoveries = self._recoveries
        try:
            yield
        except self._failures:
            self._trip(recoveries)
            raise

    def _trip(self, recoveries: int) -> None:
        with self._lock:
            # A use that began before the last recovery failed because of the outage that is over.
            if self._open or recoveries != self._recoveries:
                return
            self._open = True
        _log.error("dependency down", extra={"dependency": self._name})
        threading.Thread(target=self._wait_for_it, name=f"{self._name}-recovery", daemon=True).start()

    def _wait_for_it(self) -> None:
        started = time.monotonic()
        try:
            time.sleep(self._pause)
            while not self._answers():
                time.sleep(self._pause)
        finally:
            # Also when the attempt itself broke: the next request then finds out.
            with self._lock:
                self._open = False
                self._recoveries += 1
        _log.warning(
            "dependency answers again",
            extra={"dependency": self._name, "ms": round((time.monotonic() - started) * 1000)},
        )


class GuardedPool(QueuePool):
    """SQLAlchemy's pool; getting a connection is what takes long when the server is gone."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - the parent's arguments
        super().__init__(*args, **kwargs)
        self._breaker = Breaker("mysql", (pymysql.err.OperationalError,), self._answers)

    def connect(self) -> PoolProxiedConnection:
        """A live connection."""
        with self._breaker.guard():
            return super().connect()

    def _answers(self) -> bool:
        try:
            super().connect().close()
        except pymysql.err.OperationalError:
            return False
        return True


class GuardedRedis(redis.Redis):
    """redis-py's client; every command connects when it must.

    A connection that was kept over a restart or a failover fails, or refuses to write, and so may all others in the
    pool: before that counts as an outage they are dropped, and the command is sent once more over a new one.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - the parent's arguments
        super().__init__(*args, **kwargs)
        self._idle: deque[redis.connection.ConnectionInterface] = deque()
        self._breaker = Breaker("redis", _REDIS_GONE, self._answers)

    def ask(self, *args: str | int) -> Any:  # noqa: ANN401 - whatever the command answers
        """Run one command over a connection of its own kind; the answer's texts stay bytes.

        For the hot requests: redis-py's pool, its look at the socket before each use and its own measuring cost more
        than the command.
        """
        with self._breaker.guard():
            try:
                return self._ask(args)
            except _OUTLIVED:
                self._drop_idle()
                return self._ask(args)

    def execute_command(self, *args: Any, **options: Any) -> Any:  # noqa: ANN401 - the parent's signature
        """Run one command."""
        with self._breaker.guard():
            try:
                return super().execute_command(*args, **options)  # type: ignore[no-untyped-call]  # redis-py has no types
            except _OUTLIVED:
                self._drop_idle()
                return super().execute_command(*args, **options)  # type: ignore[no-untyped-call]  # redis-py has no types

    def _ask(self, args: tuple[str | int, ...]) -> object:
        try:
            connection = self._idle.pop()
        except IndexError:
            # Not one that the pool counts: those that break do not come back to it, and a hundred would be all.
            pool = self.connection_pool
            connection = pool.connection_class(**pool.connection_kwargs)
        try:
            packed = connection.pack_command(*args)  # type: ignore[no-untyped-call]  # redis-py has no types
            connection.send_packed_command(packed, check_health=False)  # type: ignore[no-untyped-call]  # as above
            answer: object = connection.read_response(disable_decoding=True)
        except redis.exceptions.ResponseError:
            self._idle.append(connection)
            raise
        except _REDIS_GONE:
            connection.disconnect()  # type: ignore[no-untyped-call]  # as above
            raise
        self._idle.append(connection)
        return answer

    def _drop_idle(self) -> None:
        self.connection_pool.disconnect(inuse_connections=False)
        while self._idle:
            try:
                connection = self._idle.pop()
            except IndexError:  # another thread was faster
                return
            connection.disconnect()  # type: ignore[no-untyped-call]  # redis-py has no types

    def _answers(self) -> bool:
        try:
            super().execute_command("PING")  # type: ignore[no-untyped-call]  # redis-py has no types
        except _REDIS_GONE:
            return False
        except redis.exceptions.ResponseError:
            return True  # it refuses, and will say why to the next request
        return True
