"""The application as a real HTTP server in processes of its own, for checkers that know nothing of Python."""

from __future__ import annotations

import multiprocessing
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import requests
from memo import create_app
from memo.config import Settings
from werkzeug.serving import WSGIRequestHandler, make_server

START_SECONDS = 30


class _Handler(WSGIRequestHandler):
    """HTTP/1.1: connections are kept, as nginx keeps them."""

    protocol_version = "HTTP/1.1"

    def log(self, type: str, message: str, *args: object) -> None:  # noqa: A002 - the parent's signature
        """Nothing: the checkers tell what they asked."""


def _serve(listener: socket.socket, settings: Settings) -> None:
    make_server(
        "127.0.0.1", 0, create_app(settings), threaded=True, request_handler=_Handler, fd=listener.fileno()
    ).serve_forever()


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
