"""The parts of one application, made once by `memo.application` and found from any view."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from flask import Flask, current_app

from memo.accounts import AccountStore
from memo.admission import Admission
from memo.breaker import GuardedRedis
from memo.cache import MemoCache
from memo.config import Settings
from memo.limits import Limiter
from memo.memos import MemoStore
from memo.naver import NaverLogin
from memo.portability import Importer
from memo.sessions import LoginStore, SessionStore
from memo.tokens import TokenStore
from memo.users import UserStore

_KEY = "memo"


@dataclass(frozen=True)
class Services:
    """What the views work with."""

    settings: Settings
    redis: GuardedRedis
    cache: MemoCache
    admission: Admission
    limiter: Limiter
    users: UserStore
    memos: MemoStore
    sessions: SessionStore
    logins: LoginStore
    tokens: TokenStore
    accounts: AccountStore
    importer: Importer
    naver: NaverLogin

    def attach(self, app: Flask) -> None:
        """Make these the services of an application."""
        app.extensions[_KEY] = self


def services() -> Services:
    """The services of the current application."""
    return cast(Services, current_app.extensions[_KEY])
