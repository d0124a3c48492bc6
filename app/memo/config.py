"""Every setting of the service: read once from the environment, checked, typed.

Each secret may also be given as a file: `MEMO_X_FILE` names the file that holds `MEMO_X`, so that
secrets stay out of the process's environment.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import click

T = TypeVar("T")

_MAX_TEXT_CHARACTERS = 16_000
"""MySQL's TEXT holds 65 535 bytes (its manual, "String Type Storage Requirements"); a character takes up to 4."""

_COOKIE_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_PREFIX = re.compile(r"(/[A-Za-z0-9._~-]+)*")
_SECRET_KEY_CHARACTERS = 32


class ConfigurationError(click.ClickException):
    """The environment does not describe a service that can run; the text lists every problem and its fix."""

    exit_code = 2

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__(
            "the memo service cannot start with this configuration:\n" + "\n".join(f"- {p}" for p in problems)
        )


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The configuration, one attribute per variable: `database_host` is `MEMO_DATABASE_HOST`.

    Times are in seconds. `app/README.md` has the table for people.
    """

    database_host: str
    database_password: str = field(repr=False)
    redis_host: str
    redis_password: str = field(repr=False)
    secret_key: str = field(repr=False)
    naver_client_id: str
    naver_client_secret: str = field(repr=False)

    url_prefix: str = "/memo"
    public_url: str = ""
    trusted_proxies: int = 0

    database_port: int = 3306
    database_name: str = "memo"
    database_user: str = "memo"
    database_tls: str = "required"
    database_ca_file: str = ""
    database_pool_size: int = 5
    database_connect_timeout: float = 2
    database_read_timeout: float = 5

    redis_port: int = 6379
    redis_timeout: float = 1

    naver_auth_url: str = "https://nid.naver.com"
    naver_api_url: str = "https://openapi.naver.com"
    naver_timeout: float = 5

    cookie_name: str = "userId"
    cookie_secure: bool | None = None
    session_idle_seconds: int = 12 * 3600
    session_absolute_seconds: int = 7 * 24 * 3600
    memo_max_characters: int = 10_000

    rate_reads: float = 50
    rate_reads_burst: int = 500
    rate_writes: float = 20
    rate_writes_burst: int = 200
    rate_address: float = 20
    rate_address_burst: int = 300
    log_level: str = "INFO"

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Settings:
        """Read the settings.

        Args:
            environ: the variables; an empty value counts as not set.

        Returns:
            Settings that can work as far as can be told without connecting.

        Raises:
            ConfigurationError: with every problem found, not only the first.
        """
        reader = _Reader(environ)
        settings = cls(
            database_host=reader.text("DATABASE_HOST", required=True),
            database_port=reader.number("DATABASE_PORT", cls.database_port, 1, 65535),
            database_name=reader.text("DATABASE_NAME", cls.database_name),
            database_user=reader.text("DATABASE_USER", cls.database_user),
            database_password=reader.secret("DATABASE_PASSWORD"),
            database_tls=reader.choice("DATABASE_TLS", cls.database_tls, ("required", "off")),
            database_ca_file=reader.text("DATABASE_CA_FILE"),
            database_pool_size=reader.number("DATABASE_POOL_SIZE", cls.database_pool_size, 1, 100),
            database_connect_timeout=reader.seconds("DATABASE_CONNECT_TIMEOUT", cls.database_connect_timeout),
            database_read_timeout=reader.seconds("DATABASE_READ_TIMEOUT", cls.database_read_timeout),
            redis_host=reader.text("REDIS_HOST", required=True),
            redis_port=reader.number("REDIS_PORT", cls.redis_port, 1, 65535),
            redis_password=reader.secret("REDIS_PASSWORD", required=False),
            redis_timeout=reader.seconds("REDIS_TIMEOUT", cls.redis_timeout),
            secret_key=reader.secret("SECRET_KEY"),
            naver_client_id=reader.secret("NAVER_CLIENT_ID"),
            naver_client_secret=reader.secret("NAVER_CLIENT_SECRET"),
            naver_auth_url=reader.url("NAVER_AUTH_URL", cls.naver_auth_url),
            naver_api_url=reader.url("NAVER_API_URL", cls.naver_api_url),
            naver_timeout=reader.seconds("NAVER_TIMEOUT", cls.naver_timeout),
            # An empty prefix is a choice here, so it does not count as "not set".
            url_prefix=environ.get("MEMO_URL_PREFIX", cls.url_prefix).rstrip("/"),
            public_url=reader.url("PUBLIC_URL", ""),
            trusted_proxies=reader.number("TRUSTED_PROXIES", cls.trusted_proxies, 0, 10),
            cookie_name=reader.text("COOKIE_NAME", cls.cookie_name),
            cookie_secure=reader.flag("COOKIE_SECURE"),
            session_idle_seconds=reader.number("SESSION_IDLE_SECONDS", cls.session_idle_seconds, 1, 10**9),
            session_absolute_seconds=reader.number("SESSION_ABSOLUTE_SECONDS", cls.session_absolute_seconds, 1, 10**9),
            memo_max_characters=reader.number("MEMO_MAX_CHARACTERS", cls.memo_max_characters, 1, _MAX_TEXT_CHARACTERS),
            rate_reads=reader.rate("RATE_READS", cls.rate_reads),
            rate_reads_burst=reader.number("RATE_READS_BURST", cls.rate_reads_burst, 1, 10**6),
            rate_writes=reader.rate("RATE_WRITES", cls.rate_writes),
            rate_writes_burst=reader.number("RATE_WRITES_BURST", cls.rate_writes_burst, 1, 10**6),
            rate_address=reader.rate("RATE_ADDRESS", cls.rate_address),
            rate_address_burst=reader.number("RATE_ADDRESS_BURST", cls.rate_address_burst, 1, 10**6),
            log_level=reader.choice("LOG_LEVEL", cls.log_level, ("DEBUG", "INFO", "WARNING", "ERROR")),
        )
        reader.problems += settings._problems()
        if reader.problems:
            raise ConfigurationError(reader.problems)
        return settings

    def _problems(self) -> list[str]:
        problems = []
        if not _PREFIX.fullmatch(self.url_prefix):
            problems.append(f"MEMO_URL_PREFIX={self.url_prefix!r}: give a path such as /memo, or nothing for the root")
        if not _COOKIE_NAME.fullmatch(self.cookie_name):
            problems.append(f"MEMO_COOKIE_NAME={self.cookie_name!r}: use letters, digits, '-' and '_'")
        if self.cookie_name.startswith(("__Host-", "__Secure-")) and not self.cookie_secure:
            problems.append(
                f"MEMO_COOKIE_NAME={self.cookie_name}: set MEMO_COOKIE_SECURE=1, or browsers refuse the cookie"
            )
        if self.secret_key and len(self.secret_key) < _SECRET_KEY_CHARACTERS:
            problems.append(
                f"MEMO_SECRET_KEY is shorter than {_SECRET_KEY_CHARACTERS} characters:"
                " make one with: python3 -c 'import secrets; print(secrets.token_urlsafe(48))'"
            )
        if self.database_ca_file and not Path(self.database_ca_file).is_file():
            problems.append(f"MEMO_DATABASE_CA_FILE={self.database_ca_file}: there is no such file")
        if self.database_ca_file and self.database_tls == "off":
            problems.append("MEMO_DATABASE_CA_FILE is given but MEMO_DATABASE_TLS is off: leave one of them out")
        if self.session_idle_seconds > self.session_absolute_seconds:
            problems.append("MEMO_SESSION_IDLE_SECONDS must not be more than MEMO_SESSION_ABSOLUTE_SECONDS")
        return problems


class _Reader:
    """Reads variables and collects what is wrong with them instead of stopping at the first."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self.problems: list[str] = []

    def text(self, name: str, default: str = "", *, required: bool = False) -> str:
        value = self._environ.get(f"MEMO_{name}", "").strip() or default
        if required and not value:
            self.problems.append(f"MEMO_{name} is not set: put it into the service's environment")
        return value

    def secret(self, name: str, *, required: bool = True) -> str:
        path = self._environ.get(f"MEMO_{name}_FILE", "")
        value = self._environ.get(f"MEMO_{name}", "")
        if path:
            try:
                value = Path(path).read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
                self.problems.append(f"MEMO_{name}_FILE={path} cannot be read: {reason}")
                return ""
        value = value.strip()
        if required and not value:
            self.problems.append(f"MEMO_{name} is not set: set it, or name a file that holds it with MEMO_{name}_FILE")
        return value

    def number(self, name: str, default: int, least: int, most: int) -> int:
        return self._convert(name, default, int, least, most, "a whole number")

    def seconds(self, name: str, default: float) -> float:
        return self._convert(name, default, float, 0.05, 600, "a number of seconds")

    def rate(self, name: str, default: float) -> float:
        if self.text(name) == "0":
            return 0
        return self._convert(name, default, float, 0.01, 10**6, "requests a second, or 0 for no limit,")

    def _convert(self, name: str, default: T, kind: Callable[[str], T], least: float, most: float, what: str) -> T:
        value = self.text(name)
        if not value:
            return default
        try:
            number = kind(value)
        except ValueError:
            number = None
        if number is None or not least <= number <= most:  # type: ignore[operator]  # T is int or float
            self.problems.append(f"MEMO_{name}={value!r}: give {what} from {least} to {most}")
            return default
        return number

    def choice(self, name: str, default: str, choices: tuple[str, ...]) -> str:
        value = self.text(name, default)
        if value not in choices:
            self.problems.append(f"MEMO_{name}={value!r}: choose one of {', '.join(choices)}")
        return value

    def flag(self, name: str) -> bool | None:
        value = self.text(name).lower()
        known = {"": None, "1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
        if value not in known:
            self.problems.append(f"MEMO_{name}={value!r}: give 1 or 0, or nothing to follow the request's scheme")
        return known.get(value)

    def url(self, name: str, default: str) -> str:
        value = self.text(name, default).rstrip("/")
        if not value:
            return ""
        try:
            parts = urlsplit(value)
            good = parts.scheme in ("http", "https") and bool(parts.hostname) and not parts.query and not parts.fragment
        except ValueError:
            good = False
        if not good:
            self.problems.append(f"MEMO_{name}={value!r}: give an address such as https://memo.example.org")
        return value
