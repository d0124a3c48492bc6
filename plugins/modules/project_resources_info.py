#!/usr/bin/python
"""List everything in the account that carries the project's tag, for removal and for the proof that nothing is left."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from botocore.exceptions import BotoCoreError, ClientError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mypy_boto3_autoscaling import AutoScalingClient
    from mypy_boto3_ec2 import EC2Client
    from mypy_boto3_elbv2 import ElasticLoadBalancingv2Client
    from mypy_boto3_iam import IAMClient
    from mypy_boto3_ssm import SSMClient

DOCUMENTATION = r"""
module: project_resources_info
short_description: List everything that carries the project's tag
description:
  - Asks every service the project uses. Terminated instances and what is being deleted do not count.
options:
  project:
    description: Value of the tag Project.
    type: str
    required: true
  role_names:
    description: Names of the IAM roles to look at; IAM cannot find roles by tag.
    type: list
    elements: str
    required: true
extends_documentation_fragment:
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.boto3
author: memo-server
"""

EXAMPLES = r"""
- name: List what there is
  project_resources_info:
    project: memo-server
    role_names: [memo-server-web]
  register: resources
"""

RETURN = r"""
resources:
  description: Ids or names by kind.
  type: dict
  returned: success
  sample: {instances: [i-1], volumes: []}
count:
  description: How many there are in all.
  type: int
  returned: success
"""

_LOAD_BALANCERS_PER_CALL = 20
"""DescribeTags of ELBv2 takes at most 20 ARNs."""


def _tagged(tags: list[Mapping[str, Any]], project: str) -> bool:
    return any(tag.get("Key") == "Project" and tag.get("Value") == project for tag in tags)


def referrers_first(references: dict[str, set[str]]) -> list[str]:
    """Security groups in an order in which they can be deleted: none while another's rule refers to it.

    Args:
        references: for each group the groups its rules refer to; itself does not count.

    Returns:
        The groups. Where two refer to each other, the rest follows in order of id.
    """
    left = {group: {other for other in others if other != group} for group, others in references.items()}
    ordered: list[str] = []
    while left:
        referred = set().union(*left.values())
        free = sorted(set(left) - referred) or sorted(left)
        ordered += free
        left = {group: others for group, others in left.items() if group not in free}
    return ordered


def ec2_resources(ec2: EC2Client, project: str) -> dict[str, list[str]]:
    """What EC2 has: ids (key pairs: names)."""
    tag: list[Any] = [{"Name": "tag:Project", "Values": [project]}]
    alive: list[Any] = [
        *tag,
        {"Name": "instance-state-name", "Values": ["pending", "running", "stopping", "stopped", "shutting-down"]},
    ]
    reservations = ec2.describe_instances(Filters=alive)["Reservations"]
    return {
        "instances": [instance["InstanceId"] for one in reservations for instance in one["Instances"]],
        "images": [one["ImageId"] for one in ec2.describe_images(Owners=["self"], Filters=tag)["Images"]],
        "snapshots": [one["SnapshotId"] for one in ec2.describe_snapshots(OwnerIds=["self"], Filters=tag)["Snapshots"]],
        "volumes": [
            one["VolumeId"] for one in ec2.describe_volumes(Filters=tag)["Volumes"] if one["State"] != "deleting"
        ],
        "security_groups": referrers_first(
            {
                one["GroupId"]: {
                    pair["GroupId"]
                    for rule in one["IpPermissions"] + one["IpPermissionsEgress"]
                    for pair in rule["UserIdGroupPairs"]
                    if "GroupId" in pair
                }
                for one in ec2.describe_security_groups(Filters=tag)["SecurityGroups"]
            }
        ),
        "key_pairs": [one["KeyName"] for one in ec2.describe_key_pairs(Filters=tag)["KeyPairs"]],
        "launch_templates": [
            one["LaunchTemplateId"] for one in ec2.describe_launch_templates(Filters=tag)["LaunchTemplates"]
        ],
    }


def _batches(arns: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(arns), _LOAD_BALANCERS_PER_CALL):
        yield arns[start : start + _LOAD_BALANCERS_PER_CALL]


def elb_resources(elbv2: ElasticLoadBalancingv2Client, project: str) -> dict[str, list[str]]:
    """Names of load balancers and target groups."""
    names: dict[str, dict[str, str]] = {
        "load_balancers": {
            one["LoadBalancerArn"]: one["LoadBalancerName"] for one in elbv2.describe_load_balancers()["LoadBalancers"]
        },
        "target_groups": {
            one["TargetGroupArn"]: one["TargetGroupName"] for one in elbv2.describe_target_groups()["TargetGroups"]
        },
    }
    return {
        kind: [
            by_arn[description["ResourceArn"]]
            for batch in _batches(list(by_arn))
            for description in elbv2.describe_tags(ResourceArns=batch)["TagDescriptions"]
            if _tagged([dict(tag) for tag in description["Tags"]], project)
        ]
        for kind, by_arn in names.items()
    }


def other_resources(
    autoscaling: AutoScalingClient, iam: IAMClient, ssm: SSMClient, project: str, role_names: list[str]
) -> dict[str, list[str]]:
    """Names of Auto Scaling groups, roles and parameters."""
    groups = [
        group["AutoScalingGroupName"]
        for page in autoscaling.get_paginator("describe_auto_scaling_groups").paginate()
        for group in page["AutoScalingGroups"]
        if _tagged([dict(tag) for tag in group.get("Tags", [])], project)
    ]
    roles: list[str] = []
    for name in role_names:
        try:
            role = iam.get_role(RoleName=name)["Role"]
        except iam.exceptions.NoSuchEntityException:
            continue
        if _tagged([dict(tag) for tag in role.get("Tags", [])], project):
            roles.append(name)
    parameters = [
        parameter["Name"]
        for page in ssm.get_paginator("describe_parameters").paginate(
            ParameterFilters=[{"Key": "tag:Project", "Values": [project]}]
        )
        for parameter in page["Parameters"]
    ]
    return {"autoscaling_groups": groups, "roles": roles, "parameters": parameters}


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleAWSModule(
        argument_spec={
            "project": {"type": "str", "required": True},
            "role_names": {"type": "list", "elements": "str", "required": True},
        },
        supports_check_mode=True,
    )
    project = module.params["project"]
    try:
        resources = {
            **ec2_resources(module.client("ec2"), project),
            **elb_resources(module.client("elbv2"), project),
            **other_resources(
                module.client("autoscaling"),
                module.client("iam"),
                module.client("ssm"),
                project,
                module.params["role_names"],
            ),
        }
    except (BotoCoreError, ClientError) as error:
        module.fail_json_aws(error, msg="The project's resources could not be listed")
    module.exit_json(changed=False, resources=resources, count=sum(len(one) for one in resources.values()))


if __name__ == "__main__":
    main()
