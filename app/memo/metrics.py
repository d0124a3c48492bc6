"""What the service measures of itself, for Prometheus: requests, failures, log-ins, caches and the connection pool.

Under uWSGI each worker keeps its numbers in memory-mapped files in the folder PROMETHEUS_MULTIPROC_DIR, and whichever
worker is asked adds them up. The files are named by uWSGI's number of the worker, not by its process: a worker that is
replaced goes on counting where the last one stopped, and there are never more files than workers.

Nothing here has an address: nginx hands the requests of one port, which no load balancer forwards, to `Endpoint` with a
parameter that no client can send.
"""

from __future__ import annotations

import importlib
import os
import platform
import re
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from flask import Flask
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, make_wsgi_app, values
from prometheus_client.metrics_core import InfoMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector
from sqlalchemy import QueuePool, event

from memo.models import db

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

MARK: Final = "MEMO_METRICS"
"""The uwsgi parameter by which nginx tells that a request came in on the metrics' own port. A client's headers arrive
as HTTP_…, so none of them can be this."""

NO_ROUTE: Final = "(none)"
"""The route of a request that none takes, and of any name that is no route of ours: addresses never become labels."""

LOGIN_OUTCOMES: Final = ("success", "state", "refused", "rejected", "unavailable")
DEPENDENCIES: Final = ("mysql", "redis", "naver")

_FOLDER: Final = "PROMETHEUS_MULTIPROC_DIR"
_METHODS: Final = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})
_OTHER_METHOD: Final = "(other)"
_RELEASE: Final = re.compile(r"[0-9a-f]{16}")
_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
"""From a cached list to the patience of nginx."""


def _worker() -> Callable[[], int]:
    """What tells this process from others that count at the same time."""
    try:
        uwsgi = importlib.import_module("uwsgi")
    except ModuleNotFoundError:
        return os.getpid
    worker_id: Callable[[], int] = uwsgi.worker_id
    return worker_id


if _FOLDER in os.environ:
    # prometheus-client reads this whenever a metric is made; by default the files carry the process' id.
    values.ValueClass = values.MultiProcessValue(_worker())  # type: ignore[no-untyped-call]  # it has no types

_registry = CollectorRegistry()
_duration = Histogram(
    "memo_request_duration_seconds",
    "Time from the start of a request in the application to its answer, by route and method.",
    ("method", "route"),
    buckets=_SECONDS,
    registry=_registry,
)
_responses = Counter(
    "memo_responses",
    "Answers, by route, method and class of status.",
    ("method", "route", "status"),
    registry=_registry,
)
_cache = Counter(
    "memo_cache_requests", "Questions to a cache, by what came of it.", ("cache", "result"), registry=_registry
)
_failures = Counter(
    "memo_dependency_failures",
    "Requests that found MySQL, Redis or Naver not answering.",
    ("dependency",),
    registry=_registry,
)
_logins = Counter("memo_logins", "Log-ins that came back from Naver.", ("outcome",), registry=_registry)


def _gauge(name: str, text: str) -> Gauge:
    return Gauge(name, text, multiprocess_mode="livesum", registry=_registry)


_pool_in_use = _gauge("memo_database_pool_in_use", "Connections to MySQL that requests hold right now, of all workers.")
_pool_open = _gauge("memo_database_pool_open", "Connections to MySQL that are open, of all workers.")
_pool_size = _gauge("memo_database_pool_size", "Connections that the workers keep open when they have been needed.")
_pool_overflow = _gauge("memo_database_pool_overflow", "Connections that are open beyond that size.")

_routes: set[str] = set()
_requests: dict[tuple[str, str, int], tuple[Callable[[float], None], Callable[[], None]]] = {}
_caches: dict[tuple[str, bool], Callable[[], None]] = {}


