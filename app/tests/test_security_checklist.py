"""docs/security.md: no requirement is missing, every test it names exists, and what it says in numbers is so."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
import yaml
from memo.config import Settings
from memo_testing.browser import Browser

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/security.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| (\d+\.\d+\.\d+) \| (.+?) \| (.+?) \| (.*?) ?\|$", TEXT, re.MULTILINE)

SECTIONS = {
    "3.2": 2,
    "3.3": 4,
    "3.4": 6,
    "3.5": 5,
    "3.7": 2,
    "7.1": 3,
    "7.2": 4,
    "7.3": 2,
    "7.4": 5,
    "7.5": 2,
    "7.6": 2,
    "10.1": 2,
    "10.2": 2,
    "10.5": 5,
}
"""How many requirements of levels 1 and 2 a section of OWASP ASVS 5.0.0 has; those of level 3 come after them."""

ANSWERS = ("met", "partly", "not met", "not applicable")


def test_no_requirement_is_missing() -> None:
    wanted = [f"{section}.{number + 1}" for section, most in SECTIONS.items() for number in range(most)]
    assert [row[0] for row in ROWS] == wanted


@pytest.mark.parametrize(("number", "asked", "answer", "tests"), ROWS, ids=[row[0] for row in ROWS])
def test_each_line_has_an_answer_and_tests_that_exist(number: str, asked: str, answer: str, tests: str) -> None:
    assert answer.startswith(ANSWERS)
    if not answer.startswith("met"):
        assert ":" in answer, "say why"
    named = re.findall(r"`([^`]+)::([^`]+)`", tests)
    assert named or answer.startswith("not applicable")
    for file, name in named:
        source = (ROOT / file).read_text(encoding="utf-8")
        if file.endswith(".yml"):
            assert name in {task["name"] for play in yaml.safe_load(source) for task in play["tasks"]}, (
                f"{file}: {name}"
            )
        else:
            functions = {node.name for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)}
            assert name in functions, f"{file}: {name}"


def test_the_time_outs_written_down_are_the_defaults() -> None:
    (written,) = re.findall(r"They end (\d+) hours after the last request and (\d+) days after the log-in", TEXT)
    fields = Settings.__dataclass_fields__
    defaults = fields["session_idle_seconds"].default, fields["session_absolute_seconds"].default
    assert defaults == (int(written[0]) * 3600, int(written[1]) * 24 * 3600)


@pytest.mark.parametrize("path", ["/", "/deleted", "/account", "/memos/{id}/edit"])
def test_every_page_behind_the_log_in_has_the_way_out(browser: Browser, path: str) -> None:
    browser.log_in()
    memo = browser.post("/memo", json={"text": "a"}).get_json()
    page = browser.get(path.format(id=memo["id"]))
    assert page.status_code == 200
    assert 'action="/memo/logout"' in page.text
    assert 'id="logout"' in page.text


def test_the_script_takes_no_messages_of_other_windows() -> None:
    scripts = list((ROOT / "app/memo/static").glob("*.js"))
    assert scripts
    for script in scripts:
        assert not re.search(r"onmessage|addEventListener\(\s*[\"'`]message", script.read_text(encoding="utf-8")), (
            script
        )
