"""The application, put together."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from flask import Flask, redirect, request, url_for
from flask_migrate import Migrate
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.wrappers import Response

from memo import (
    account,
    api,
    api_document,
    api_tokens,
    cli,
    database,
    errors,
    forms,
    gate,
    health,
    logs,
    metrics,
    overload,
    pages,
    preferences,
    presentation,
    security,
)
from memo.accounts import AccountStore
from memo.admission import Admission
from memo.cache import MemoCache
from memo.config import Settings
from memo.lane import Lane
from memo.limits import Limiter, bucket
from memo.memos import MemoStore
from memo.models import db
from memo.naver import NaverLogin
from memo.portability import Importer
from memo.serialization import OrjsonProvider
from memo.services import Services
from memo.sessions import LoginStore, SessionStore, connect
from memo.tokens import TokenStore
from memo.users import UserStore

_STATIC_MAX_AGE = 365 * 24 * 3600
_BYTES_PER_CHARACTER = 12
r"""The longest JSON spelling of one character: `\uD83D\uDC4B`; also that of a form, `%F0%9F%91%8B`."""
_BODY_OVERHEAD = 1024


class MemoFlask(Flask):
    """Flask with our JSON."""

    json_provider_class = OrjsonProvider


def build(settings: Settings | None = None) -> Flask:
    """Make the WSGI application; see `memo.create_app`."""
    settings = settings or Settings.from_environment()
    logs.configure(settings.log_level)
    app = MemoFlask("memo", static_url_path=f"{settings.url_prefix}/static")
    # Lines that hold only a tag leave nothing in the page.
    app.jinja_options = {**app.jinja_options, "trim_blocks": True, "lstrip_blocks": True}
    limit = settings.memo_max_characters * _BYTES_PER_CHARACTER + _BODY_OVERHEAD
    # Werkzeug would redirect an address with two slashes to one with the request's own Host in it.
    app.url_map.merge_slashes = False
    app.config.update(
        SECRET_KEY=settings.secret_key,
        SQLALCHEMY_DATABASE_URI=database.url(settings),
        SQLALCHEMY_ENGINE_OPTIONS=database.engine_options(settings),
        MAX_CONTENT_LENGTH=limit,
        MAX_FORM_MEMORY_SIZE=limit,
        SEND_FILE_MAX_AGE_DEFAULT=_STATIC_MAX_AGE,
    )
    db.init_app(app)
    with app.app_context():
        database.bound_waits(db.engine, settings)
    Migrate(app, db, directory=str(cli.MIGRATIONS), compare_type=True)

    redis = connect(settings)
    cache = MemoCache(redis)
    reads = bucket("read", settings.rate_reads, settings.rate_reads_burst)
    writes = bucket("write", settings.rate_writes, settings.rate_writes_burst)
    addresses = bucket("address", settings.rate_address, settings.rate_address_burst)
    service = Services(
        settings=settings,
        redis=redis,
        cache=cache,
        admission=Admission(redis, settings.session_idle_seconds, reads, writes),
        limiter=Limiter(redis, reads, writes, addresses),
        users=UserStore(db.session, cache),
        memos=MemoStore(db.session, cache, settings.memo_max_characters),
        sessions=SessionStore(
            redis, settings.secret_key, settings.session_idle_seconds, settings.session_absolute_seconds
        ),
        logins=LoginStore(redis, settings.secret_key),
        tokens=TokenStore(db.session, cache),
        accounts=AccountStore(db.session, cache),
        importer=Importer(db.session, cache),
        naver=NaverLogin(settings),
    )
    service.attach(app)

    logs.init_app(app)
    security.init_app(app)
    errors.init_app(app)
    gate.init_app(app)
    preferences.init_app(app)
    presentation.init_app(app)
    for part in (pages, forms, account, api, api_tokens, api_document, health):
        app.register_blueprint(part.blueprint, url_prefix=settings.url_prefix or None)
    if settings.url_prefix:
        app.add_url_rule(settings.url_prefix, "without_slash", _without_slash)
    commands = (cli.check, cli.compatible, cli.forget, cli.index, cli.log_out, cli.migrate, cli.rehearse)
    for command in commands:
        app.cli.add_command(command)
    _name_static_files_by_content(app)

    app.wsgi_app = Lane(app, service)  # type: ignore[method-assign]
    if settings.trusted_proxies:
        # The scheme is set by the outermost proxy and passed on as it is, so it is a single value.
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=settings.trusted_proxies, x_proto=1)  # type: ignore[method-assign]
    app.wsgi_app = security.ConnectionScheme(app.wsgi_app)  # type: ignore[method-assign]
    app.wsgi_app = overload.Shed(app.wsgi_app)  # type: ignore[method-assign]
    metrics.init_app(app)
    return app


def _without_slash() -> Response:
    query = request.query_string.decode("ascii", "replace")
    return redirect(url_for("pages.index") + (f"?{query}" if query else ""), 308)


def _name_static_files_by_content(app: Flask) -> None:
    """Add a hash to static files' addresses, so that they may be cached for ever and a new release is seen at once."""
    folder = Path(app.static_folder or "")
    hashes = {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()[:12]
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }

    @app.url_defaults
    def _add_hash(endpoint: str, values: dict[str, Any]) -> None:
        if endpoint == "static" and values.get("filename") in hashes:
            values.setdefault("v", hashes[values["filename"]])
