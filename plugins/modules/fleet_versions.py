#!/usr/bin/python
"""Mark versions of a launch template as good or void, and read the marks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from botocore.exceptions import BotoCoreError, ClientError

if TYPE_CHECKING:
    from plugins.module_utils.version_marks import Marks, tags_of
else:
    # Where Ansible puts what lies in plugins/module_utils.
    from ansible.module_utils.version_marks import Marks, tags_of

DOCUMENTATION = r"""
module: fleet_versions
short_description: Mark versions of a launch template as good or void
description:
  - A version is I(good) once it was verified through the load balancer. It is I(void) once a rollback left it; a deploy
    and a rollback never choose it again.
  - The marks are two tags of the launch template, C(good) and C(void), with the newest versions' numbers.
  - A template that does not exist has no marks; marking then fails.
options:
  name:
    description: The launch template's name.
    type: str
    required: true
  good:
    description: Versions that are good; they are void no more.
    type: list
    elements: int
    default: []
  void:
    description: Versions that are void; they are good no more.
    type: list
    elements: int
    default: []
  unvoid:
    description: Versions that may be chosen again.
    type: list
    elements: int
    default: []
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
extends_documentation_fragment:
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.boto3
author: memo-server
"""

EXAMPLES = r"""
- name: Version 7 serves
  fleet_versions:
    name: memo-server-web
    good: [7]

- name: Version 7 was left
  fleet_versions:
    name: memo-server-web
    void: [7]
"""

RETURN = r"""
good:
  description: The good versions, ascending.
  type: list
  elements: int
  returned: success
void:
  description: The void versions, ascending.
  type: list
  elements: int
  returned: success
"""

_NOT_FOUND = "InvalidLaunchTemplateName.NotFoundException"


class NoSuchTemplateError(Exception):
    """There is no launch template, or not that version of it; the text says which."""


def mark(ec2: Any, name: str, changes: dict[str, list[int]], *, check_mode: bool) -> dict[str, Any]:  # noqa: ANN401
    """Mark versions.

    Args:
        ec2: an EC2 client.
        name: the launch template.
        changes: `good`, `void` and `unvoid`, each a list of numbers.
        check_mode: change nothing.

    Returns:
        The module's return values.

    Raises:
        NoSuchTemplateError: a version to be marked does not exist.
    """
    template = _find(ec2, name)
    wanted = sorted({number for numbers in changes.values() for number in numbers})
    if template is None:
        if wanted:
            raise NoSuchTemplateError(f"There is no launch template {name}: run ansible-playbook site.yml first.")
        return {"changed": False, "good": [], "void": []}
    latest = int(template["LatestVersionNumber"])
    beyond = [number for number in wanted if not 0 < number <= latest]
    if beyond:
        raise NoSuchTemplateError(f"{name} has no version {beyond[0]}; its versions are 1 to {latest}.")
    before = Marks.from_tags(tags_of(template))
    after = before.marked(**changes)
    changed = after.to_tags() != before.to_tags()
    if changed and not check_mode:
        _write(ec2, template["LaunchTemplateId"], before.to_tags(), after.to_tags())
    diff = {"before": before.to_tags(), "after": after.to_tags()}
    return {"changed": changed, "good": list(after.good), "void": list(after.void), "diff": diff}


def _find(ec2: Any, name: str) -> dict[str, Any] | None:  # noqa: ANN401
    try:
        found: list[dict[str, Any]] = ec2.describe_launch_templates(LaunchTemplateNames=[name])["LaunchTemplates"]
    except ClientError as error:
        if error.response["Error"]["Code"] == _NOT_FOUND:
            return None
        raise
    return found[0]


def _write(ec2: Any, template_id: str, before: dict[str, str], after: dict[str, str]) -> None:  # noqa: ANN401
    if after:
        tags = [{"Key": key, "Value": value} for key, value in after.items()]
        ec2.create_tags(Resources=[template_id], Tags=tags)
    gone = [{"Key": key} for key in before if key not in after]
    if gone:
        ec2.delete_tags(Resources=[template_id], Tags=gone)


def main() -> None:
    """Run as an Ansible module."""
    numbers: dict[str, Any] = {"type": "list", "elements": "int", "default": []}
    module = AnsibleAWSModule(
        argument_spec={"name": {"type": "str", "required": True}, "good": numbers, "void": numbers, "unvoid": numbers},
        supports_check_mode=True,
    )
    changes = {key: module.params[key] for key in ("good", "void", "unvoid")}
    try:
        answer = mark(module.client("ec2"), module.params["name"], changes, check_mode=module.check_mode)
    except NoSuchTemplateError as error:
        module.fail_json(msg=str(error))
    except (BotoCoreError, ClientError) as error:
        module.fail_json_aws(error, msg="The launch template's marks could not be read or written")
    module.exit_json(**answer)


if __name__ == "__main__":
    main()
