"""Every word has its Korean, and the compiled catalogue is that of the readable one."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_dir
from babel.messages.mofile import read_mo, write_mo
from babel.messages.pofile import read_po
from flask.testing import FlaskClient
from memo_testing.browser import Browser

PACKAGE = Path(__file__).parents[1] / "memo"
FOLDER = PACKAGE / "translations" / "ko" / "LC_MESSAGES"
HANGUL = range(0xAC00, 0xD7A4)


def catalogue() -> Catalog:
    with (FOLDER / "messages.po").open("rb") as file:
        return read_po(file, locale="ko")


def said(messages: Catalog) -> dict[str, object]:
    return {str(message.id): message.string for message in messages if message.id}


def test_every_word_is_translated() -> None:
    methods = [("**.py", "python"), ("templates/**.html", "jinja2")]
    keywords = {"_": None, "gettext": None, "ngettext": (1, 2), "N_": None}
    used = {
        message if isinstance(message, str) else message[0]
        for _, _, message, _, _ in extract_from_dir(PACKAGE, methods, keywords=keywords)
    }
    translated = {(m.id if isinstance(m.id, str) else m.id[0]): m.string for m in catalogue() if m.id}
    assert used - translated.keys() == set()
    assert translated.keys() - used == set()
    assert [words for words, string in translated.items() if not string or not all(string)] == []


def test_placeholders_are_kept() -> None:
    problems = [(message.id, [str(error) for error in message.check(catalogue())]) for message in catalogue()]
    assert [problem for problem in problems if problem[1]] == []


def test_the_compiled_catalogue_is_up_to_date() -> None:
    """Compare what they say: `bin/translations` makes it again."""
    made = io.BytesIO()
    write_mo(made, catalogue())
    made.seek(0)
    with (FOLDER / "messages.mo").open("rb") as file:
        committed = said(read_mo(file))
    assert committed == said(read_mo(made))


@pytest.mark.parametrize(
    ("accept", "language"), [("ko-KR,ko;q=0.9,en;q=0.8", "ko"), ("en-US", "en"), ("fr", "en"), ("", "en"), ("*", "en")]
)
def test_the_browsers_language(client: FlaskClient, accept: str, language: str) -> None:
    page = client.get("/memo/", headers={"Accept-Language": accept}).text
    assert f'<html lang="{language}"' in page


def test_a_choice_is_remembered(browser: Browser) -> None:
    browser.log_in()
    assert browser.post("/preferences", data={"language": "ko", "page": "account.show"}).location == "/memo/account"
    assert browser.post("/preferences", data={"theme": "dark", "page": "//evil.example"}).location == "/memo/"
    browser.post("/preferences", data={"language": "xx", "theme": "pink"})
    page = browser.page()
    assert '<html lang="ko" data-theme="dark">' in page
    assert "안녕하세요" in page
    # What the API and errors say follows, too.
    assert "최대 200자" in browser.post("/memo", json={"text": "x" * 201}).text
    assert "없는 페이지입니다" in browser.get("/nothing", headers={"Accept": "text/html"}).text
