"""Fails fast while a dependency is down, so that waiting requests do not use up every worker.

Without it, a database host that vanished would hold each request for seconds; the load balancer's probes would wait
behind them, and the group would replace web hosts that are well.
"""

from __future__ import annotations

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

PAUSE_SECONDS = 1.0


class DependencyDown(Exception):  # noqa: N818 - a state, not an error of the program
    """A dependency did not answer a moment ago, so it was not asked again; `name` is `mysql` or `redis`."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(name)


class Breaker:
    """Lets requests through to a dependency until one fails, then one at a time after each pause.

    Args:
        name: of the dependency.
        failures: what it raises when it does not answer.
        pause: seconds.
        clock: a monotonic one.
    """

    def __init__(
        self,
        name: str,
        failures: tuple[type[Exception], ...],
        pause: float = PAUSE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._failures = failures
        self._pause = pause
        self._clock = clock
        self._lock = threading.Lock()
        self._open_until: float | None = None
        self._asking = False

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Around each use.

        Raises:
            DependencyDown: it is not the time to ask.
        """
        with self._lock:
            probe = self._open_until is not None
            if self._open_until is not None:
                if self._asking or self._clock() < self._open_until:
                    raise DependencyDown(self._name)
                self._asking = True
        failed = False
        try:
            yield
        except self._failures:
            failed = True
            raise
        finally:
            with self._lock:
                if failed:
                    self._open_until = self._clock() + self._pause
                elif probe:
                    self._open_until = None
                if probe:
                    self._asking = False


class GuardedPool(QueuePool):
    """SQLAlchemy's pool; getting a connection is what takes long when the server is gone."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - the parent's arguments
        super().__init__(*args, **kwargs)
        self._breaker = Breaker("mysql", (pymysql.err.OperationalError,))

    def connect(self) -> PoolProxiedConnection:
        """A live connection."""
        with self._breaker.guard():
            return super().connect()


class GuardedRedis(redis.Redis):
    """redis-py's client; every command connects when it must."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - the parent's arguments
        super().__init__(*args, **kwargs)
        self._idle: deque[redis.connection.ConnectionInterface] = deque()
        self._breaker = Breaker("redis", (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError))

    def ask(self, *args: str | int) -> Any:  # noqa: ANN401 - whatever the command answers
        """Run one command over a connection of its own kind; the answer's texts stay bytes.

        For the hot requests: redis-py's pool, its look at the socket before each use and its own measuring cost more
        than the command. A connection that broke is replaced once, as `connect` has it for all others.
        """
        with self._breaker.guard():
            try:
                connection = self._idle.pop()
            except IndexError:
                connection = self._new_connection()
                answer = _ask(connection, args)
            else:
                try:
                    answer = _ask(connection, args)
                except (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError):
                    connection.disconnect()  # type: ignore[no-untyped-call]  # redis-py has no types
                    connection = self._new_connection()
                    answer = _ask(connection, args)
            self._idle.append(connection)
        if isinstance(answer, redis.exceptions.ResponseError):
            raise answer
        return answer

    def _new_connection(self) -> redis.connection.ConnectionInterface:
        # Not one that the pool counts: those that break do not come back to it, and a hundred would be all there are.
        pool = self.connection_pool
        connection: redis.connection.ConnectionInterface = pool.connection_class(**pool.connection_kwargs)
        return connection

    def execute_command(self, *args: Any, **options: Any) -> Any:  # noqa: ANN401 - the parent's signature
        """Run one command."""
        with self._breaker.guard():
            return super().execute_command(*args, **options)  # type: ignore[no-untyped-call]  # redis-py has no types


def _ask(connection: redis.connection.ConnectionInterface, args: tuple[str | int, ...]) -> object:
    """One command's answer, or the error that the server gave as its answer."""
    packed = connection.pack_command(*args)  # type: ignore[no-untyped-call]  # as above
    connection.send_packed_command(packed, check_health=False)  # type: ignore[no-untyped-call]  # as above
    try:
        return connection.read_response(disable_decoding=True)
    except redis.exceptions.ResponseError as error:
        return error
