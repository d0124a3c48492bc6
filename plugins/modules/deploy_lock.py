#!/usr/bin/python
"""Let one run at a time change the fleet, and note what the audit trail shall say of it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from botocore.exceptions import BotoCoreError, ClientError

if TYPE_CHECKING:
    from plugins.module_utils.deploy_records import LockedError, Records, Run
else:
    # Where Ansible puts what lies in plugins/module_utils.
    from ansible.module_utils.deploy_records import LockedError, Records, Run

DOCUMENTATION = r"""
module: deploy_lock
short_description: Let one run at a time change the fleet
description:
  - Takes a lock for this run of Ansible, in SSM Parameter Store, or fails in words that say who has it. A run that has
    it already may take it again.
  - The callback plugin C(deploy_record) frees it at the end of the run, good or bad, and writes the audit record.
  - The lock of a run on this host that was killed is taken over. One from another host is not, since nobody here can
    tell whether that run is dead; playbooks/unlock.yml frees it.
  - Taking the lock is no change. In check mode it is looked at only.
options:
  project:
    description: The project's name, the first part of the parameters' names.
    type: str
    required: true
  state:
    description:
      - V(held) takes the lock.
      - V(noted) only adds O(note) to this run's record.
      - V(free) frees the lock of the run that O(confirm) names, whoever holds it.
    type: str
    choices: [held, noted, free]
    default: held
  action:
    description: What it is taken for, as others will read it; for O(state=held).
    type: str
  note:
    description: Facts for this run's record, such as the version that is deployed. Never a secret.
    type: dict
    default: {}
  confirm:
    description: The id of the run whose lock is to be freed; for O(state=free).
    type: str
  tags:
    description: Tags of the parameters.
    type: dict
    default: {}
attributes:
  check_mode:
    support: full
    description: Says who holds the lock and changes nothing.
extends_documentation_fragment:
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.boto3
author: memo-server
"""

EXAMPLES = r"""
- name: Let nobody else deploy meanwhile
  deploy_lock:
    project: memo-server
    action: deploy

- name: Note what the audit trail shall say
  deploy_lock:
    project: memo-server
    state: noted
    note:
      version: 7
      previous: 6
"""

RETURN = r"""
msg:
  description: What there is to say about it.
  type: str
  returned: success
lock:
  description: The lock as it was found; empty when nobody held it.
  type: dict
  returned: always
  sample: {"id": "…", "action": "deploy", "user": "alice", "host": "laptop", "since": "2026-11-23T02:10:00+00:00"}
note:
  description: The facts for the record.
  type: dict
  returned: success
"""


def keep(records: Records, params: dict[str, Any], run: Run | None, *, check_mode: bool) -> dict[str, Any]:
    """Bring the lock into the wanted state.

    Args:
        records: the project's lock and trail.
        params: the module's parameters.
        run: the run of Ansible that this process works for.
        check_mode: change nothing.

    Returns:
        The module's return values.

    Raises:
        LockedError: somebody else has the lock, or it is not the one that is to be freed.
    """
    answer: dict[str, Any] = {"changed": False, "msg": "", "lock": {}, "note": params["note"]}
    if params["state"] == "noted":
        return answer
    held = records.lock()
    answer["lock"] = held.described() if held else {}
    now = datetime.now(UTC)
    if params["state"] == "free":
        return {**answer, **_free(records, params["confirm"], now, check_mode=check_mode)}
    if check_mode:
        if held is not None:
            answer["msg"] = f"Held now: {held.told(now)}. A real run would have to wait."
        return answer
    if run is None:
        raise LockedError(
            "No callback would free the lock at the end: put deploy_record into callbacks_enabled in ansible.cfg, and "
            "run Ansible in the project's folder."
        )
    answer["msg"] = records.take(run, params["action"], params["tags"], now)
    answer["warnings"] = [answer["msg"]] if answer["msg"] else []
    return answer


def _free(records: Records, confirm: str | None, now: datetime, *, check_mode: bool) -> dict[str, Any]:
    held = records.lock()
    if held is None:
        return {"msg": "Nobody holds the lock."}
    if confirm != held.run.id:
        raise LockedError(
            f"The lock is held: {held.told(now)}. If that run is dead for sure, free it with -e confirm={held.run.id}"
        )
    if not check_mode:
        records.release(held.run.id)
    return {"changed": True, "msg": f"Freed the lock that was held: {held.told(now)}."}


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleAWSModule(
        argument_spec={
            "project": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["held", "noted", "free"], "default": "held"},
            "action": {"type": "str"},
            "note": {"type": "dict", "default": {}},
            "confirm": {"type": "str"},
            "tags": {"type": "dict", "default": {}},
        },
        required_if=[("state", "held", ["action"])],
        supports_check_mode=True,
    )
    try:
        records = Records(module.client("ssm"), module.params["project"])
        answer = keep(records, module.params, Run.from_environment(), check_mode=module.check_mode)
    except LockedError as error:
        module.fail_json(msg=str(error))
    except (BotoCoreError, ClientError) as error:
        module.fail_json_aws(error, msg="The lock could not be read or written")
    for said in answer.pop("warnings", []):
        module.warn(said)
    module.exit_json(**answer)


if __name__ == "__main__":
    main()
