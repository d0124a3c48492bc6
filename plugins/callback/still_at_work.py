"""Says what a run is still at work on, and for how long, while a task is silent."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = r"""
name: still_at_work
type: notification
short_description: Say what a run is still at work on
description:
  - A task's output comes when it ends. While one takes longer than ten seconds, as making an image, booting an
    instance or installing packages does, this names it with its hosts and its seconds, every ten seconds.
  - Leaves out M(instance_refresh), which tells more of itself.
"""

EVERY = 10.0
"""Seconds."""
_LOOK_EVERY = 1.0
_TELL_THEMSELVES = {"instance_refresh", "pause"}


class Waits:
    """The tasks that are under way, by task and host.

    Args:
        clock: seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._began: dict[tuple[str, str], tuple[str, float]] = {}
        self._told: dict[str, float] = {}

    def begin(self, task: str, host: str, name: str) -> None:
        """A host begins a task."""
        with self._lock:
            self._began[task, host] = (name, self._clock())

    def end(self, task: str, host: str) -> None:
        """A host has ended a task, in whatever way."""
        with self._lock:
            self._began.pop((task, host), None)

    def lines(self) -> list[str]:
        """Return a line for each task that is under way and of which nothing has been said for `EVERY` seconds."""
        now = self._clock()
        waiting: dict[str, list[tuple[str, str, float]]] = {}
        with self._lock:
            for (task, host), (name, began) in self._began.items():
                waiting.setdefault(task, []).append((host, name, began))
        self._told = {task: at for task, at in self._told.items() if task in waiting}
        lines = []
        for task, hosts in waiting.items():
            since = min(began for _, _, began in hosts)
            if now - max(since, self._told.get(task, since)) >= EVERY:
                self._told[task] = now
                lines.append(f"    … {now - since:.0f} s: {hosts[0][1]} ({', '.join(host for host, _, _ in hosts)})")
        return lines


class CallbackModule(CallbackBase):  # type: ignore[misc]  # ansible-core has no type hints
    """The plugin; see DOCUMENTATION."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "still_at_work"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - the parent's signature
        super().__init__(*args, **kwargs)
        self._waits = Waits()
        self._ended = threading.Event()

    def v2_playbook_on_start(self, playbook: Any) -> None:  # noqa: ANN401 - Ansible's playbook
        """Begin to watch, in a thread that has its own table and the display, which Ansible locks while it forks."""
        threading.Thread(target=self._tell, name="still-at-work", daemon=True).start()

    def v2_runner_on_start(self, host: Any, task: Any) -> None:  # noqa: ANN401
        """A host begins a task."""
        if task.action.rpartition(".")[2] not in _TELL_THEMSELVES:
            self._waits.begin(task._uuid, host.get_name(), task.get_name())

    def v2_runner_on_ok(self, result: Any) -> None:  # noqa: ANN401
        """A host is done."""
        self._end(result)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:  # noqa: ANN401
        """A host has failed."""
        self._end(result)

    def v2_runner_on_skipped(self, result: Any) -> None:  # noqa: ANN401
        """A host had nothing to do."""
        self._end(result)

    def v2_runner_on_unreachable(self, result: Any) -> None:  # noqa: ANN401
        """A host could not be reached."""
        self._end(result)

    def v2_playbook_on_stats(self, stats: Any) -> None:  # noqa: ANN401
        """The run is over."""
        self._ended.set()

    def _end(self, result: Any) -> None:  # noqa: ANN401
        self._waits.end(result.task._uuid, result.host.get_name())

    def _tell(self) -> None:
        while not self._ended.wait(_LOOK_EVERY):
            for line in self._waits.lines():
                self._display.display(line)
