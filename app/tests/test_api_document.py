"""The OpenAPI document is valid, complete, and true of what the service answers."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from memo_testing.browser import JSON, Browser, body
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

_BLUEPRINTS = ("api", "api_document", "api_tokens", "health")


@pytest.fixture
def document(browser: Browser) -> dict[str, Any]:
    """The document as it is served."""
    return body(browser.get("/openapi.json"))


def test_the_document_is_valid(document: dict[str, Any]) -> None:
    OpenAPIV31SpecValidator(document).validate()


def test_it_names_this_installation(make_app: Callable[..., Flask]) -> None:
    app = make_app(
        url_prefix="/other", public_url="https://memo.example.org", cookie_name="other", memo_max_characters=7
    )
    document = app.test_client().get("/other/openapi.json").json
    assert document["servers"] == [{"url": "https://memo.example.org/other"}]
    assert document["components"]["securitySchemes"]["session"]["name"] == "other"
    assert document["components"]["schemas"]["Text"]["maxLength"] == 7


def test_every_route_is_described_and_every_description_is_a_route(app: Flask, document: dict[str, Any]) -> None:
    prefix = app.extensions["memo"].settings.url_prefix
    routes = {
        (re.sub(r"<(\w+)>", r"{\1}", rule.rule.removeprefix(prefix)), method.lower())
        for rule in app.url_map.iter_rules()
        if rule.endpoint.partition(".")[0] in _BLUEPRINTS
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    described = {
        (path, method)
        for path, item in document["paths"].items()
        for method in item
        if method in ("get", "post", "patch", "delete", "put")
    }
    assert described == routes


def test_answers_are_as_described(browser: Browser, document: dict[str, Any]) -> None:
    registry = Registry().with_resource("document", Resource.from_contents(document, default_specification=DRAFT202012))

    def check(path: str, method: str, response: Any) -> None:  # noqa: ANN401 - a test response
        status = str(response.status_code)
        described = document["paths"][path][method]["responses"][status]
        if "$ref" in described:
            described = document["components"]["responses"][described["$ref"].rpartition("/")[2]]
        if not described.get("content"):
            assert response.data == b""
            return
        pointer = described["content"][response.mimetype]["schema"]
        inlined = {"$ref": "document" + pointer["$ref"]} if "$ref" in pointer else pointer
        if "$ref" in inlined:
            OAS31Validator(inlined, registry=registry).validate(response.json)
        else:
            # Local references inside are resolved against the whole document.
            whole = {**document, **inlined}
            OAS31Validator(whole).validate(response.json)

    check("/memo", "get", browser.get("/memo", headers=JSON))
    browser.log_in()
    created = browser.post("/memo", json={"text": "하나"})
    check("/memo", "post", created)
    path = f"/memo/{body(created)['id']}"
    check("/memo", "get", browser.get("/memo?limit=1", headers=JSON))
    check("/memo", "get", browser.get("/memo?limit=0", headers=JSON))
    check("/memo", "get", browser.get("/memo?q=하나", headers=JSON))
    check("/memo", "get", browser.get("/memo?q=x", headers=JSON))
    check("/memo", "post", browser.post("/memo", json={"text": "x" * 201}))
    check("/memo/{memo_id}", "get", browser.get(path, headers=JSON))
    check("/memo/{memo_id}", "patch", browser.patch(path, {"pinned": True}))
    check("/memo/{memo_id}", "patch", browser.patch(path, {"text": "x"}, headers={"If-Match": '"other"'}))
    token = browser.post("/tokens", json={"name": "n"})
    check("/tokens", "post", token)
    check("/tokens", "get", browser.get("/tokens", headers=JSON))
    check("/tokens/{token_id}", "delete", browser.delete(f"/tokens/{body(token)['id']}"))
    check("/memo/{memo_id}", "delete", browser.delete(path))
    check("/memo/{memo_id}", "delete", browser.delete(path))
    check("/memo/{memo_id}/restore", "post", browser.post(f"{path}/restore"))
    check("/memo/{memo_id}/restore", "post", browser.post("/memo/1/restore"))
    for health in ("/alive", "/ready"):
        check(health, "get", browser.get(health))
