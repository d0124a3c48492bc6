#!/usr/bin/python
"""Read all that the account says of a fleet, in one process."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from botocore.exceptions import BotoCoreError, ClientError

if TYPE_CHECKING:
    from plugins.module_utils.fleet import FleetReader
else:
    # Where Ansible puts what lies in plugins/module_utils.
    from ansible.module_utils.fleet import FleetReader

DOCUMENTATION = r"""
module: fleet_info
short_description: Read a fleet's versions, instances, images, alarms, refreshes and records
description:
  - One module instead of ten, because the answers belong together and starting boto3 costs a second each time.
  - What does not exist is empty, so that it works on an empty account and on a half-made one.
options:
  project:
    description: The project's name; its images carry it in the tag C(Project), its records in their names.
    type: str
    required: true
  template:
    description: The launch template's name.
    type: str
    required: true
  group:
    description: The Auto Scaling group's name.
    type: str
    required: true
  load_balancer:
    description: The load balancer's name.
    type: str
    required: true
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
- name: Read the fleet
  fleet_info:
    project: memo-server
    template: memo-server-web
    group: memo-server-web
    load_balancer: memo-server-load-balancer
  register: found
"""

RETURN = r"""
fleet:
  description: The fleet.
  type: dict
  returned: success
  contains:
    template:
      description: "C(id), C(name), C(default), C(latest), and the versions that are C(good) and C(void), ascending."
      type: dict
    versions:
      description: "Newest first: C(number), C(image_id), C(created), C(good), C(void), C(instances)."
      type: list
      elements: dict
    group:
      description: "C(name), C(version), C(min), C(max), C(desired), C(suspended)."
      type: dict
    instances:
      description: >-
        The group's: C(id), C(version), C(state), C(health), C(zone), C(private_ip), C(launched), C(target).
      type: list
      elements: dict
    images:
      description: >-
        The project's, newest first: C(id), C(name), C(state), C(created), C(age_days), C(tags), C(snapshots),
        C(versions), C(instances).
      type: list
      elements: dict
    alarms:
      description: "Those of the group's scaling policies: C(name), C(state), C(reason)."
      type: list
      elements: dict
    refreshes:
      description: >-
        The last five, newest first: C(id), C(status), C(percentage), C(version), C(started), C(ended), C(reason).
      type: list
      elements: dict
    lock:
      description: >-
        Who changes the fleet now: C(id), C(action), C(user), C(host), C(since), C(told); empty when nobody does.
      type: dict
    history:
      description: The audit records, newest first.
      type: list
      elements: dict
    dns_name:
      description: The load balancer's.
      type: str
    maintenance:
      description: Whether the load balancer answers with the maintenance page.
      type: bool
"""

_CLIENTS = ("ec2", "autoscaling", "elbv2", "cloudwatch", "ssm")


def main() -> None:
    """Run as an Ansible module."""
    names = ("project", "template", "group", "load_balancer")
    module = AnsibleAWSModule(
        argument_spec={name: {"type": "str", "required": True} for name in names}, supports_check_mode=True
    )
    try:
        clients = {name: module.client(name) for name in _CLIENTS}
        given = {name: module.params[name] for name in names}
        fleet = FleetReader(clients=clients, now=datetime.now(UTC), **given).read()
    except (BotoCoreError, ClientError) as error:
        module.fail_json_aws(error, msg="The fleet could not be read")
    module.exit_json(changed=False, fleet=fleet)


if __name__ == "__main__":
    main()
