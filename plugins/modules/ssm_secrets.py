#!/usr/bin/python
"""Keep a set of secrets in SSM Parameter Store: generate once what has no value, store what has one."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from botocore.exceptions import BotoCoreError, ClientError

if TYPE_CHECKING:
    from mypy_boto3_ssm import SSMClient

DOCUMENTATION = r"""
module: ssm_secrets
short_description: Generate secrets once and keep them in SSM Parameter Store
description:
  - A parameter without a value gets a random one when it does not exist, and is left alone when it does.
  - A parameter with a value is stored as given. An empty value means "keep what is stored".
  - Returns the values, so the task needs C(no_log).
options:
  parameters:
    description: The secrets.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: The parameter's name, a path.
        type: str
        required: true
      value:
        description: The value to store. Absent to generate one, empty to keep the stored one.
        type: str
  tags:
    description: Tags for parameters that are created.
    type: dict
    default: {}
extends_documentation_fragment:
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.boto3
author: memo-server
"""

EXAMPLES = r"""
- name: Keep the secrets
  ssm_secrets:
    parameters:
      - name: /memo-server/app/secret-key
      - name: /memo-server/app/naver-client-id
        value: "{{ memo_server_naver_client_id }}"
  no_log: true
  register: stored
"""

RETURN = r"""
values:
  description: The values by name. In check mode, a parameter that would be generated is an empty string.
  type: dict
  returned: success
created:
  description: Names of the parameters that were created.
  type: list
  returned: success
updated:
  description: Names of the parameters that got another value.
  type: list
  returned: success
"""

_BATCH = 10
"""GetParameters takes at most ten names (SSM API Reference)."""

_RANDOM_BYTES = 32


class MissingSecretError(Exception):
    """A value that only a person can give is neither given nor stored; the text names the fix."""


def read(ssm: SSMClient, names: list[str]) -> dict[str, str]:
    """The stored values, decrypted, of those names that exist."""
    found: dict[str, str] = {}
    for start in range(0, len(names), _BATCH):
        answer = ssm.get_parameters(Names=names[start : start + _BATCH], WithDecryption=True)
        found.update({parameter["Name"]: parameter["Value"] for parameter in answer["Parameters"]})
    return found


def keep(ssm: SSMClient, parameters: list[dict[str, Any]], tags: dict[str, str], *, check_mode: bool) -> dict[str, Any]:
    """Make Parameter Store hold the secrets.

    Args:
        ssm: an SSM client.
        parameters: `name`, and `value` or None.
        tags: tags of parameters that are created.
        check_mode: change nothing.

    Returns:
        The module's return values.

    Raises:
        MissingSecretError: an empty value, and nothing stored.
    """
    stored = read(ssm, [parameter["name"] for parameter in parameters])
    missing = [one for one in parameters if one.get("value") == "" and one["name"] not in stored]
    if missing:
        raise MissingSecretError(f"neither given nor stored: {', '.join(one['name'] for one in missing)}")
    values = dict(stored)
    created: list[str] = []
    updated: list[str] = []
    for parameter in parameters:
        name, wanted = parameter["name"], parameter.get("value")
        if name in stored:
            if not wanted or wanted == stored[name]:
                continue
            updated.append(name)
            if not check_mode:
                ssm.put_parameter(Name=name, Value=wanted, Type="SecureString", Overwrite=True)
        else:
            created.append(name)
            if check_mode:
                values[name] = wanted or ""
                continue
            wanted = wanted or secrets.token_urlsafe(_RANDOM_BYTES)
            ssm.put_parameter(
                Name=name,
                Value=wanted,
                Type="SecureString",
                Tags=[{"Key": key, "Value": value} for key, value in tags.items()],
            )
        values[name] = wanted
    return {"changed": bool(created or updated), "values": values, "created": created, "updated": updated}


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleAWSModule(
        argument_spec={
            "parameters": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "no_log": False,
                "options": {
                    "name": {"type": "str", "required": True},
                    "value": {"type": "str", "no_log": True},
                },
            },
            "tags": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    try:
        answer = keep(
            module.client("ssm"), module.params["parameters"], module.params["tags"], check_mode=module.check_mode
        )
    except MissingSecretError as error:
        module.fail_json(msg=str(error))
    except (BotoCoreError, ClientError) as error:
        module.fail_json_aws(error, msg="SSM Parameter Store could not be read or written")
    module.exit_json(**answer)


if __name__ == "__main__":
    main()
