#!/usr/bin/python
"""Ask an AWS account, in one process, for all that the playbooks must know before they start.

One module instead of eight, because starting boto3 costs a second of CPU each time
and because the answers belong together: every error names the setting that fixes it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import boto3
from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    EndpointConnectionError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    TokenRetrievalError,
)
from botocore.parsers import ResponseParserError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mypy_boto3_ec2 import EC2Client
    from mypy_boto3_ec2.type_defs import FilterTypeDef
    from mypy_boto3_ssm import SSMClient

DOCUMENTATION = r"""
module: account_info
short_description: What an AWS account has that the playbooks build on
description:
  - Checks credentials, region and endpoint, and reads the VPC, the subnets whose zone offers the
    instance type, the base image, and what of the project exists already.
  - Fails with a message that names the setting to change. Changes nothing.
options:
  project:
    description: Value of the tag Project that everything of this project carries.
    type: str
    required: true
  vpc_id:
    description: The VPC to build in; empty for the region's default VPC.
    type: str
    default: ""
  instance_type:
    description: The instance type that the subnets' zones must offer.
    type: str
    required: true
  image_owner:
    description: Account id of the base image's owner.
    type: str
    required: true
  image_name:
    description: Name pattern of the base image, with * and ?. The newest by creation date is taken.
    type: str
    required: true
  image_architecture:
    description: Architecture of the base image.
    type: str
    default: x86_64
  minimum_zones:
    description: How many zones must offer the instance type. An Application Load Balancer needs two.
    type: int
    default: 2
  secrets:
    description: Secrets that only a person can give.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the parameter that stores it.
        type: str
        required: true
      given:
        description: Whether the settings give it now.
        type: bool
        required: true
      hint:
        description: How to give it.
        type: str
        required: true
extends_documentation_fragment:
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.boto3
author: memo-server
"""

EXAMPLES = r"""
- name: Read the account
  account_info:
    project: memo-server
    instance_type: t2.micro
    image_owner: "136693071363"
    image_name: debian-13-amd64-*
  register: account
"""

RETURN = r"""
account_id:
  description: The account the credentials belong to.
  type: str
  returned: success
caller_arn:
  description: Who the credentials belong to.
  type: str
  returned: success
vpc:
  description: Id and network of the VPC.
  type: dict
  returned: success
  sample: {id: vpc-1, cidr: 172.31.0.0/16}
subnets:
  description: One subnet for each zone that offers the instance type, sorted by zone.
  type: list
  elements: dict
  returned: success
  sample: [{id: subnet-1, zone: ap-northeast-2a}]
base_image:
  description: The newest image that matches.
  type: dict
  returned: success
  sample: {id: ami-1, name: debian-13-amd64-20261101-1, root_device_name: /dev/xvda}
instances:
  description: The project's instances that are not terminated.
  type: list
  elements: dict
  returned: success
images:
  description: The project's images, newest first.
  type: list
  elements: dict
  returned: success
volumes:
  description: The project's volumes that carry the tag Role.
  type: list
  elements: dict
  returned: success
security_groups:
  description: Ids of the project's security groups by name.
  type: dict
  returned: success
load_balancers:
  description: ARN and DNS name of the load balancers in the VPC, by name.
  type: dict
  returned: success
target_groups:
  description: ARNs of the target groups in the VPC, by name.
  type: dict
  returned: success
