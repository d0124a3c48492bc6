"""Fixtures for localcloud's tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from localcloud.tests.api_cloud import ApiCloud
from localcloud.tests.ports import bound


@pytest.fixture(scope="session")
def api_port() -> Iterator[int]:
    """A port, the same for all tests of the API, which stays taken between them."""
    with bound() as holder:
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
