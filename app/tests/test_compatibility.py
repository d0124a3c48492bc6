"""Expand and contract: what a version that runs can live with, and what must come a release later."""

from __future__ import annotations

import io
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from flask import Flask
from memo import cli, create_app, database
from memo.compatibility import describe, problems
from memo.config import Settings
from memo_testing.servers import Servers
from sqlalchemy import create_engine


@pytest.fixture
def scratch(owner_settings: Settings, servers: Servers) -> Iterator[Settings]:
    """Settings with a database of their own, in which this version's tables are."""
    name = f"memo_test_{secrets.token_hex(4)}"
    servers.execute(f"CREATE DATABASE {name}")
    changed = replace(owner_settings, database_name=name)
    assert create_app(changed).test_cli_runner().invoke(args=["migrate"]).exit_code == 0
    yield changed
    servers.execute(f"DROP DATABASE {name}")


def described(settings: Settings) -> dict[str, Any]:
    engine = create_engine(database.url(settings), connect_args=database.tls(settings))
    with engine.connect() as connection:
        tables = describe(connection)
    engine.dispose()
    # As it travels between hosts.
    return orjson.loads(orjson.dumps(tables))


def test_its_own_tables_are_fine(scratch: Settings) -> None:
    assert problems(described(scratch)) == []


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE memos ADD COLUMN colour VARCHAR(20)",
        "ALTER TABLE memos ADD COLUMN colour VARCHAR(20) NOT NULL DEFAULT 'none'",
        "ALTER TABLE memos ADD COLUMN day DATE NOT NULL DEFAULT (CURRENT_DATE)",
        "ALTER TABLE memos MODIFY text MEDIUMTEXT NOT NULL",
        "ALTER TABLE users MODIFY name VARCHAR(500)",
        "ALTER TABLE memos ADD INDEX later (created_at)",
        "ALTER TABLE memos ADD UNIQUE INDEX both_of_them (id, user_id)",
        "CREATE TABLE labels (id INT PRIMARY KEY, memo_id BIGINT UNSIGNED, UNIQUE (memo_id))",
    ],
)
def test_expansions_are_allowed(scratch: Settings, servers: Servers, change: str) -> None:
    servers.execute(change, database=scratch.database_name)
    assert problems(described(scratch)) == []


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        (["DROP TABLE api_tokens"], "table api_tokens is gone"),
        (["ALTER TABLE users DROP COLUMN updated_at"], "column users.updated_at is gone"),
        (["ALTER TABLE memos RENAME COLUMN text TO body"], "column memos.text is gone"),
        (["ALTER TABLE memos MODIFY text VARCHAR(500) NOT NULL"], "memos.text is varchar(500)"),
        (["ALTER TABLE users MODIFY name VARCHAR(100)"], "users.name is varchar(100) now"),
        (["ALTER TABLE memos MODIFY created_at DATETIME NOT NULL"], "memos.created_at is datetime now"),
        (["ALTER TABLE users MODIFY name VARCHAR(255) NOT NULL"], "users.name must not be empty"),
        (["ALTER TABLE memos MODIFY text TEXT"], "memos.text may be empty"),
        (["ALTER TABLE memos ADD COLUMN colour VARCHAR(20) NOT NULL"], "memos.colour needs a value"),
        (["ALTER TABLE users ADD UNIQUE INDEX one_name (name)"], "users(name) is unique now"),
        (
            [
                "CREATE TABLE names (name VARCHAR(255) PRIMARY KEY)",
                "ALTER TABLE users ADD FOREIGN KEY (name) REFERENCES names (name)",
            ],
            "users.name refers to names now",
        ),
        (
            [
                "ALTER TABLE idempotency_keys"
                " MODIFY `key` VARCHAR(128) CHARACTER SET ascii COLLATE ascii_general_ci NOT NULL"
            ],
            "compared by ascii_general_ci",
        ),
    ],
)
def test_contractions_are_refused(scratch: Settings, servers: Servers, changes: list[str], named: str) -> None:
    for change in changes:
        servers.execute(change, database=scratch.database_name)
    found = problems(described(scratch))
    assert found
    assert named in found[0]


def rehearse(settings: Settings) -> tuple[int, str]:
    result = create_app(settings).test_cli_runner().invoke(args=["rehearse"])
    return result.exit_code, result.output


def databases(settings: Settings) -> set[str]:
    engine = create_engine(database.url(settings), connect_args=database.tls(settings))
    with engine.connect() as connection:
        found = {row[0] for row in connection.exec_driver_sql("SHOW DATABASES")}
    engine.dispose()
    return found


def test_nothing_is_rehearsed_when_nothing_is_pending(scratch: Settings) -> None:
    code, output = rehearse(scratch)
    assert code == 0, output
    said = orjson.loads(output)
    assert said["pending"] is False
    assert said["from"] == said["to"]


def test_a_later_versions_tables_are_left_alone(scratch: Settings, servers: Servers) -> None:
    """An older version is deployed again: expand and contract has kept its tables usable."""
    servers.execute("UPDATE alembic_version SET version_num = '9999'", database=scratch.database_name)
    code, output = rehearse(scratch)
    assert code == 0, output
    assert orjson.loads(output)["pending"] is False
    migrated = create_app(scratch).test_cli_runner().invoke(args=["migrate"])
    assert migrated.exit_code == 0, migrated.output
    assert "left at 9999" in migrated.output


def test_rehearsal_describes_the_tables_and_leaves_nothing(
    owner_settings: Settings, servers: Servers, app: Flask
) -> None:
    name = f"memo_test_{secrets.token_hex(4)}"
    servers.execute(f"CREATE DATABASE {name}")
    settings = replace(owner_settings, database_name=name)
    code, output = rehearse(settings)
    assert code == 0, output
    last = output.strip().splitlines()[-1]
    said = orjson.loads(last)
    assert said["pending"] is True
    assert said["from"] == "nothing"
    assert f"{name}_rehearsal" not in databases(settings)
    assert create_app(settings).test_cli_runner().invoke(args=["check", "--connect"]).output.count("at nothing") == 1
    judged = app.test_cli_runner().invoke(args=["compatible"], input=io.BytesIO(last.encode()))
    assert (judged.exit_code, judged.output.strip()) == (0, "compatible")
    said["tables"]["memos"]["columns"].pop("text")
    judged = app.test_cli_runner().invoke(args=["compatible"], input=io.BytesIO(orjson.dumps(said)))
    assert judged.exit_code == 1
    assert "memos.text is gone" in judged.output
    servers.execute(f"DROP DATABASE {name}")


def test_a_migration_that_fails_in_the_rehearsal_changes_nothing(
    owner_settings: Settings, servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"memo_test_{secrets.token_hex(4)}"
    servers.execute(f"CREATE DATABASE {name}")
    settings = replace(owner_settings, database_name=name)
    folder = Path(shutil.copytree(cli.MIGRATIONS, tmp_path / "migrations"))
    (folder / "versions" / "9999_bad.py").write_text(
        'revision, down_revision, branch_labels, depends_on = "9999", "0006", None, None\n'
        "from alembic import op\n"
        "def upgrade():\n"
        "    op.execute('CREATE TABLE half_done (id INT PRIMARY KEY)')\n"
        "    op.execute('ALTER TABLE nowhere ADD COLUMN x INT')\n",
        encoding="utf-8",
    )
    monkeypatch.setattr(cli, "MIGRATIONS", folder)
    code, output = rehearse(settings)
    assert code == 1
    assert "nothing was changed" in output
    assert "nowhere" in output
    assert f"{name}_rehearsal" not in databases(settings)
    servers.execute(f"DROP DATABASE {name}")
