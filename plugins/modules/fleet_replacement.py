#!/usr/bin/python
"""Replace the instances of an Auto Scaling group that run another launch template version, one by one."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from botocore.exceptions import BotoCoreError, ClientError

if TYPE_CHECKING:
    from mypy_boto3_autoscaling import AutoScalingClient
    from mypy_boto3_autoscaling.type_defs import AutoScalingGroupTypeDef
    from mypy_boto3_elbv2 import ElasticLoadBalancingv2Client

DOCUMENTATION = r"""
module: fleet_replacement
short_description: Replace a group's instances that run another launch template version
description:
  - Where the group's maximum leaves room, a new instance must be healthy in the target group before an old one goes.
    Where it does not, the old one goes first.
  - Returns when every instance runs the version and is healthy, and not before.
options:
  name:
    description: The Auto Scaling group's name.
    type: str
    required: true
  version:
    description: Number of the launch template's version that every instance shall run.
    type: str
    required: true
  target_group_arn:
    description: The target group that says which instances are healthy.
    type: str
    required: true
  timeout:
    description: Seconds to wait for each replacement.
    type: int
    default: 900
extends_documentation_fragment:
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.boto3
author: memo-server
"""

EXAMPLES = r"""
- name: Replace what runs another version
  fleet_replacement:
    name: memo-server-web
    version: "3"
    target_group_arn: "{{ load_balancer_target_group_arn }}"
"""

RETURN = r"""
replaced:
  description: Ids of the instances that were (in check mode would be) replaced.
  type: list
  returned: success
seconds:
  description: How long it took.
  type: float
  returned: success
