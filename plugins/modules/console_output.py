#!/usr/bin/python
"""Read what instances wrote to their consoles last; those that were terminated a short while ago too."""

from __future__ import annotations

import re
from typing import Any

from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from botocore.exceptions import BotoCoreError, ClientError

DOCUMENTATION = r"""
module: console_output
short_description: Read the last lines of instances' consoles
description:
  - EC2 keeps an instance's console output for about an hour after it was terminated, so that a replacement that never
    became healthy can still say why. AWS posts it shortly after boot, reboot and termination.
  - The memo service writes its last journal lines there when it does not start.
options:
  instance_ids:
    description: The instances. Those that EC2 knows no more are left out.
    type: list
    elements: str
    required: true
  lines:
    description: How many lines of each.
    type: int
    default: 15
attributes:
  check_mode:
    support: full
extends_documentation_fragment:
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.boto3
author: memo-server
"""

EXAMPLES = r"""
- name: Read what the failed instance said
  console_output:
    instance_ids:
      - i-0123456789abcdef0
  register: consoles
"""

RETURN = r"""
lines:
  description: The last lines by instance, without terminal colours and without cloud-init's own report.
  type: dict
  returned: success
told:
  description: The same in one text; empty when there is nothing to tell.
  type: str
  returned: success
"""

_COLOURS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_KERNEL_TIME = re.compile(r"^\[ *\d+\.\d+\] ")
_NOISE = re.compile(r"cloud-init\[\d+\]:|^ci-info:|^-----(BEGIN|END) SSH|^(ecdsa|ssh)-\S+ \S{60,}")


def last_lines(output: str, most: int) -> list[str]:
    """The end of a console's output as a person wants to read it.

    Args:
        output: as GetConsoleOutput gives it, decoded.
        most: how many lines.
    """
    lines = (_COLOURS.sub("", line).strip() for line in output.splitlines())
    kept = [_KERNEL_TIME.sub("", line) for line in lines if line and not _NOISE.search(line)]
    return kept[-most:] if most else []


def read(ec2: Any, instance_ids: list[str], most: int) -> dict[str, Any]:  # noqa: ANN401 - a boto3 client
    """Read consoles.

    Args:
        ec2: an EC2 client.
        instance_ids: the instances.
        most: how many lines of each.

    Returns:
        The module's return values.
    """
    found: dict[str, list[str]] = {}
    for instance_id in instance_ids:
        try:
            answer = ec2.get_console_output(InstanceId=instance_id)
        except ClientError as error:
            if error.response["Error"]["Code"] in ("InvalidInstanceID.NotFound", "InvalidInstanceID.Malformed"):
                continue
            raise
        # botocore has decoded the base64 already.
        found[instance_id] = last_lines(answer.get("Output") or "", most)
    told = " ".join(f"{key} said last: {' | '.join(lines)}" for key, lines in found.items() if lines)
    return {"changed": False, "lines": found, "told": told}


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleAWSModule(
        argument_spec={
            "instance_ids": {"type": "list", "elements": "str", "required": True},
            "lines": {"type": "int", "default": 15},
        },
        supports_check_mode=True,
    )
    try:
        answer = read(module.client("ec2"), module.params["instance_ids"], module.params["lines"])
    except (BotoCoreError, ClientError) as error:
        module.fail_json_aws(error, msg="The consoles could not be read")
    module.exit_json(**answer)


if __name__ == "__main__":
    main()
