"""Runs the module instance_refresh, and shows what it sees while it waits."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

_LOOK_EVERY = 0.25


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core has no type hints
    """The action; arguments and results are the module's.

    A module's output reaches Ansible when it ends. So it gets a file to append to, and what is new there is displayed
    meanwhile; Ansible's own Display brings it from this worker process to the terminal. That wants module and file on
    the same host and of the same user: elsewhere the module runs as it is, and tells its progress at the end.
    """

    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the module.

        Args:
            tmp: not used by Ansible any more.
            task_vars: the task's variables.

        Returns:
            What the module returns.
        """
        result: dict[str, Any] = super().run(tmp, task_vars)
        result.update(self._run_module(dict(self._task.args), task_vars))
        return result

    def _run_module(self, arguments: dict[str, Any], task_vars: dict[str, Any] | None) -> dict[str, Any]:
        here = self._connection.transport == "local" and not self._play_context.become
        if not here or arguments.get("progress_file"):
            return dict(self._execute_module(module_args=arguments, task_vars=task_vars))
        with tempfile.TemporaryDirectory(prefix="instance-refresh-") as folder:
            path = Path(folder) / "progress"
            path.touch()
            with following(path, lambda line: Display().display(f"    {line}")):
                arguments["progress_file"] = str(path)
                return dict(self._execute_module(module_args=arguments, task_vars=task_vars))


@contextmanager
def following(path: Path, show: Callable[[str], None]) -> Iterator[None]:
    """Show each line that is appended to a file, in the background, until the block ends; then what is left.

    Args:
        path: the file; it is there already.
        show: gets each line, without its end.
    """
    done = threading.Event()

    def follow() -> None:
        with path.open(encoding="utf-8") as file:
            begun = ""
            last = False
            while True:
                for piece in file:
                    begun += piece
                    if begun.endswith("\n"):
                        show(begun.rstrip("\n"))
                        begun = ""
                if last:
                    return
                last = done.wait(_LOOK_EVERY)

    thread = threading.Thread(target=follow, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
