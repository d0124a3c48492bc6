"""Print what the account has under a project's names, as AWS's own API describes it: JSON on standard output.

The settings come from the environment, where boto3 looks for them; the only argument is the project's name.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import boto3

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mypy_boto3_ec2.type_defs import FilterTypeDef, SecurityGroupTypeDef


def rules(groups: Sequence[SecurityGroupTypeDef]) -> list[str]:
    """Who may come in, one rule a line: group, protocol, ports, and the network or the group that may connect."""
    names = {group["GroupId"]: group["GroupName"] for group in groups}
    return sorted(
        f"{group['GroupName']} {rule['IpProtocol']} {rule.get('FromPort')}-{rule.get('ToPort')} {source}"
        for group in groups
        for rule in group["IpPermissions"]
        for source in [
            *(one["CidrIp"] for one in rule["IpRanges"]),
            *(one["CidrIpv6"] for one in rule["Ipv6Ranges"]),
            *(names.get(one["GroupId"], one["GroupId"]) for one in rule["UserIdGroupPairs"]),
        ]
    )


def describe(project: str) -> dict[str, Any]:
    """All that the scenario looks at, in one process."""
    ec2, elb, autoscaling = boto3.client("ec2"), boto3.client("elbv2"), boto3.client("autoscaling")
    iam, ssm = boto3.client("iam"), boto3.client("ssm")
    (group,) = autoscaling.describe_auto_scaling_groups(AutoScalingGroupNames=[f"{project}-web"])["AutoScalingGroups"]
    (target_group,) = elb.describe_target_groups(Names=[f"{project}-web"])["TargetGroups"]
    (balancer,) = elb.describe_load_balancers(Names=[f"{project}-load-balancer"])["LoadBalancers"]
    running: list[FilterTypeDef] = [
        {"Name": "tag:Project", "Values": [project]},
        {"Name": "instance-state-name", "Values": ["pending", "running"]},
    ]
    security_groups = ec2.describe_security_groups(Filters=running[:1])["SecurityGroups"]
    versions = ec2.describe_launch_template_versions(LaunchTemplateName=f"{project}-web")
    parameters = ssm.describe_parameters(ParameterFilters=[{"Key": "tag:Project", "Values": [project]}])
    return {
        "group": group,
        "policies": autoscaling.describe_policies(AutoScalingGroupName=f"{project}-web")["ScalingPolicies"],
        "templates": versions["LaunchTemplateVersions"],
        "target_group": target_group,
        "balancer": balancer,
        "listeners": elb.describe_listeners(LoadBalancerArn=balancer["LoadBalancerArn"])["Listeners"],
        "security_groups": {one["GroupName"]: one["GroupId"] for one in security_groups},
        "rules": rules(security_groups),
        "instances": {
            tag["Value"]: one
            for reservation in ec2.describe_instances(Filters=running)["Reservations"]
            for one in reservation["Instances"]
            for tag in one["Tags"]
            if tag["Key"] == "Role"
        },
        "volumes": ec2.describe_volumes(Filters=[running[0], {"Name": "tag:Role", "Values": ["db-data"]}])["Volumes"],
        "parameters": parameters["Parameters"],
        "role_policies": iam.list_role_policies(RoleName=f"{project}-web")["PolicyNames"],
        "role_policy": iam.get_role_policy(RoleName=f"{project}-web", PolicyName="read-parameters")["PolicyDocument"],
    }


if __name__ == "__main__":
    print(json.dumps(describe(sys.argv[1]), default=str))
