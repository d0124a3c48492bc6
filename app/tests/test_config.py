"""The configuration: what is required, what is refused, and that nothing secret is shown."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import MISSING, fields
from pathlib import Path

import pytest
from flask import Flask
from memo.config import ConfigurationError, Settings

APP = Path(__file__).parents[1]
GOOD = {
    "MEMO_DATABASE_HOST": "10.0.0.5",
    "MEMO_DATABASE_PASSWORD": "database-pw",
    "MEMO_REDIS_HOST": "10.0.0.5",
    "MEMO_REDIS_PASSWORD": "redis-pw",
    "MEMO_SECRET_KEY": "k" * 40,
    "MEMO_NAVER_CLIENT_ID": "client",
    "MEMO_NAVER_CLIENT_SECRET": "client-pw",
}


def problems(**changes: str) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        Settings.from_environment(GOOD | changes)
    return caught.value.problems


def test_defaults() -> None:
    settings = Settings.from_environment(GOOD)
    assert settings.url_prefix == "/memo"
    assert settings.cookie_name == "userId"
    assert settings.cookie_secure is None
    assert settings.naver_auth_url == "https://nid.naver.com"
    assert settings.naver_api_url == "https://openapi.naver.com"
    assert settings.database_tls == "required"


def test_all_problems_at_once() -> None:
    with pytest.raises(ConfigurationError) as caught:
        Settings.from_environment({})
    text = str(caught.value.message)
    for name in GOOD:
        assert (name in text) is (name != "MEMO_REDIS_PASSWORD")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MEMO_DATABASE_PORT", "mysql"),
        ("MEMO_DATABASE_PORT", "70000"),
        ("MEMO_URL_PREFIX", "memo"),
        ("MEMO_URL_PREFIX", "/a b"),
        ("MEMO_URL_PREFIX", "//evil.example"),
        ("MEMO_PUBLIC_URL", "memo.example.org"),
        ("MEMO_PUBLIC_URL", "javascript://x"),
        ("MEMO_NAVER_AUTH_URL", "ftp://x"),
        ("MEMO_NAVER_API_URL", "http://[bad"),
        ("MEMO_COOKIE_NAME", "user id"),
        ("MEMO_COOKIE_NAME", "__Host-userId"),
        ("MEMO_COOKIE_SECURE", "perhaps"),
        ("MEMO_TRUSTED_PROXIES", "-1"),
        ("MEMO_SECRET_KEY", "short"),
        ("MEMO_MEMO_MAX_CHARACTERS", "16001"),
        ("MEMO_DATABASE_READ_TIMEOUT", "nan"),
        ("MEMO_DATABASE_TLS", "maybe"),
        ("MEMO_DATABASE_CA_FILE", "/no/such/file"),
        ("MEMO_SESSION_IDLE_SECONDS", "9999999"),
        ("MEMO_LOG_LEVEL", "loud"),
        ("MEMO_DATABASE_PASSWORD_FILE", "/no/such/file"),
    ],
)
def test_a_value_that_cannot_work_is_named(name: str, value: str) -> None:
    (problem,) = problems(**{name: value})
    assert name in problem


def test_no_problem_shows_a_secret() -> None:
    assert "short-secret" not in " ".join(problems(MEMO_SECRET_KEY="short-secret"))


@pytest.mark.parametrize(("given", "prefix"), [("", ""), ("/", ""), ("/memo/", "/memo"), ("/a/b", "/a/b")])
def test_prefix(given: str, prefix: str) -> None:
    assert Settings.from_environment(GOOD | {"MEMO_URL_PREFIX": given}).url_prefix == prefix


def test_secrets_from_files(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("from-file\n", encoding="utf-8")
    settings = Settings.from_environment(GOOD | {"MEMO_DATABASE_PASSWORD_FILE": str(file)})
    assert settings.database_password == "from-file"


def test_secrets_are_not_in_the_repr() -> None:
    text = repr(Settings.from_environment(GOOD))
    assert not any(value in text for name, value in GOOD.items() if "PASSWORD" in name or "SECRET" in name)


def flask(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "flask", "--app", "memo.wsgi", *arguments],
        cwd=APP,
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_check_command_says_what_is_wrong_without_a_traceback() -> None:
    run = flask(GOOD | {"MEMO_REDIS_HOST": "", "MEMO_COOKIE_SECURE": "perhaps"}, "check")
    assert run.returncode != 0
    assert "MEMO_REDIS_HOST is not set" in run.stderr
    assert "MEMO_COOKIE_SECURE" in run.stderr
    assert "Traceback" not in run.stderr


def test_check_command() -> None:
    run = flask(GOOD, "check")
    assert (run.returncode, run.stdout.strip()) == (0, "configuration: ok"), run.stderr


def test_check_connects(make_app: Callable[..., Flask]) -> None:
    result = make_app().test_cli_runner().invoke(args=["check", "--connect"])
    assert result.exit_code == 0, result.output
    assert "mysql: ok, tables at 0006" in result.output
    assert "redis: ok" in result.output


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"database_host": "127.0.0.1", "database_port": 1}, "mysql at 127.0.0.1:1"),
        ({"database_password": "wrong"}, "MEMO_DATABASE_"),
        ({"redis_host": "127.0.0.1", "redis_port": 1}, "redis at 127.0.0.1:1"),
        ({"redis_password": "wrong"}, "MEMO_REDIS_"),
    ],
)
def test_check_names_what_does_not_connect(
    make_app: Callable[..., Flask], changes: dict[str, object], named: str
) -> None:
    result = make_app(**changes).test_cli_runner().invoke(args=["check", "--connect"])
    assert result.exit_code == 1
    assert named in result.output
    assert "wrong" not in result.output


@pytest.mark.parametrize(
    ("changes", "status", "said"),
    [
        ({}, 0, "redis: takes the credentials"),
        ({"database_password": "wrong"}, 1, "MEMO_DATABASE_PASSWORD"),
        ({"database_name": "elsewhere"}, 1, "MEMO_DATABASE_NAME"),
        ({"redis_password": "wrong"}, 1, "MEMO_REDIS_PASSWORD"),
        ({"database_host": "127.0.0.1", "database_port": 1}, 0, "mysql: not reached"),
        ({"redis_host": "127.0.0.1", "redis_port": 1}, 0, "redis: not reached"),
    ],
)
def test_only_refused_credentials_keep_the_service_from_starting(
    make_app: Callable[..., Flask], changes: dict[str, object], status: int, said: str
) -> None:
    result = make_app(**changes).test_cli_runner().invoke(args=["check", "--credentials"])
    assert result.exit_code == status, result.output
    assert said in result.output


def test_the_readme_names_every_setting() -> None:
    readme = (APP / "README.md").read_text(encoding="utf-8")
    for field in fields(Settings):
        assert f"`MEMO_{field.name.upper()}`" in readme
        if field.default not in (MISSING, "", None):
            assert f"| {field.default} |" in readme
