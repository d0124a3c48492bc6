"""The ceiling: what nginx, uWSGI and Flask cost when the application does nothing."""

from __future__ import annotations

from flask import Flask

app = Flask(__name__)


@app.get("/memo/memo")
def hello() -> str:
    """Say hello."""
    return "Hello, World!"
