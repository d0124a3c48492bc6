"""An API without a machine, for tests: real HTTP and boto3, instances that follow when the test says so."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from functools import cache
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from localcloud.api import ControlPlane, NoMachine, StandInImage
from localcloud.api.machine import AT_ONCE
from localcloud.groups import Groups
from localcloud.model import HealthState, TargetHealth
from localcloud.monitoring import Monitor
from localcloud.settings import CloudSettings
from localcloud.state import State

REGION = "ap-northeast-2"
BASE_IMAGE = StandInImage.ami_id
EPOCH = 1_800_000_000.0 - 1000.0
"""When the test's clock says zero, in seconds since 1970; its 1000 is the beginning of a minute."""


class ApiCloud:
    """A control plane with clients, a clock that the test turns, and the loop's work done by hand.

    The clients are not typed: most tests send them what their types forbid.
    """

    def __init__(self, port: int) -> None:
        self.now = 1000.0
        self.machine = NoMachine()
        self.plane = ControlPlane(
            CloudSettings(name="api", cidr="10.213.0.0/16"), StandInImage(), self.machine, host="127.0.0.1", port=port
        )
        self.plane.clock = lambda: self.now
        self.plane.time = lambda: EPOCH + self.now
        self.plane.start()
        self.state = State(self.plane)
        self.groups = Groups(self.plane, self.state, self.machine.target_health)
        self.cpu: dict[str, float] = {}
        self.monitor = Monitor(self.plane, lambda instance_id: self.cpu.setdefault(instance_id, 0.0))
        self.ec2 = self.client("ec2")
        self.elb = self.client("elbv2")
        self.asg = self.client("autoscaling")
        self.iam = self.client("iam")
        self.ssm = self.client("ssm")
        self.watch = self.client("cloudwatch")

    def client(self, service: str, **options: str) -> Any:  # noqa: ANN401 - boto3's clients have one type per service
        """Return a client for the API; `options` replace the administrator's keys or the region."""
        keys = {"aws_access_key_id": "AKIALOCALCLOUD000000", "aws_secret_access_key": "secret", "region_name": REGION}
        return _client(service, self.plane.url, tuple(sorted({**keys, **options}.items())))

    def follow(self) -> None:
        """Let the machine follow: what is asked of instances has happened afterwards."""
        # With the lock, as the loop: what was read is still so when it is answered, whoever calls the API meanwhile.
        with self.plane.lock:
            for instance in self.state.instances().values():
                if instance.state in AT_ONCE:
                    self.state.mark(instance.instance_id, AT_ONCE[instance.state])

    def step(self, times: int = 1, seconds: float = 1.0) -> None:
        """Do the loop's work some times, with the clock going on."""
        for _ in range(times):
            self.groups.step()
            self.follow()
            self.now += seconds

    def minutes(self, times: int, percent: float = 0.0, **by_id: float) -> None:
        """Let minutes pass in which every instance uses so much of its one CPU."""
        for _ in range(times):
            self.monitor.step()
            for instance in self.state.instances():
                self.cpu[instance] = self.cpu.get(instance, 0.0) + 60 * by_id.get(instance, percent) / 100
            self.now += 60
            self.monitor.step()
            self.step(3, seconds=0)

    def subnet(self, zone: str = "a") -> str:
        """Return the default subnet of a zone."""
        zones = [{"Name": "availability-zone", "Values": [REGION + zone]}]
        return str(self.ec2.describe_subnets(Filters=zones)["Subnets"][0]["SubnetId"])

    def vpc(self) -> str:
        """Return the default VPC."""
        return str(self.ec2.describe_vpcs()["Vpcs"][0]["VpcId"])

    def security_group(self, name: str) -> str:
        """Make a security group."""
        return str(self.ec2.create_security_group(GroupName=name, Description=name, VpcId=self.vpc())["GroupId"])

    def run(self, **parameters: Any) -> str:  # noqa: ANN401 - RunInstances' parameters
        """Launch an instance and let it run."""
        given = {"ImageId": BASE_IMAGE, "InstanceType": "t2.micro", "MinCount": 1, "MaxCount": 1, **parameters}
        instance_id = self.ec2.run_instances(**given)["Instances"][0]["InstanceId"]
        self.follow()
        return str(instance_id)

    def instance(self, instance_id: str) -> dict[str, Any]:
        """Describe an instance."""
        found = self.ec2.describe_instances(InstanceIds=[instance_id])["Reservations"][0]["Instances"][0]
        return dict(found)

    def template(self, name: str = "web", **data: Any) -> str:  # noqa: ANN401 - launch template data
        """Make a launch template."""
        given = {"ImageId": BASE_IMAGE, "InstanceType": "t2.micro", **data}
        made = self.ec2.create_launch_template(LaunchTemplateName=name, LaunchTemplateData=given)
        return str(made["LaunchTemplate"]["LaunchTemplateId"])

    def balanced(self, *, delay: int = 5) -> tuple[str, str]:
        """Make a load balancer that forwards to a target group.

        Returns:
            Their ARNs.
        """
        balancer = self.elb.create_load_balancer(Name="lb", Subnets=[self.subnet("a"), self.subnet("c")])
        balancer_arn = balancer["LoadBalancers"][0]["LoadBalancerArn"]
        group = self.elb.create_target_group(Name="web", Protocol="HTTP", Port=80, VpcId=self.vpc())
        group_arn = group["TargetGroups"][0]["TargetGroupArn"]
        self.elb.modify_target_group_attributes(
            TargetGroupArn=group_arn, Attributes=[{"Key": "deregistration_delay.timeout_seconds", "Value": str(delay)}]
        )
        self.elb.create_listener(
            LoadBalancerArn=balancer_arn,
            Protocol="HTTP",
            Port=80,
            DefaultActions=[{"Type": "forward", "TargetGroupArn": group_arn}],
        )
        return balancer_arn, group_arn

    def group(self, name: str = "fleet", **parameters: Any) -> None:  # noqa: ANN401 - CreateAutoScalingGroup's
        """Make an Auto Scaling group over the zones a and c, and let its instances run."""
        template = parameters.pop("template", None) or self.template()
        given = {
            "MinSize": 1,
            "MaxSize": 4,
            "VPCZoneIdentifier": f"{self.subnet('a')},{self.subnet('c')}",
            "LaunchTemplate": {"LaunchTemplateId": template, "Version": "1"},
            **parameters,
        }
        self.asg.create_auto_scaling_group(AutoScalingGroupName=name, **given)
        self.step(3)

    def members(self, name: str = "fleet") -> dict[str, dict[str, Any]]:
        """Describe a group's instances by id."""
        groups = self.asg.describe_auto_scaling_groups(AutoScalingGroupNames=[name])["AutoScalingGroups"]
        return {m["InstanceId"]: dict(m) for m in groups[0]["Instances"]}

    def activities(self, name: str = "fleet") -> list[tuple[str, str]]:
        """Return a group's activities, newest first: description and status."""
        found = self.asg.describe_scaling_activities(AutoScalingGroupName=name)["Activities"]
        return [(a["Description"], a["StatusCode"]) for a in found]

    def see(self, group_arn: str, instance_id: str, state: HealthState, description: str | None = None) -> None:
        """Let the probes have seen something."""
        health = TargetHealth(state, None, description)
        # With the lock: a call that is being answered may be going over this table.
        with self.plane.lock:
            self.machine.health.setdefault(group_arn, {})[f"{instance_id}:80"] = health

    def role(self, name: str, *statements: dict[str, Any]) -> None:
        """Make a role with an instance profile of the same name and a policy of these statements."""
        trust = {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}
        self.iam.create_role(RoleName=name, AssumeRolePolicyDocument=policy(trust))
        self.iam.put_role_policy(RoleName=name, PolicyName="own", PolicyDocument=policy(*statements))
        self.iam.create_instance_profile(InstanceProfileName=name)
        self.iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=name)


@cache
def _client(service: str, url: str, options: tuple[tuple[str, str], ...]) -> Any:  # noqa: ANN401 - as above
    """Make a client once: that takes longer than most calls."""
    create: Any = boto3.client
    config = Config(retries={"total_max_attempts": 1})
    return create(service, endpoint_url=url, config=config, **dict(options))


def policy(*statements: dict[str, Any]) -> str:
    """Write a policy document."""
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def encoded(text: str) -> str:
    """Return user data as launch templates take it."""
    return base64.b64encode(text.encode()).decode()


def refused(call: Callable[..., object], **parameters: object) -> str:
    """Make a call that must be refused.

    Returns:
        AWS's error code.
    """
    with pytest.raises(ClientError) as caught:
        call(**parameters)
    return str(caught.value.response["Error"]["Code"])
