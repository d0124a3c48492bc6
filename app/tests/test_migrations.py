"""The tables: made by migrations, equal to the models, safe to make twice and at once."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from click.testing import Result
from flask_migrate import downgrade
from memo import create_app, database
from memo.config import Settings
from memo.models import Base
from memo_testing.servers import Servers
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError


@pytest.fixture
def empty(owner_settings: Settings, servers: Servers) -> Iterator[Settings]:
    """Settings with an empty database, whose default character set is not ours."""
    name = f"memo_test_{secrets.token_hex(4)}"
    servers.execute(f"CREATE DATABASE {name} CHARACTER SET latin1")
    yield replace(owner_settings, database_name=name)
    servers.execute(f"DROP DATABASE {name}")


def migrate(settings: Settings) -> Result:
    return create_app(settings).test_cli_runner().invoke(args=["migrate"])


def test_migrate_says_what_it_did(empty: Settings) -> None:
    first = migrate(empty)
    assert first.exit_code == 0, first.output
    assert "database migrated from nothing to 0006" in first.output
    second = migrate(empty)
    assert second.exit_code == 0
    assert second.output.strip() == "database unchanged at 0006"


def test_models_and_migrations_are_the_same(empty: Settings) -> None:
    migrate(empty)
    engine = create_engine(database.url(empty), connect_args=database.tls(empty))
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
        charsets = connection.execute(
            text(
                "SELECT table_name, column_name, character_set_name, collation_name FROM information_schema.columns"
                " WHERE table_schema = DATABASE() AND table_name IN ('users', 'memos')"
                " AND data_type IN ('varchar', 'text')"
            )
        ).all()
    engine.dispose()
    assert len(charsets) == 4
    assert {row[2] for row in charsets} == {"utf8mb4"}
    assert {row[3] for row in charsets if row[1] in ("id", "user_id")} == {"utf8mb4_0900_bin"}


def test_migrations_at_once(empty: Settings) -> None:
    """As several hosts that deploy together: one migrates, the others wait and find nothing to do."""
    environment = {f"MEMO_{name.upper()}": str(value) for name, value in vars(empty).items() if value is not None}
    runs = [
        subprocess.Popen(
            [sys.executable, "-m", "flask", "--app", "memo.wsgi", "migrate"],
            cwd=Path(__file__).parents[1],
            env={"PATH": os.environ["PATH"], **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for _ in range(3)
    ]
    outputs = [run.communicate(timeout=60)[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0, 0], outputs
    assert sum("Running upgrade" in output for output in outputs) == 1


def test_downgrade_and_up_again(empty: Settings) -> None:
    migrate(empty)
    with create_app(empty).app_context():
        downgrade(revision="base")
    assert "to 0006" in migrate(empty).output


def test_the_service_itself_cannot_migrate(settings: Settings) -> None:
    """The application's user may not make tables: the failure is plain."""
    engine = create_engine(database.url(settings), connect_args=database.tls(settings))
    with engine.connect() as connection, pytest.raises(OperationalError, match="denied"):
        connection.execute(text("CREATE TABLE other (id INT)"))
    engine.dispose()


def test_unreachable_database(settings: Settings) -> None:
    result = migrate(replace(settings, database_host="127.0.0.1", database_port=1))
    assert result.exit_code == 1
    assert "mysql at 127.0.0.1:1" in result.output
    assert "Check MEMO_DATABASE_" in result.output


def test_the_connection_is_encrypted(settings: Settings) -> None:
    engine = create_engine(database.url(settings), **database.engine_options(settings))
    with engine.connect() as connection:
        assert connection.execute(text("SHOW STATUS LIKE 'Ssl_cipher'")).one()[1]
    engine.dispose()


def test_without_tls_the_password_still_goes_encrypted(settings: Settings) -> None:
    """MySQL's caching_sha2_password with the server's RSA key, by the package cryptography."""
    plain = replace(settings, database_tls="off")
    engine = create_engine(database.url(plain), **database.engine_options(plain))
    with engine.connect() as connection:
        assert connection.execute(text("SHOW STATUS LIKE 'Ssl_cipher'")).one()[1] == ""
    engine.dispose()
