"""At the end of a run that held the lock: write the audit record, and free the lock, whatever happened."""

from __future__ import annotations

import importlib.util
import sys
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
from ansible.plugins.callback import CallbackBase
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

DOCUMENTATION = r"""
name: deploy_record
type: notification
short_description: Free the deploy lock and write the audit record
description:
  - Watches for the module M(deploy_lock). When a run that took the lock ends, the lock is freed and, if the run changed
    something or failed, a record is added to the audit trail in SSM Parameter Store. playbooks/history.yml shows it.
  - Connects as that task did. Keeps nothing of it, and copies nothing of a task that has C(no_log).
"""

_CONNECTION = {
    "profile": "profile_name",
    "access_key": "aws_access_key_id",
    "secret_key": "aws_secret_access_key",
    "session_token": "aws_session_token",
    "region": "region_name",
}
_TIMEOUTS = Config(connect_timeout=5, read_timeout=20, retries={"max_attempts": 2})


def _records_module() -> Any:  # noqa: ANN401 - a module
    """Load plugins/module_utils/deploy_records.py: a callback runs in Ansible itself, which has no path to it."""
    path = Path(__file__).parents[1] / "module_utils" / "deploy_records.py"
    spec = importlib.util.spec_from_file_location("memo_server_deploy_records", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    return module


class CallbackModule(CallbackBase):  # type: ignore[misc]  # ansible-core has no type hints
    """The plugin; see DOCUMENTATION."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "deploy_record"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - the parent's signature
        super().__init__(*args, **kwargs)
        self._utils = _records_module()
        self._run = self._utils.Run.of_this_process(uuid.uuid4().hex[:12])
        self._run.to_environment()
        self._began = datetime.now(UTC)
        self._clock = time.monotonic()
        self._arguments: dict[str, Any] = {}
        self._note: dict[str, Any] = {}
        self._failure: dict[str, str] = {}
        self._item: str | None = None

    def v2_runner_on_ok(self, result: Any) -> None:  # noqa: ANN401 - Ansible's result
        """Remember that the lock was taken, and what is to be noted."""
        task = result.task
        if task.action.rpartition(".")[2] != "deploy_lock" or task.check_mode:
            return
        arguments = result.task_fields["args"]
        if arguments.get("state", "held") == "held":
            self._arguments = dict(arguments)
        self._note |= result.result.get("note") or {}

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:  # noqa: ANN401
        """Remember the last failure: after a rescue it is the one that tells the story."""
        if not ignore_errors and result.task.get_name() != self._item:
            self._remember(result)
        self._item = None

    def v2_runner_item_on_failed(self, result: Any) -> None:  # noqa: ANN401
        """Remember what an item said; the task as a whole only says that one failed."""
        self._remember(result)
        self._item = result.task.get_name()

    def v2_runner_on_unreachable(self, result: Any) -> None:  # noqa: ANN401
        """Remember that a host could not be reached."""
        self._remember(result)

    def v2_playbook_on_stats(self, stats: Any) -> None:  # noqa: ANN401
        """End what the run began."""
        if not self._arguments:
            return
        failed = bool(stats.failures or stats.dark)
        try:
            records = self._utils.Records(self._client(), self._arguments["project"])
            if self._arguments["action"] != "destroy" and (failed or stats.changed):
                records.write(self._record(failed=failed), self._arguments.get("tags") or {})
            records.release(self._run.id)
        except (BotoCoreError, ClientError) as error:
            self._display.warning(
                f"The audit record could not be written, or the lock not freed: {error}. "
                "ansible-playbook playbooks/unlock.yml shows the lock."
            )

    def _remember(self, result: Any) -> None:  # noqa: ANN401
        task = result.task
        message = "its output is hidden (no_log)" if task.no_log else str(result.result.get("msg") or "")
        self._failure = {"task": task.get_name(), "message": message}

    def _record(self, *, failed: bool) -> dict[str, Any]:
        return {
            "id": self._run.id,
            "action": self._arguments["action"],
            "user": self._utils.getpass.getuser(),
            "host": self._run.host,
            "began": self._began.isoformat(timespec="seconds"),
            "seconds": round(time.monotonic() - self._clock, 1),
            "result": "failed" if failed else "ok",
            **self._note,
            **(self._failure if failed else {}),
        }

    def _client(self) -> Any:  # noqa: ANN401 - a boto3 client
        given = {theirs: self._arguments[ours] for ours, theirs in _CONNECTION.items() if self._arguments.get(ours)}
        return boto3.session.Session(**given).client(
            "ssm", endpoint_url=self._arguments.get("endpoint_url") or None, config=_TIMEOUTS
        )
