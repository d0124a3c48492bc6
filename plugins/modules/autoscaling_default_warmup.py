#!/usr/bin/python
"""Set an Auto Scaling group's default instance warm-up, which no module of amazon.aws 11 can."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from botocore.exceptions import BotoCoreError, ClientError

if TYPE_CHECKING:
    from mypy_boto3_autoscaling import AutoScalingClient

DOCUMENTATION = r"""
module: autoscaling_default_warmup
short_description: Set an Auto Scaling group's default instance warm-up
description:
  - Until it has passed, a new instance's metrics do not count, so that its start does not look like load.
options:
  name:
    description: The group's name.
    type: str
    required: true
  seconds:
    description: The warm-up.
    type: int
    required: true
extends_documentation_fragment:
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.boto3
author: memo-server
"""

EXAMPLES = r"""
- name: Count new instances after two minutes
  autoscaling_default_warmup:
    name: memo-server-web
    seconds: 120
"""

RETURN = r"""
seconds:
  description: The warm-up before.
  type: int
  returned: success
"""


class NoSuchGroupError(Exception):
    """There is no group of that name."""


def set_warmup(autoscaling: AutoScalingClient, name: str, seconds: int, *, check_mode: bool) -> dict[str, Any]:
    """Set the warm-up when it differs.

    Args:
        autoscaling: an Auto Scaling client.
        name: the group.
        seconds: the warm-up.
        check_mode: change nothing.

    Returns:
        `changed`, and `seconds` as it was before (None when it was not set).

    Raises:
        NoSuchGroupError: there is no such group.
    """
    groups = autoscaling.describe_auto_scaling_groups(AutoScalingGroupNames=[name])["AutoScalingGroups"]
    if not groups:
        raise NoSuchGroupError(f"There is no Auto Scaling group {name}: run playbooks/create-autoscaling-group.yml.")
    before = groups[0].get("DefaultInstanceWarmup")
    changed = before != seconds
    if changed and not check_mode:
        autoscaling.update_auto_scaling_group(AutoScalingGroupName=name, DefaultInstanceWarmup=seconds)
    return {"changed": changed, "seconds": before}


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleAWSModule(
        argument_spec={"name": {"type": "str", "required": True}, "seconds": {"type": "int", "required": True}},
        supports_check_mode=True,
    )
    client = module.client("autoscaling")
    try:
        answer = set_warmup(client, module.params["name"], module.params["seconds"], check_mode=module.check_mode)
    except NoSuchGroupError as error:
        module.fail_json(msg=str(error))
    except (BotoCoreError, ClientError) as error:
        module.fail_json_aws(error, msg="The default instance warm-up could not be set")
    module.exit_json(**answer)


if __name__ == "__main__":
    main()
