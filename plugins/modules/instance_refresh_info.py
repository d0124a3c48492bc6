#!/usr/bin/python
"""Read the instance refreshes of an Auto Scaling group and what its instances run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ansible.module_utils.common.dict_transformations import camel_dict_to_snake_dict
from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from botocore.exceptions import BotoCoreError, ClientError

if TYPE_CHECKING:
    from plugins.module_utils.instance_refresh import ACTIVE, Fleet, RefreshError, serving
else:
    # Where Ansible puts what lies in plugins/module_utils.
    from ansible.module_utils.instance_refresh import ACTIVE, Fleet, RefreshError, serving

DOCUMENTATION = r"""
module: instance_refresh_info
short_description: Read the instance refreshes of an Auto Scaling group
description:
  - Lists the refreshes of the last six weeks, newest first, as AWS keeps them.
  - A group that does not exist has none; RV(exists) tells.
  - Tells which launch template version each instance runs and whether its target groups find it healthy.
options:
  name:
    description: The Auto Scaling group's name.
    type: str
    required: true
    aliases: [group_name]
  ids:
    description: Only the refreshes with these ids.
    type: list
    elements: str
    default: []
extends_documentation_fragment:
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.boto3
author: memo-server
"""

EXAMPLES = r"""
- name: Read how the last refresh went
  instance_refresh_info:
    name: memo-server-web
  register: fleet

- name: Say it
  ansible.builtin.debug:
    msg: "{{ fleet.instance_refreshes[0].status }}; {{ fleet.summary }}"
"""

RETURN = r"""
exists:
  description: Whether there is such a group.
  type: bool
  returned: success
instance_refreshes:
  description: The refreshes, newest first, as DescribeInstanceRefreshes tells them, in snake case.
  type: list
  elements: dict
  returned: success
  sample: [{"instance_refresh_id": "08b91cf7-8fa6-48af-b6a6-d227f40f1b9b", "status": "Successful"}]
active:
  description: The refresh that is not over; empty when there is none.
  type: dict
  returned: success
launch_template:
  description: The launch template and version that the group has saved.
  type: dict
  returned: success
  sample: {"launch_template_name": "memo-server-web", "version": "6"}
instances:
  description: The group's instances.
  type: list
  elements: dict
  returned: success
  contains:
    instance_id:
      description: Its id.
      type: str
      returned: success
    version:
      description: The launch template version that it runs.
      type: str
      returned: success
    lifecycle_state:
      description: Its lifecycle state in the group.
      type: str
      returned: success
    serves:
      description: Whether it is in service and healthy in all of the group's target groups.
      type: bool
      returned: success
    reasons:
      description: Why target groups find it unhealthy.
      type: list
      elements: str
      returned: success
summary:
  description: Which versions serve where, in words.
  type: str
  returned: success
  sample: version 6 serves on i-0123456789abcdef0
"""


def read(fleet: Fleet, ids: list[str]) -> dict[str, Any]:
    """Read everything.

    Args:
        fleet: the group.
        ids: only these refreshes; empty for all.

    Returns:
        The module's return values.
    """
    try:
        group = fleet.group()
    except RefreshError:
        return {
            "changed": False,
            "exists": False,
            "instance_refreshes": [],
            "active": {},
            "launch_template": {},
            "instances": [],
            "summary": f"there is no Auto Scaling group {fleet.name}",
        }
    members, refreshes = fleet.members(), fleet.refreshes(*ids)
    told = [camel_dict_to_snake_dict(one) for one in refreshes]
    return {
        "changed": False,
        "exists": True,
        "instance_refreshes": told,
        "active": next((one for one in told if one["status"] in ACTIVE), {}),
        "launch_template": camel_dict_to_snake_dict(group.get("LaunchTemplate", {})),
        "instances": [
            {
                "instance_id": member.instance_id,
                "version": member.version,
                "lifecycle_state": member.lifecycle,
                "serves": member.serves,
                "reasons": list(member.reasons),
            }
            for member in members
        ],
        "summary": serving(members),
    }


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleAWSModule(
        argument_spec={
            "name": {"type": "str", "required": True, "aliases": ["group_name"]},
            "ids": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    try:
        fleet = Fleet(module.client("autoscaling"), module.client("elbv2"), module.params["name"])
        answer = read(fleet, module.params["ids"])
    except (BotoCoreError, ClientError) as error:
        module.fail_json_aws(error, msg="The instance refreshes could not be read")
    module.exit_json(**answer)


if __name__ == "__main__":
    main()
