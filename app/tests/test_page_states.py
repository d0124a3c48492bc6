"""Checkers that know nothing of this project look at every page in every state: axe-core and html-validate.

Each state is also kept as a picture for people, as wide as a phone, a tablet and a desktop, in
`.memo-server/artefacts/pages/`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pymysql
import pytest
from axe_playwright_python.sync_playwright import Axe
from flask import Flask
from flask import Response as FlaskResponse
from memo.config import Settings
from memo_testing.forwarder import Forwarder
from memo_testing.states import Tour
from memo_testing.web_tools import CONFIGURATION, ROOT, run
from playwright.sync_api import Browser

ARTEFACTS = ROOT / ".memo-server" / "artefacts" / "pages"
WIDTHS = {"phone": 390, "tablet": 820, "desktop": 1280}
HEIGHT = 900


def write_many(app: Flask, sql: pymysql.cursors.Cursor, number: int) -> None:
    sql.execute("SELECT id FROM users")
    ((user_id,),) = sql.fetchall()
    with app.app_context():
        for one in range(number):
            app.extensions["memo"].memos.add(user_id, f"memo {one}")


@pytest.mark.web
@pytest.mark.parametrize(
    ("locale", "device", "scheme", "other"),
    [("en-US", "desktop", "light", "dark"), ("ko-KR", "phone", "dark", "light")],
)
def test_every_state(
    chromium: Browser,
    make_app: Callable[..., Flask],
    serve: Callable[[Flask], str],
    settings: Settings,
    sql: pymysql.cursors.Cursor,
    tmp_path: Path,
    locale: str,
    device: str,
    scheme: Literal["light", "dark"],
    other: Literal["light", "dark"],
) -> None:
    redis = Forwarder(settings.redis_host, settings.redis_port)
    # The tour's log-in must outlive it: every state is looked at for a while.
    app = make_app(
        redis_host="127.0.0.1", redis_port=redis.port, session_idle_seconds=3600, session_absolute_seconds=3600
    )
    url = serve(app)
    ARTEFACTS.mkdir(parents=True, exist_ok=True)
    axe, problems, names = Axe(), list[str](), list[str]()
    sent: list[str] = []

    def keep(response: FlaskResponse) -> FlaskResponse:
        if response.mimetype == "text/html" and response.status_code not in (302, 303):
            sent.append(response.get_data(as_text=True))
        return response

    app.after_request(keep)

    def look(state: str, scheme: Literal["light", "dark"], rules: dict[str, list[str]]) -> None:
        page.emulate_media(color_scheme=scheme)
        page.wait_for_function("document.getAnimations().every((one) => one.playState === 'finished')")
        result = axe.run(page, options=rules)
        if result.violations_count:
            problems.append(f"{state}, {locale}, {scheme}: {result.generate_report()}")

    def check(state: str) -> None:
        names.append(state)
        # Everything that the server sent on the way to this state: pages, and the parts of pages for the script.
        for number, html in enumerate(sent):
            (tmp_path / f"{state}-{number}.html").write_text(html, encoding="utf-8")
        sent.clear()
        for name, width in WIDTHS.items():
            page.set_viewport_size({"width": width, "height": HEIGHT})
            page.screenshot(path=ARTEFACTS / f"{state}.{locale[:2]}.{name}.png")
        page.set_viewport_size({"width": WIDTHS[device], "height": HEIGHT})
        look(state, other, {"runOnly": ["color-contrast"]})
        look(state, scheme, {})

    # Axe is injected as a script, which the page's own policy rightly refuses.
    context = chromium.new_context(locale=locale, color_scheme=scheme, bypass_csp=True)
    page = context.new_page()
    try:
        for state in Tour(page, url, lambda number: write_many(app, sql, number), redis.cut).states():
            check(state)
    finally:
        context.close()
        redis.cut()
    assert len(names) == len(set(names))
    assert problems == []
    html = run("html-validate", "--config", str(CONFIGURATION / "htmlvalidate.json"), "--ext", "html", str(tmp_path))
    assert html.returncode == 0, html.stdout + html.stderr
    print(f"\n{len(names)} states, {len(list(tmp_path.iterdir()))} answers in HTML: nothing found")
