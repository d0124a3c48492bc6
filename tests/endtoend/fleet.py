"""Changing the fleet as its operator does, and looking at it through the API."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from endtoend.stack import NAME, PROJECT, Run, Stack
from endtoend.waiting import until
from localcloud.engine import podman

GROUP = f"{NAME}-web"
_MOST_SECONDS = 400


@dataclass
class Fleet:
    """The installation's fleet.

    Args:
        stack: the installation.
        folder: where changed copies of the application are made.
    """

    stack: Stack
    folder: Path

    def variant(self, name: str, **changes: tuple[str, str, str]) -> Path:
        """Copy the application and change it.

        Args:
            name: the copy's name; two of the same name replace each other.
            changes: for each, under any key: a path in the application, a text in it, and what comes in its place. An
                empty text makes a new file.

        Returns:
            The copy's folder.
        """
        copy = self.folder / name
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(PROJECT / "app", copy, ignore=shutil.ignore_patterns("__pycache__", "tests"))
        for path, old, new in changes.values():
            file = copy / path
            text = file.read_text(encoding="utf-8") if old else ""
            assert old in text, f"{path} has no {old!r}"
            file.write_text(text.replace(old, new, 1) if old else new, encoding="utf-8")
        return copy

    def other_words(self) -> tuple[str, str, str]:
        """A harmless change for a variant, another one each time, so that an image must be baked."""
        return "memo/templates/memos.html", "What is on your mind?", f"What is new since {time.time():.0f}?"

    def play(self, playbook: str, *arguments: str, settings: dict[str, object] | None = None) -> Run:
        """Run a playbook of the project with extra variables."""
        given = ("--extra-vars", json.dumps(settings)) if settings else ()
        return self.stack.run(
            "ansible-playbook", f"playbooks/{playbook}.yml", *given, *arguments, timeout=_MOST_SECONDS
        )

    def deploy(self, app: Path, *arguments: str, settings: dict[str, object] | None = None) -> Run:
        """Deploy a copy of the application."""
        return self.play("deploy", *arguments, settings={"memo_server_app_folder": str(app), **(settings or {})})

    def group(self) -> dict[str, Any]:
        """The Auto Scaling group."""
        answer = self.stack.autoscaling.describe_auto_scaling_groups(AutoScalingGroupNames=[GROUP])
        return dict(answer["AutoScalingGroups"][0])

    def version(self) -> str:
        """The launch template version that the group is to run."""
        return str(self.group()["LaunchTemplate"]["Version"])

    def marks(self) -> dict[str, str]:
        """The template's marks, `good` and `void`."""
        (template,) = self.stack.ec2.describe_launch_templates(LaunchTemplateNames=[GROUP])["LaunchTemplates"]
        return {tag["Key"]: tag["Value"] for tag in template["Tags"] if tag["Key"] in ("good", "void")}

    def healthy(self) -> set[str]:
        """The ids of the instances that the load balancer sends to."""
        return {
            one["Target"]["Id"]
            for group in self.stack.elbv2.describe_target_groups()["TargetGroups"]
            for one in self.stack.elbv2.describe_target_health(TargetGroupArn=group["TargetGroupArn"])[
                "TargetHealthDescriptions"
            ]
            if one["TargetHealth"]["State"] == "healthy"
        }

    def scale(self, wanted: int) -> None:
        """Set the number of instances and wait until so many serve and no other is left."""
        self.stack.autoscaling.set_desired_capacity(AutoScalingGroupName=GROUP, DesiredCapacity=wanted)

        def there() -> bool:
            members = {one["InstanceId"] for one in self.group()["Instances"]}
            return len(members) == wanted and self.healthy() == members == self.stack.in_service()

        until(there, f"{wanted} instances that serve, and no other", timeout=180)

    @contextmanager
    def sized_by_hand(self) -> Iterator[None]:
        """While somebody sets the number of instances, target tracking does not.

        Otherwise a fleet that has been calm for a quarter of an hour, as on a slow machine, is made smaller again.
        """
        tracking = ["AlarmNotification"]
        self.stack.autoscaling.suspend_processes(AutoScalingGroupName=GROUP, ScalingProcesses=tracking)
        try:
            yield
        finally:
            self.stack.autoscaling.resume_processes(AutoScalingGroupName=GROUP, ScalingProcesses=tracking)

    def pull_the_plug(self, instance_id: str) -> None:
        """Kill an instance from outside, without a word to its system or to the API."""
        podman("kill", "--signal=KILL", f"{self.stack.settings.name}-{instance_id}")

    def settled(self) -> None:
        """Wait until as many instances serve as are wanted, all of the group's version, and no other is left."""

        def calm() -> bool:
            group = self.group()
            members = {one["InstanceId"] for one in group["Instances"]}
            versions = {one["LaunchTemplate"]["Version"] for one in group["Instances"]}
            return (
                len(members) == group["DesiredCapacity"]
                and versions == {group["LaunchTemplate"]["Version"]}
                and self.healthy() == members
            )

        until(calm, "a fleet of one version that serves", timeout=240)