"""

ACCOUNT_FILE = "inventory/…/group_vars/account.yml"
_REFUSED = {
    "AuthFailure",
    "InvalidClientTokenId",
    "UnrecognizedClientException",
    "SignatureDoesNotMatch",
    "ExpiredToken",
    "ExpiredTokenException",
    "RequestExpired",
}


class AccountError(Exception):
    """Something about the account that keeps the playbooks from working; the text names the fix."""


def explain(error: Exception, region: str, endpoint_url: str | None) -> str:
    """Turn what boto3 raised into a message that names the fix.

    Args:
        error: what boto3 raised.
        region: the region that was asked.
        endpoint_url: the endpoint setting, None for AWS's own.

    Returns:
        One or two sentences for the person who runs the playbook.
    """
    where = f"{region} ({endpoint_url})" if endpoint_url else region
    if isinstance(error, ProfileNotFound):
        return (
            f"{error}. Set AWS_PROFILE, or memo_server_aws_profile in {ACCOUNT_FILE}, "
            "to one that `aws configure list-profiles` shows."
        )
    if isinstance(error, (NoCredentialsError, PartialCredentialsError, TokenRetrievalError)):
        return (
            f"No usable AWS credentials for {where}: {error} "
            "Set AWS_PROFILE (after `aws configure sso` or `aws configure`), "
            "or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
            f"or memo_server_aws_profile in {ACCOUNT_FILE}."
        )
    if isinstance(error, EndpointConnectionError):
        if endpoint_url:
            return (
                f"Nothing answers at {endpoint_url}. Start the cloud that should answer there, "
                f"or correct memo_server_endpoint_url in {ACCOUNT_FILE}."
            )
        return (
            f"AWS cannot be reached in {region}: {error} "
            f"Check memo_server_region in {ACCOUNT_FILE} and this machine's network."
        )
    if isinstance(error, ResponseParserError) and endpoint_url:
        return f"What answers at {endpoint_url} is not the AWS API. Correct memo_server_endpoint_url in {ACCOUNT_FILE}."
    if isinstance(error, ClientError):
        code = error.response["Error"]["Code"]
        if code in _REFUSED:
            return (
                f"AWS refuses the credentials ({code}). Renew them (`aws sso login`, "
                "or new keys in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY), and check this machine's clock."
            )
        if code in {"UnauthorizedOperation", "AccessDenied", "AccessDeniedException"}:
            return f"{error} Give the caller the permissions that docs/aws-policy.json lists."
        if code == "OptInRequired":
            return (
                f"The account has not enabled {region}. Enable it in the AWS console, "
                f"or change memo_server_region in {ACCOUNT_FILE}."
            )
    return f"{where}: {error}"


def check_region(region: str | None) -> str:
    """The region, when boto3 knows it.

    Args:
        region: what the settings say.

    Returns:
        The same region.

    Raises:
        AccountError: no region, or one that is not in any partition.
    """
    session = boto3.session.Session()
    known = {
        name
        for partition in session.get_available_partitions()
        for name in session.get_available_regions("ec2", partition_name=partition)
    }
    if region in known and region is not None:
        return region
    if not region:
        raise AccountError(f"No region is set. Set memo_server_region in {ACCOUNT_FILE}, for example ap-northeast-2.")
    raise AccountError(
        f"There is no AWS region {region!r}. Set memo_server_region in {ACCOUNT_FILE} "
        "(and regions in aws_ec2.yml beside it) to an existing one, for example ap-northeast-2."
    )


def tags_of(resource: Mapping[str, Any]) -> dict[str, str]:
    """A resource's tags as a mapping."""
    return {tag["Key"]: tag["Value"] for tag in resource.get("Tags", [])}


def find_vpc(ec2: EC2Client, vpc_id: str) -> dict[str, Any]:
    """The VPC to build in.

    Args:
        ec2: an EC2 client.
        vpc_id: its id; empty for the region's default VPC.

    Returns:
        `id` and `cidr`.

    Raises:
        AccountError: there is none.
    """
    filters: Sequence[FilterTypeDef] = [{"Name": "is-default", "Values": ["true"]}]
    if vpc_id:
        filters = [{"Name": "vpc-id", "Values": [vpc_id]}]
    vpcs = ec2.describe_vpcs(Filters=filters)["Vpcs"]
    if vpcs:
        return {"id": vpcs[0]["VpcId"], "cidr": vpcs[0]["CidrBlock"]}
    if vpc_id:
        raise AccountError(f"There is no VPC {vpc_id} in this region. Correct memo_server_vpc_id in {ACCOUNT_FILE}.")
    raise AccountError(
        "This region has no default VPC. Make one with `aws ec2 create-default-vpc`, "
        f"or set memo_server_vpc_id in {ACCOUNT_FILE} to a VPC with public subnets in two zones."
    )


