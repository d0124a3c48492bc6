"""The application as a real HTTP server in processes of its own, for checkers that know nothing of Python."""

from __future__ import annotations

import multiprocessing
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import requests
from memo import create_app
from memo.config import Settings
from werkzeug.serving import ThreadedWSGIServer, WSGIRequestHandler

START_SECONDS = 60
THREADS = 4
"""As `memo_app_threads` on a web host."""


class _Handler(WSGIRequestHandler):
    """One that says nothing."""

    def log(self, type: str, message: str, *args: object) -> None:  # noqa: A002 - the parent's signature
        """Nothing: the checkers tell what they asked."""


class _Server(ThreadedWSGIServer):
    """As uWSGI on a web host: a few threads that last, each request on a connection of its own."""

    _workers = ThreadPoolExecutor(THREADS)

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - the parent's signature
        """Leave a request to a thread."""
        self._workers.submit(self.process_request_thread, request, client_address)


def _serve(listener: socket.socket, settings: Settings) -> None:
    _Server("127.0.0.1", 0, create_app(settings), _Handler, fd=listener.fileno()).serve_forever()


@contextmanager
def served(settings: Settings) -> Iterator[str]:
    """Serve an application on a free port of loopback.

    Args:
        settings: the application's.

    Yields:
        The page's address, with the slash at the end.
    """
    with socket.create_server(("127.0.0.1", 0), backlog=256) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}{settings.url_prefix}/"
        # Not forked: the test's own threads and connections do not belong into the server.
        process = multiprocessing.get_context("spawn").Process(target=_serve, args=(listener, settings), daemon=True)
        process.start()
        try:
            # The connection waits in the listener's queue until the process takes it.
            requests.get(f"{url}alive", timeout=START_SECONDS).raise_for_status()
            yield url
        finally:
            process.terminate()
            process.join()
