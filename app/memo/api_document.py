"""The description of the API, served with this installation's address: `PREFIX/openapi.json`."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, cast

import yaml
from flask import Blueprint, Response

from memo.characters import NAME, VISIBLE
from memo.models import TOKEN_NAME_LENGTH
from memo.serialization import json_response
from memo.services import services

blueprint = Blueprint("api_document", __name__)

_SOURCE = Path(__file__).parent / "openapi.yaml"


@blueprint.get("/openapi.json")
def describe() -> Response:
    """The OpenAPI document (OpenAPI Specification 3.1), with this installation's limits."""
    settings = services().settings
    document = dict(_document())
    document["servers"] = [{"url": f"{settings.public_url}{settings.url_prefix}" or "/"}]
    components = dict(document["components"])
    session = {**components["securitySchemes"]["session"], "name": settings.cookie_name}
    components["securitySchemes"] = {**components["securitySchemes"], "session": session}
    schemas = components["schemas"]
    text = {**schemas["Text"], "maxLength": settings.memo_max_characters, "pattern": VISIBLE}
    name = {**schemas["TokenName"], "maxLength": TOKEN_NAME_LENGTH, "pattern": NAME}
    components["schemas"] = {**schemas, "Text": text, "TokenName": name}
    response = json_response({**document, "components": components})
    response.headers["Cache-Control"] = "public, max-age=300"
    return response


@cache
def _document() -> dict[str, Any]:
    return cast(dict[str, Any], yaml.safe_load(_SOURCE.read_text(encoding="utf-8")))
