"""Fixtures for localcloud's tests."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from localcloud.tests.api_cloud import ApiCloud


@pytest.fixture(scope="session")
def api_port() -> int:
    """A free port, the same for all tests of the API."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def cloud(api_port: int) -> Iterator[ApiCloud]:
    """A fresh API without a machine."""
    made = ApiCloud(api_port)
    yield made
    made.plane.stop()


def pytest_configure(config: pytest.Config) -> None:
    """Pass over moto's warning that AWS's common error codes are not in botocore's list for each service."""
    config.addinivalue_line("filterwarnings", "ignore:Exception.*does not match an error shape:UserWarning")