def find_subnets(ec2: EC2Client, vpc_id: str, instance_type: str, minimum_zones: int) -> list[dict[str, str]]:
    """One subnet for each zone that offers the instance type.

    Not every zone offers every type (t2.micro is missing from some in Seoul), and an Auto Scaling
    group that is given such a subnet fails launches for ever.

    Args:
        ec2: an EC2 client.
        vpc_id: the VPC.
        instance_type: for example t2.micro.
        minimum_zones: how many zones are needed.

    Returns:
        `id` and `zone` of each, sorted by zone; within a zone the default subnet, else the first by id.

    Raises:
        AccountError: too few zones.
    """
    offerings = ec2.describe_instance_type_offerings(
        LocationType="availability-zone", Filters=[{"Name": "instance-type", "Values": [instance_type]}]
    )["InstanceTypeOfferings"]
    offered = {offering["Location"] for offering in offerings}
    if not offered:
        raise AccountError(
            f"This region offers no {instance_type}. "
            f"Set memo_server_instance_type in {ACCOUNT_FILE}, for example t3.micro."
        )
    subnets = ec2.describe_subnets(
        Filters=[{"Name": "vpc-id", "Values": [vpc_id]}, {"Name": "state", "Values": ["available"]}]
    )["Subnets"]
    by_zone: dict[str, dict[str, str]] = {}
    for subnet in sorted(subnets, key=lambda one: (not one.get("DefaultForAz", False), one["SubnetId"])):
        zone = subnet["AvailabilityZone"]
        if zone in offered:
            by_zone.setdefault(zone, {"id": subnet["SubnetId"], "zone": zone})
    if len(by_zone) < minimum_zones:
        raise AccountError(
            f"{instance_type} needs subnets of {vpc_id} in {minimum_zones} of the zones that offer it "
            f"({', '.join(sorted(offered))}); there is one in: {', '.join(sorted(by_zone)) or 'none'}. "
            f"Add subnets, or set memo_server_vpc_id or memo_server_instance_type in {ACCOUNT_FILE}."
        )
    return [by_zone[zone] for zone in sorted(by_zone)]


def find_base_image(ec2: EC2Client, owner: str, name: str, architecture: str) -> dict[str, str]:
    """The newest image with that owner and name.

    Args:
        ec2: an EC2 client.
        owner: account id.
        name: pattern with * and ?.
        architecture: x86_64 or arm64.

    Returns:
        `id`, `name` and `root_device_name`.

    Raises:
        AccountError: there is none.
    """
    images = ec2.describe_images(
        Owners=[owner],
        Filters=[
            {"Name": "name", "Values": [name]},
            {"Name": "architecture", "Values": [architecture]},
            {"Name": "state", "Values": ["available"]},
        ],
    )["Images"]
    if not images:
        raise AccountError(
            f"No image of owner {owner} is named like {name!r} ({architecture}). "
            f"Correct memo_server_base_image_owner or memo_server_base_image_name in {ACCOUNT_FILE}."
        )
    newest = max(images, key=lambda image: (image["CreationDate"], image["ImageId"]))
    return {
        "id": newest["ImageId"],
        "name": newest["Name"],
        "root_device_name": newest.get("RootDeviceName") or "/dev/xvda",
    }


def find_instances(ec2: EC2Client, project: str) -> list[dict[str, Any]]:
    """The project's instances that are not terminated, oldest first."""
    pages = ec2.get_paginator("describe_instances").paginate(
        Filters=[
            {"Name": "tag:Project", "Values": [project]},
            {"Name": "instance-state-name", "Values": ["pending", "running", "stopping", "stopped", "shutting-down"]},
        ]
    )
    found = [instance for page in pages for group in page["Reservations"] for instance in group["Instances"]]
    return [
        {
            "id": instance["InstanceId"],
            "role": tags_of(instance).get("Role", ""),
            "name": tags_of(instance).get("Name", ""),
            "state": instance["State"]["Name"],
            "zone": instance["Placement"]["AvailabilityZone"],
            "private_ip": instance.get("PrivateIpAddress", ""),
            "image_id": instance["ImageId"],
            "group": tags_of(instance).get("aws:autoscaling:groupName", ""),
        }
        for instance in sorted(found, key=lambda one: (one["LaunchTime"], one["InstanceId"]))
    ]


def find_images(ec2: EC2Client, project: str) -> list[dict[str, Any]]:
    """The project's own images, newest first."""
    images = ec2.describe_images(Owners=["self"], Filters=[{"Name": "tag:Project", "Values": [project]}])["Images"]
    return [
        {
            "id": image["ImageId"],
            "name": image["Name"],
            "state": image["State"],
            "creation_date": image["CreationDate"],
            "content_hash": tags_of(image).get("ContentHash", ""),
            "platform_hash": tags_of(image).get("PlatformHash", ""),
            "generation": int(tags_of(image).get("Generation", "0")),
            "snapshots": [
                mapping["Ebs"]["SnapshotId"]
                for mapping in image.get("BlockDeviceMappings", [])
                if mapping.get("Ebs", {}).get("SnapshotId")
            ],
        }
        for image in sorted(images, key=lambda one: (one["CreationDate"], one["ImageId"]), reverse=True)
    ]