"""

_POLL_SECONDS = 2.0


class ReplacementError(Exception):
    """A replacement did not get healthy in time, or there is no such group; the text says what was seen."""


@dataclass
class Fleet:
    """A group and its target group, as the API tells them.

    Args:
        autoscaling: an Auto Scaling client.
        elbv2: an ELBv2 client.
        name: the group.
        version: the launch template version wanted.
        target_group_arn: the target group.
        timeout: seconds for each replacement.
        clock: seconds that only grow.
        sleep: waits some seconds.
    """

    autoscaling: AutoScalingClient
    elbv2: ElasticLoadBalancingv2Client
    name: str
    version: str
    target_group_arn: str
    timeout: int
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    def group(self) -> AutoScalingGroupTypeDef:
        """The group's description."""
        groups = self.autoscaling.describe_auto_scaling_groups(AutoScalingGroupNames=[self.name])["AutoScalingGroups"]
        if not groups:
            raise ReplacementError(
                f"There is no Auto Scaling group {self.name}: run playbooks/create-autoscaling-group.yml."
            )
        return groups[0]

    def outdated(self) -> list[str]:
        """Ids of the instances that run another version and are not on their way out."""
        return sorted(
            instance["InstanceId"]
            for instance in self.group()["Instances"]
            if not instance["LifecycleState"].startswith("Terminat")
            and str(instance.get("LaunchTemplate", {}).get("Version", "")) != self.version
        )

    def healthy(self) -> set[str]:
        """Ids of the instances in service that run the version and that the target group finds healthy."""
        answer = self.elbv2.describe_target_health(TargetGroupArn=self.target_group_arn)
        serving = {
            one["Target"]["Id"]
            for one in answer["TargetHealthDescriptions"]
            if one["TargetHealth"]["State"] == "healthy"
        }
        return {
            instance["InstanceId"]
            for instance in self.group()["Instances"]
            if instance["LifecycleState"] == "InService"
            and instance["InstanceId"] in serving
            and str(instance.get("LaunchTemplate", {}).get("Version", "")) == self.version
        }

    def complete(self) -> bool:
        """Whether as many instances as the group wants run the version and are healthy."""
        return len(self.healthy()) >= int(self.group()["DesiredCapacity"])

    def seen(self) -> str:
        """What the API says of targets and of the last activity, for a person to read."""
        parts: list[str] = []
        answer = self.elbv2.describe_target_health(TargetGroupArn=self.target_group_arn)
        for one in answer["TargetHealthDescriptions"]:
            health = one["TargetHealth"]
            words = [one["Target"]["Id"], health["State"], health.get("Reason"), health.get("Description")]
            parts.append(" ".join(word for word in words if word))
        activities = self.autoscaling.describe_scaling_activities(AutoScalingGroupName=self.name, MaxRecords=1)
        for activity in activities["Activities"]:
            said = activity.get("StatusMessage") or activity.get("Description", "")
            parts.append(f"last activity: {activity['StatusCode']} {said}")
        return "; ".join(parts) or "no target is registered"

    def wait(self, what: str, until: Callable[[], bool]) -> None:
        """Ask until the answer is yes.

        Args:
            what: what is waited for, for the message.
            until: the question.

        Raises:
            ReplacementError: the time is over.
        """
        end = self.clock() + self.timeout
        while not until():
            if self.clock() > end:
                raise ReplacementError(f"After {self.timeout} s still waiting for {what}. Seen: {self.seen()}.")
            self.sleep(_POLL_SECONDS)

    def terminate(self, instance_id: str, *, decrement: bool) -> None:
        """End one instance, and let the group replace it or not."""
        self.autoscaling.terminate_instance_in_auto_scaling_group(
            InstanceId=instance_id, ShouldDecrementDesiredCapacity=decrement
        )

    def replace(self, instance_id: str) -> None:
        """Replace one instance.

        Raises:
            ReplacementError: the new one does not get healthy. The old one is kept where there was room for both.
        """
        group = self.group()
        before = self.healthy()
        room = group["DesiredCapacity"] < group["MaxSize"]
        if not room:
            self.terminate(instance_id, decrement=False)
        else:
            self.autoscaling.set_desired_capacity(
                AutoScalingGroupName=self.name, DesiredCapacity=group["DesiredCapacity"] + 1, HonorCooldown=False
            )
        try:
            self.wait(f"a replacement of {instance_id} to be healthy", lambda: len(self.healthy()) > len(before))
        except ReplacementError:
            if room:
                self._give_up(group["DesiredCapacity"])
            raise
        if room:
            self.terminate(instance_id, decrement=True)
        self.wait(
            f"{instance_id} to leave the group",
            lambda: instance_id not in {instance["InstanceId"] for instance in self.group()["Instances"]},
        )

    def _give_up(self, capacity: int) -> None:
        """Take back the capacity for a replacement that failed, so that the old instance stays the one in service."""
        healthy = self.healthy()
        for instance in self.group()["Instances"]:
            current = str(instance.get("LaunchTemplate", {}).get("Version", "")) == self.version
            leaving = instance["LifecycleState"].startswith("Terminat")
            if current and not leaving and instance["InstanceId"] not in healthy:
                self.terminate(instance["InstanceId"], decrement=True)
                return
        self.autoscaling.set_desired_capacity(
            AutoScalingGroupName=self.name, DesiredCapacity=capacity, HonorCooldown=False
        )


def replace_outdated(fleet: Fleet, *, check_mode: bool) -> dict[str, Any]:
    """Replace every outdated instance.

    Args:
        fleet: the group.
        check_mode: change nothing.

    Returns:
        The module's return values.

    Raises:
        ReplacementError: a replacement did not get healthy in time.
    """
    begun = fleet.clock()
    replaced: list[str] = []
    if check_mode:
        replaced = fleet.outdated()
    else:
        while outdated := [one for one in fleet.outdated() if one not in replaced]:
            fleet.replace(outdated[0])
            replaced.append(outdated[0])
        fleet.wait("the group's instances to be healthy", fleet.complete)
    return {"changed": bool(replaced), "replaced": replaced, "seconds": round(fleet.clock() - begun, 1)}


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleAWSModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "version": {"type": "str", "required": True},
            "target_group_arn": {"type": "str", "required": True},
            "timeout": {"type": "int", "default": 900},
        },
        supports_check_mode=True,
    )
    try:
        fleet = Fleet(
            module.client("autoscaling"),
            module.client("elbv2"),
            module.params["name"],
            module.params["version"],
            module.params["target_group_arn"],
            module.params["timeout"],
        )
        answer = replace_outdated(fleet, check_mode=module.check_mode)
    except ReplacementError as error:
        module.fail_json(msg=str(error))
    except (BotoCoreError, ClientError) as error:
        module.fail_json_aws(error, msg="The fleet's instances could not be replaced")
    module.exit_json(**answer)


if __name__ == "__main__":
    main()