def init_app(app: Flask) -> None:
    """Learn an application's routes, watch its connection pool, and answer Prometheus before anything else does."""
    _routes.update(rule.rule for rule in app.url_map.iter_rules())
    for outcome in LOGIN_OUTCOMES:
        _logins.labels(outcome)
    for dependency in DEPENDENCIES:
        _failures.labels(dependency)
    with app.app_context():
        pool = db.engine.pool
    if isinstance(pool, QueuePool):
        _PoolWatch(pool.size()).attach(pool)
    app.wsgi_app = Endpoint(app.wsgi_app)  # type: ignore[method-assign]


def request_done(method: str, route: str, status: int, seconds: float) -> None:
    """Count a request that has been answered.

    Args:
        method: of HTTP.
        route: the rule that took it, such as `/memo/memo/<memo_id>`, never its address.
        status: of HTTP.
        seconds: how long it took.
    """
    key = (method, route, status // 100)
    found = _requests.get(key)
    if found is None:
        known_method = method if method in _METHODS else _OTHER_METHOD
        known_route = route if route in _routes else NO_ROUTE
        found = (
            _duration.labels(known_method, known_route).observe,
            _responses.labels(known_method, known_route, f"{status // 100}xx").inc,
        )
        if (known_method, known_route) == (method, route):
            _requests[key] = found  # only what is bounded is remembered
    observe, count = found
    observe(seconds)
    count()


def cache_asked(name: str, hit: bool) -> None:
    """Count a question to a cache.

    Args:
        name: of the cache: a word in the code, never part of a request.
        hit: whether it had the answer.
    """
    count = _caches.get((name, hit))
    if count is None:
        count = _caches[name, hit] = _cache.labels(name, "hit" if hit else "miss").inc
    count()


def dependency_failed(name: str) -> None:
    """Count a request that found a dependency not answering: one of DEPENDENCIES."""
    _failures.labels(name).inc()


def login_ended(outcome: str) -> None:
    """Count the end of a log-in: one of LOGIN_OUTCOMES."""
    _logins.labels(outcome).inc()


class _PoolWatch:
    """Keeps the gauges of one process' pool by its events.

    They are pushed, not read when Prometheus asks: the worker that is asked cannot look into the others.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._open = 0
        self._lock = threading.Lock()

    def attach(self, pool: QueuePool) -> None:
        # A worker that was killed may have left other numbers in its file.
        _pool_size.set(self._size)
        for gauge in (_pool_in_use, _pool_open, _pool_overflow):
            gauge.set(0)
        event.listen(pool, "checkout", lambda *_: _pool_in_use.inc())
        event.listen(pool, "checkin", lambda *_: _pool_in_use.dec())
        event.listen(pool, "connect", lambda *_: self._opened(1))
        event.listen(pool, "close", lambda *_: self._opened(-1))

    def _opened(self, change: int) -> None:
        with self._lock:
            self._open += change
            _pool_open.set(self._open)
            _pool_overflow.set(max(0, self._open - self._size))


class _Build(Collector):
    """Which code answers. Not kept in the workers' files, where a version that was replaced would stay."""

    def collect(self) -> Iterable[Metric]:
        """The labels, with the value 1."""
        # A web host keeps each release in a folder named by the hash of its source.
        folder = Path(__file__).resolve().parents[1].name
        release = folder if _RELEASE.fullmatch(folder) else "checkout"
        yield InfoMetricFamily(
            "memo_build",
            "The release and the Python that run.",
            {"release": release, "python": platform.python_version()},
        )


def _collectors() -> CollectorRegistry:
    registry = CollectorRegistry()
    if _FOLDER in os.environ:
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # it has no types
    else:
        registry.register(_registry)
    registry.register(_Build())
    return registry


class Endpoint:
    """Answers Prometheus, and hands everything else on.

    Args:
        app: what answers everything else.
    """

    def __init__(self, app: WSGIApplication) -> None:
        self._app = app
        self._metrics: Any = make_wsgi_app(_collectors())

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """One request (PEP 3333)."""
        app: WSGIApplication = self._metrics if MARK in environ else self._app
        return app(environ, start_response)