def find_volumes(ec2: EC2Client, project: str) -> list[dict[str, Any]]:
    """The project's volumes that carry the tag Role (data volumes; root volumes carry none)."""
    volumes = ec2.describe_volumes(
        Filters=[{"Name": "tag:Project", "Values": [project]}, {"Name": "tag-key", "Values": ["Role"]}]
    )["Volumes"]
    return [
        {
            "id": volume["VolumeId"],
            "role": tags_of(volume)["Role"],
            "zone": volume["AvailabilityZone"],
            "state": volume["State"],
            "size": volume["Size"],
            "attached_to": [attachment["InstanceId"] for attachment in volume.get("Attachments", [])],
        }
        for volume in sorted(volumes, key=lambda one: str(one["VolumeId"]))
        if volume["State"] in {"creating", "available", "in-use"}
    ]


def check_secrets(ssm: SSMClient, wanted: list[dict[str, Any]]) -> None:
    """Check that every secret is either given or stored already.

    Args:
        ssm: an SSM client.
        wanted: `name`, `given` and `hint` of each; at most ten, as GetParameters takes.

    Raises:
        AccountError: one is neither.
    """
    asked = [one["name"] for one in wanted if not one["given"]]
    if not asked:
        return
    missing = set(ssm.get_parameters(Names=asked, WithDecryption=False)["InvalidParameters"])
    hints = [f"{one['name']} is not stored yet. {one['hint']}." for one in wanted if one["name"] in missing]
    if hints:
        raise AccountError(" ".join(hints))


def read_account(clients: dict[str, Any], params: dict[str, Any]) -> dict[str, Any]:
    """All that the playbooks need to know.

    Args:
        clients: boto3 clients `sts`, `ec2`, `elbv2` and `ssm`.
        params: the module's parameters.

    Returns:
        The module's return values.

    Raises:
        AccountError: something is missing; the text names the fix.
    """
    ec2 = clients["ec2"]
    caller = clients["sts"].get_caller_identity()
    check_secrets(clients["ssm"], params["secrets"])
    vpc = find_vpc(ec2, params["vpc_id"])
    groups = ec2.describe_security_groups(
        Filters=[{"Name": "vpc-id", "Values": [vpc["id"]]}, {"Name": "tag:Project", "Values": [params["project"]]}]
    )["SecurityGroups"]
    load_balancers = clients["elbv2"].describe_load_balancers()["LoadBalancers"]
    target_groups = clients["elbv2"].describe_target_groups()["TargetGroups"]
    return {
        "account_id": caller["Account"],
        "caller_arn": caller["Arn"],
        "vpc": vpc,
        "subnets": find_subnets(ec2, vpc["id"], params["instance_type"], params["minimum_zones"]),
        "base_image": find_base_image(ec2, params["image_owner"], params["image_name"], params["image_architecture"]),
        "instances": find_instances(ec2, params["project"]),
        "images": find_images(ec2, params["project"]),
        "volumes": find_volumes(ec2, params["project"]),
        "security_groups": {group["GroupName"]: group["GroupId"] for group in groups},
        "load_balancers": {
            one["LoadBalancerName"]: {"arn": one["LoadBalancerArn"], "dns_name": one["DNSName"]}
            for one in load_balancers
            if one["VpcId"] == vpc["id"]
        },
        "target_groups": {
            one["TargetGroupName"]: one["TargetGroupArn"] for one in target_groups if one.get("VpcId") == vpc["id"]
        },
    }


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleAWSModule(
        argument_spec={
            "project": {"type": "str", "required": True},
            "vpc_id": {"type": "str", "default": ""},
            "instance_type": {"type": "str", "required": True},
            "image_owner": {"type": "str", "required": True},
            "image_name": {"type": "str", "required": True},
            "image_architecture": {"type": "str", "default": "x86_64"},
            "minimum_zones": {"type": "int", "default": 2},
            "secrets": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "no_log": False,
                "options": {
                    "name": {"type": "str", "required": True},
                    "given": {"type": "bool", "required": True},
                    "hint": {"type": "str", "required": True},
                },
            },
        },
        supports_check_mode=True,
    )
    region = str(module.params["region"] or "")
    try:
        region = check_region(region)
        clients = {name: module.client(name) for name in ("sts", "ec2", "elbv2", "ssm")}
        answer = read_account(clients, module.params)
    except AccountError as problem:
        module.fail_json(msg=str(problem))
    except (BotoCoreError, ClientError) as error:
        module.fail_json(msg=explain(error, region, module.params["endpoint_url"]))
    module.exit_json(changed=False, region=region, **answer)


if __name__ == "__main__":
    main()
