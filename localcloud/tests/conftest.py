"""Fixtures for localcloud's tests."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from localcloud.tests.api_cloud import ApiCloud


@pytest.fixture(scope="session")
def api_port() -> Iterator[int]:
    """A port, the same for all tests of the API.

    It stays taken between them: a socket that is bound and does not listen keeps the kernel from giving the port to
    another program's connection, and lets a server listen there that also sets SO_REUSEADDR (socket(7)).
    """
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        yield int(holder.getsockname()[1])


@pytest.fixture
def cloud(api_port: int) -> Iterator[ApiCloud]:
    """A fresh API without a machine."""
    made = ApiCloud(api_port)
    yield made
    made.plane.stop()


def pytest_configure(config: pytest.Config) -> None:
    """Pass over moto's warning that AWS's common error codes are not in botocore's list for each service."""
    config.addinivalue_line("filterwarnings", "ignore:Exception.*does not match an error shape:UserWarning")
