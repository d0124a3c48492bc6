"""What the tests stand on: the real MySQL, the real Redis, and a stand-in for Naver, over real HTTP."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace

import pymysql
import pytest
import requests
from flask import Flask
from flask.testing import FlaskClient
from memo import create_app
from memo.config import Settings
from memo_testing.browser import Browser
from memo_testing.chromium import launched
from memo_testing.servers import Servers, given_servers, started_servers
from playwright.sync_api import Browser as Chromium
from werkzeug.serving import make_server

from localcloud.naver import NaverStandIn

APP_USER_RIGHTS = "SELECT, INSERT, UPDATE, DELETE"
"""What role `mysql` grants the service: it cannot change tables."""


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """MySQL and Redis: those named by MEMO_TEST_…, else two containers of our own, removed afterwards."""
    given = given_servers()
    if given is not None:
        yield given
        return
    with started_servers() as started:
        yield started


@pytest.fixture(scope="session")
def naver() -> Iterator[NaverStandIn]:
    """The stand-in for Naver on a free port."""
    stand_in = NaverStandIn("127.0.0.1", 0)
    stand_in.start()
    yield stand_in
    stand_in.stop()


@pytest.fixture(scope="session")
def owner_settings(servers: Servers, naver: NaverStandIn) -> Iterator[Settings]:
    """Settings with a database of their own, as the user who may change tables; the tables are there."""
    database = f"memo_test_{secrets.token_hex(4)}"
    settings = servers.settings(
        database,
        naver_auth_url=naver.url,
        naver_api_url=naver.url,
        naver_timeout=30,  # the stand-in answers at once, but not on a machine that does much else
        memo_max_characters=200,
        session_idle_seconds=60,
        session_absolute_seconds=600,
    )
    servers.execute(f"CREATE DATABASE {database}")
    result = create_app(settings).test_cli_runner().invoke(args=["migrate"])
    assert result.exit_code == 0, result.output
    yield settings
    servers.execute(f"DROP DATABASE {database}")


@pytest.fixture(scope="session")
def settings(owner_settings: Settings, servers: Servers) -> Iterator[Settings]:
    """Settings as on a web host: a database user with the least rights."""
    user, password = f"memo_{secrets.token_hex(4)}", secrets.token_urlsafe(16)
    servers.execute(
        f"CREATE USER {user}@'%' IDENTIFIED BY '{password}'",
        f"GRANT {APP_USER_RIGHTS} ON {owner_settings.database_name}.* TO {user}@'%'",
    )
    yield replace(owner_settings, database_user=user, database_password=password)
    servers.execute(f"DROP USER {user}@'%'")


@pytest.fixture(scope="session")
def app(settings: Settings) -> Flask:
    """The application; it keeps no state, so one serves all tests."""
    return create_app(settings)


@pytest.fixture
def make_app(settings: Settings) -> Callable[..., Flask]:
    """An application with some settings changed."""
    return lambda **changes: create_app(replace(settings, **changes))


@pytest.fixture(autouse=True)
def _clean(request: pytest.FixtureRequest, naver: NaverStandIn) -> Iterator[None]:
    """No test sees another's rows or faults."""
    yield
    requests.delete(f"{naver.url}/_standin/faults", timeout=30).raise_for_status()
    if "owner_settings" in request.fixturenames:
        owner: Settings = request.getfixturevalue("owner_settings")
        servers: Servers = request.getfixturevalue("servers")
        servers.execute("DELETE FROM users", database=owner.database_name)


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """A browser's view of the application, not logged in."""
    return app.test_client()


@pytest.fixture
def browser(app: Flask, naver: NaverStandIn) -> Browser:
    """A browser that can log in."""
    return Browser(app, naver.url)


@pytest.fixture
def new_browser(app: Flask, naver: NaverStandIn) -> Callable[[], Browser]:
    """Further browsers."""
    return lambda: Browser(app, naver.url)


@pytest.fixture
def sql(owner_settings: Settings) -> Iterator[pymysql.cursors.Cursor]:
    """A cursor on the tests' database, to look at what was stored."""
    connection = pymysql.connect(
        host=owner_settings.database_host,
        port=owner_settings.database_port,
        user=owner_settings.database_user,
        password=owner_settings.database_password,
        database=owner_settings.database_name,
        autocommit=True,
    )
    with connection, connection.cursor() as cursor:
        yield cursor


@pytest.fixture(scope="session")
def chromium() -> Iterator[Chromium]:
    """Debian's Chromium."""
    with launched() as browser:
        yield browser


@pytest.fixture
def serve() -> Iterator[Callable[[Flask], str]]:
    """Serves an application on a free port, in this process; gives the page's address."""
    servers = []

    def serve_(app: Flask) -> str:
        server = make_server("127.0.0.1", 0, app, threaded=True)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        servers.append((server, thread))
        return f"http://127.0.0.1:{server.server_port}{app.extensions['memo'].settings.url_prefix}/"

    yield serve_
    for server, thread in servers:
        server.shutdown()
        thread.join()


@pytest.fixture
def url(app: Flask, serve: Callable[[Flask], str]) -> str:
    """The application's page, served."""
    return serve(app)
