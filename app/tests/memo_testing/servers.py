"""A real MySQL and a real Redis for the tests.

Either they are given, by MEMO_TEST_DATABASE_HOST, _PORT, _USER, _PASSWORD (a user who may make databases and
users) and MEMO_TEST_REDIS_HOST, _PORT, _PASSWORD, or they are started as containers from the images that
`localcloud.images` builds and caches, on loopback, on free ports, and removed at the end.
"""

from __future__ import annotations

import gzip
import os
import secrets
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pymysql
import redis
from memo.config import Settings

from localcloud.database_images import ensure_database_archives
from localcloud.engine import podman, prepare
from localcloud.naver import LOCAL_CLIENT

START_SECONDS = 120
_PORTS_GIVEN = Path("/proc/sys/net/ipv4/ip_local_port_range")


@dataclass(frozen=True)
class Servers:
    """Where the servers are; the MySQL user may make databases and users."""

    mysql_host: str
    mysql_port: int
    mysql_user: str
    mysql_password: str
    redis_host: str
    redis_port: int
    redis_password: str

    def connect(self, database: str | None = None) -> pymysql.Connection[pymysql.cursors.Cursor]:
        """A connection as that user."""
        return pymysql.connect(
            host=self.mysql_host,
            port=self.mysql_port,
            user=self.mysql_user,
            password=self.mysql_password,
            database=database,
            autocommit=True,
            connect_timeout=2,
        )

    def execute(self, *statements: str, database: str | None = None) -> None:
        """Run statements as that user."""
        connection = self.connect(database)
        with connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)

    def settings(self, database: str, **others: Any) -> Settings:  # noqa: ANN401 - each setting has its own type
        """The service's settings for a database there, without limits to how often it may be asked.

        Args:
            database: its name.
            others: further settings; Naver's credentials are the stand-in's unless they are among them.
        """
        unlimited = Settings(
            database_host=self.mysql_host,
            database_port=self.mysql_port,
            database_name=database,
            database_user=self.mysql_user,
            database_password=self.mysql_password,
            redis_host=self.redis_host,
            redis_port=self.redis_port,
            redis_password=self.redis_password,
            secret_key=secrets.token_urlsafe(48),
            naver_client_id=LOCAL_CLIENT.id,
            naver_client_secret=LOCAL_CLIENT.secret,
            rate_reads=0,
            rate_writes=0,
            rate_address=0,
        )
        return replace(unlimited, **others)


def given_servers() -> Servers | None:
    """The servers named by the environment, if any."""
    host = os.environ.get("MEMO_TEST_DATABASE_HOST")
    if not host:
        return None
    return Servers(
        host,
        int(os.environ.get("MEMO_TEST_DATABASE_PORT", "3306")),
        os.environ.get("MEMO_TEST_DATABASE_USER", "root"),
        os.environ["MEMO_TEST_DATABASE_PASSWORD"],
        os.environ.get("MEMO_TEST_REDIS_HOST", host),
        int(os.environ.get("MEMO_TEST_REDIS_PORT", "6379")),
        os.environ.get("MEMO_TEST_REDIS_PASSWORD", ""),
    )


@contextmanager
def started_servers() -> Iterator[Servers]:
    """Start both servers in containers, wait until they answer, remove them afterwards."""

    prepare()
    mysql_archive, redis_archive = ensure_database_archives(print)
    tag = secrets.token_hex(4)
    names = {"mysql": f"memo-test-mysql-{tag}", "redis": f"memo-test-redis-{tag}"}
    password = secrets.token_urlsafe(16)
    mysql_port, redis_port = _free_ports(2)
    servers = Servers("127.0.0.1", mysql_port, "root", password, "127.0.0.1", redis_port, password)
    try:
        for image, archive in (("mysql:9.7", mysql_archive), ("redis:8", redis_archive)):
            _load(f"docker.io/library/{image}", archive)
        # On the host's network, because localcloud's engine has no network of its own; on loopback only.
        # Privileged, because other containers do not start where root lacks CAP_SYS_RESOURCE (measured).
        common = ("run", "-d", "--rm", "--privileged", "--network", "host", "--name")
        podman(
            *(*common, names["mysql"]),
            *("-e", f"MYSQL_ROOT_PASSWORD={password}", "-e", "MYSQL_ROOT_HOST=127.0.0.1"),
            *("docker.io/library/mysql:9.7", "mysqld", "--bind-address=127.0.0.1", f"--port={servers.mysql_port}"),
            *("--mysqlx=OFF", "--innodb-buffer-pool-size=64M", "--performance-schema=OFF", "--skip-log-bin"),
            # Nothing of it outlives the tests, so no commit waits for a disk, which others may keep busy for seconds.
            "--innodb-flush-log-at-trx-commit=0",
        )
        podman(
            *(*common, names["redis"], "docker.io/library/redis:8"),
            *("redis-server", "--bind", "127.0.0.1", "--port", str(servers.redis_port)),
            *("--requirepass", password, "--save", ""),
        )
        _wait(servers)
        yield servers
    finally:
        for name in names.values():
            podman("rm", "--force", "--volumes", "--ignore", "--time", "2", name)


def _load(reference: str, archive: Path) -> None:
    """Put an image into the engine's storage, unless this very archive is there already."""

    if podman("image", "exists", reference, check=False).returncode == 0:
        return
    # This podman does not take a compressed docker archive (measured).
    with tempfile.NamedTemporaryFile(suffix=".tar") as unpacked:
        with gzip.open(archive) as packed:
            shutil.copyfileobj(packed, unpacked)
        unpacked.flush()
        podman("load", "--input", unpacked.name)


def _free_ports(number: int) -> list[int]:
    """Ports of loopback that nobody has.

    The servers take them seconds later. Whatever runs beside the tests is given ports of the system's range meanwhile,
    for what it listens on and for each connection that it makes, so they are looked for below it.
    """
    above = int(_PORTS_GIVEN.read_text(encoding="ascii").split()[0])
    found: list[int] = []
    with ExitStack() as probes:
        while len(found) < number:
            probe = probes.enter_context(socket.socket())
            with suppress(OSError):
                port = above - 1 - secrets.randbelow(above // 3)
                probe.bind(("127.0.0.1", port))
                found.append(port)
    return found


def _wait(servers: Servers) -> None:
    """Until both answer; MySQL restarts once while it initialises."""
    client = redis.Redis(servers.redis_host, servers.redis_port, password=servers.redis_password)
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            servers.execute("SELECT 1")
            client.ping()
        except (pymysql.err.OperationalError, redis.exceptions.ConnectionError) as error:
            if time.monotonic() > deadline:
                raise RuntimeError(f"the test servers did not start within {START_SECONDS} s: {error}") from error
            time.sleep(0.2)
        else:
            client.close()
            return
