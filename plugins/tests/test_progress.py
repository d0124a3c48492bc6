"""A person who waits for a playbook sees what it waits for, while it waits."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from localcloud.tests.commands import output_of
from plugins.action.instance_refresh import following
from plugins.callback.still_at_work import EVERY, Waits

PROJECT = Path(__file__).parents[2]


def test_lines_are_shown_when_they_are_written(tmp_path: Path) -> None:
    path = tmp_path / "progress"
    path.touch()
    shown: list[str] = []
    with following(path, shown.append), path.open("a", encoding="utf-8") as file:
        file.write("50 %: i-1 in service\n75 %")
        file.flush()
        deadline = time.monotonic() + 60
        while not shown:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        # Half a line is no line yet.
        assert shown == ["50 %: i-1 in service"]
        file.write(": i-2 warming up\n100 %\n")
    assert shown == ["50 %: i-1 in service", "75 %: i-2 warming up", "100 %"]
    assert "progress" not in {thread.name for thread in threading.enumerate()}


def test_what_fails_is_followed_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "progress"
    path.touch()
    shown: list[str] = []

    def fail() -> None:
        with following(path, shown.append):
            path.write_text("the last words\n", encoding="utf-8")
            raise OSError("no such")

    with pytest.raises(OSError, match="no such"):
        fail()
    assert shown == ["the last words"]


def test_only_what_takes_long_is_named() -> None:
    now = 0.0
    waits = Waits(lambda: now)
    waits.begin("t1", "db", "Install Docker")
    now = EVERY - 1
    waits.begin("t1", "web", "Install Docker")
    waits.begin("t2", "builder", "Make the image")
    assert waits.lines() == []
    now = EVERY + 1
    assert waits.lines() == ["    … 11 s: Install Docker (db, web)"]
    # Said once, and again after as long.
    assert waits.lines() == []
    waits.end("t1", "db")
    waits.end("t1", "db")
    now = 2 * EVERY
    assert waits.lines() == ["    … 11 s: Make the image (builder)"]
    now = 2 * EVERY + 1
    assert waits.lines() == ["    … 12 s: Install Docker (web)"]


@pytest.mark.slow
def test_a_silent_task_is_named_while_it_is_under_way(tmp_path: Path) -> None:
    """The real thing: a fork, a worker, and a line that comes before the task has ended: it ends when that is seen."""
    play = tmp_path / "play.yml"
    seen = tmp_path / "seen"
    play.write_text(
        "- hosts: localhost\n  gather_facts: false\n  tasks:\n"
        f"    - name: Boot slowly\n      ansible.builtin.shell: until test -e {seen}; do sleep 0.1; done\n"
        "    - name: Be quick\n      ansible.builtin.command: 'true'\n",
        encoding="utf-8",
    )
    program = Path(sys.executable).with_name("ansible-playbook")
    process = subprocess.Popen(
        [str(program), "-i", "localhost,", "-c", "local", str(play)],
        cwd=PROJECT,
        env={**os.environ, "ANSIBLE_PYTHON_INTERPRETER": sys.executable, "ANSIBLE_INVENTORY_ENABLED": "host_list"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    output = output_of(process, lambda line: seen.touch() if "…" in line else None)
    assert process.returncode == 0, output
    before, _, after = output.partition("changed: [localhost]")
    (told,) = re.findall(r"^    … (\d+) s: Boot slowly \(localhost\)$", before, re.MULTILINE)
    assert int(told) >= EVERY
    assert "…" not in after
