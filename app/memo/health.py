"""Two questions about health: *alive*, what a load balancer asks, and *ready*, what people and deploys ask."""

from __future__ import annotations

import logging

from flask import Blueprint, Response
from redis.exceptions import RedisError
from sqlalchemy import select, text
from sqlalchemy.exc import SQLAlchemyError

from memo import metrics
from memo.breaker import DependencyDown
from memo.models import Memo, db
from memo.serialization import json_response
from memo.services import services

blueprint = Blueprint("health", __name__)
_log = logging.getLogger(__name__)

_PROBE_KEY = "memo:ready"
_PROBE_SECONDS = 60


@blueprint.get("/alive")
def alive() -> Response:
    """This process answers. No dependency is asked, so that their outage does not get every web host replaced."""
    return json_response({"status": "alive"})


@blueprint.get("/ready")
def ready() -> Response:
    """Everything a request needs is there: MySQL with its tables, and Redis; both must take writes."""
    checks = {"mysql": _mysql(), "redis": _redis()}
    good = all(checks.values())
    words = {name: "ok" if usable else "down" for name, usable in checks.items()}
    response = json_response({"status": "ready" if good else "unavailable", **words})
    if not good:
        response.status_code = 503
        response.headers["Retry-After"] = "5"
    return response


def _mysql() -> bool:
    try:
        db.session.execute(select(Memo.id).limit(1))
        if db.session.scalar(text("SELECT @@global.read_only")):
            metrics.dependency_failed("mysql")
            _log.warning("not ready", extra={"dependency": "mysql", "error": "read-only"})
            return False
    except (SQLAlchemyError, DependencyDown) as error:
        metrics.dependency_failed("mysql")
        _log.warning("not ready", extra={"dependency": "mysql", "error": type(error).__name__})
        return False
    return True


def _redis() -> bool:
    try:
        # A write: a replica, and a server whose memory or disk is full, answers a PING.
        return bool(services().redis.set(_PROBE_KEY, "1", ex=_PROBE_SECONDS))
    except (RedisError, DependencyDown) as error:
        metrics.dependency_failed("redis")
        _log.warning("not ready", extra={"dependency": "redis", "error": type(error).__name__})
        return False
