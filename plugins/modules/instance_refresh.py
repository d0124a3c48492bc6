#!/usr/bin/python
"""Refresh an Auto Scaling group's instances, wait for how it ends, and tell it in words."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible.module_utils.common.dict_transformations import camel_dict_to_snake_dict
from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from botocore.exceptions import BotoCoreError, ClientError

if TYPE_CHECKING:
    from plugins.module_utils.instance_refresh import ACTIVE, Fleet, Member, RefreshError, listed, serving
else:
    # Where Ansible puts what lies in plugins/module_utils.
    from ansible.module_utils.instance_refresh import ACTIVE, Fleet, Member, RefreshError, listed, serving

DOCUMENTATION = r"""
module: instance_refresh
short_description: Refresh the instances of an Auto Scaling group, wait, and roll back what fails
description:
  - Replaces a group's instances by ones of a numbered launch template version, with EC2 Auto Scaling's own instance
    refresh. AWS saves the version to the group only when the refresh succeeds, so leave the group's version alone.
  - Waits until the refresh is over and every instance is healthy in the group's target groups. When replacements
    fail their health check, or the time is over, it rolls back and fails, naming the instance and the reason.
  - A refresh to the same version that is under way already is adopted. One that is rolling back or being cancelled
    is waited for.
  - RV(ignore:changed) is false when every instance runs the version already.
options:
  name:
    description: The Auto Scaling group's name.
    type: str
    required: true
    aliases: [group_name]
  state:
    description:
      - V(started) refreshes what does not run the version yet.
      - V(cancelled) stops a refresh where it is; nothing is undone.
      - V(rolled_back) turns a refresh that is under way back. AWS cannot roll back one that is over; refresh to the
        older version instead.
    type: str
    choices: [started, cancelled, rolled_back]
    default: started
  launch_template:
    description:
      - What the instances shall be launched from. Without it they are replaced by ones of the version that the group
        has saved, and AWS can roll nothing back.
    type: dict
    suboptions:
      launch_template_id:
        description: Id of the launch template. Give this or O(launch_template.launch_template_name).
        type: str
      launch_template_name:
        description: Name of the launch template.
        type: str
      version:
        description: Number of the version. Not V($Latest) or V($Default), from which AWS cannot roll back.
        type: str
        required: true
  preferences:
    description: How to go about it. What is not given is as AWS has it, unless a default is given here.
    type: dict
    default: {}
    suboptions:
      min_healthy_percentage:
        description: Per cent of the desired capacity that must stay in service, 0 to 100. V(100) launches first.
        type: int
        default: 100
      max_healthy_percentage:
        description:
          - Per cent of the desired capacity that may be there at once, 100 to 200, at most 100 above
            O(preferences.min_healthy_percentage). Instances come on top of the group's maximum size.
        type: int
        default: 200
      instance_warmup:
        description: Seconds after which a new healthy instance counts. AWS's default is the group's own warm-up.
        type: int
      checkpoint_percentages:
        description: Where to stop for O(preferences.checkpoint_delay), ascending. V(100) must be last to replace all.
        type: list
        elements: int
      checkpoint_delay:
        description: Seconds to wait at a checkpoint. AWS's default is 3600.
        type: int
      bake_time:
        description: Seconds to wait at the end, in which a rollback is still possible.
        type: int
      skip_matching:
        description: Leave alone instances that run the version already.
        type: bool
        default: true
      auto_rollback:
        description: Let AWS roll back when the refresh fails. The default is true with O(launch_template).
        type: bool
      scale_in_protected_instances:
        description: What to do with instances that are protected from scale in.
        type: str
        choices: [Refresh, Ignore, Wait]
      standby_instances:
        description: What to do with instances in standby.
        type: str
        choices: [Terminate, Ignore, Wait]
      alarms:
        description: Names of up to 10 CloudWatch alarms. The refresh fails when one goes off.
        type: list
        elements: str
  replace_running:
    description: Cancel a refresh to another version that is under way, instead of failing.
    type: bool
    default: false
  max_failed_instances:
    description:
      - After how many replacements that failed their launch, or the load balancer's health check before they ever
        served, to roll back (or cancel, where AWS cannot roll back). V(0) leaves that to AWS.
    type: int
    default: 1
  wait:
    description: Wait until it is over and every instance is healthy.
    type: bool
    default: true
  wait_timeout:
    description: Seconds to wait; as many again for a rollback.
    type: int
    default: 900
  wait_interval:
    description: Seconds between two looks.
    type: int
    default: 2
  progress_file:
    description:
      - A file on the host that the module runs on. While it waits, it appends a line whenever something is new, and at
        least every few seconds. On the controller the action plugin of the same name gives it one of its own and shows
        the lines as they come.
    type: path
attributes:
  check_mode:
    support: full
    description: Says what would happen and changes nothing.
  diff_mode:
    support: full
    description: Shows the group's version and that of each instance, before and after.
extends_documentation_fragment:
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.boto3
seealso:
  - module: amazon.aws.autoscaling_instance_refresh
  - name: Use an instance refresh to update instances in an Auto Scaling group
    description: Amazon's description of what it does.
    link: https://docs.aws.amazon.com/autoscaling/ec2/userguide/asg-instance-refresh.html
author: memo-server
"""

EXAMPLES = r"""
- name: Let every instance run version 7, launching before terminating
  instance_refresh:
    name: memo-server-web
    launch_template:
      launch_template_name: memo-server-web
      version: "7"

- name: Replace half, look at the alarms for ten minutes, then the rest
  instance_refresh:
    name: memo-server-web
    launch_template:
      launch_template_name: memo-server-web
      version: "7"
    preferences:
      checkpoint_percentages: [50, 100]
      checkpoint_delay: 600
      alarms: [memo-server-5xx]
    wait_timeout: 3600

- name: Turn a refresh back that is under way
  instance_refresh:
    name: memo-server-web
    state: rolled_back
"""

RETURN = r"""
msg:
  description: What happened, in words.
  type: str
  returned: always
  sample: >-
    Version 7 of memo-server-web failed: i-0aa failed GET /alive: Health checks failed with these codes: [502]
    (Target.ResponseCodeMismatch). The refresh was rolled back; version 6 serves on i-0bb.
instance_refresh:
  description: The refresh as DescribeInstanceRefreshes tells it, in snake case; empty when none was needed.
  type: dict
  returned: always
  sample: {"instance_refresh_id": "08b91cf7-8fa6-48af-b6a6-d227f40f1b9b", "status": "Successful"}
adopted:
  description: Whether the refresh was under way already.
  type: bool
  returned: always
failed_instances:
  description: Replacements that failed, with the reason.
  type: dict
  returned: always
  sample: {"i-0123456789abcdef0": "Health checks failed with these codes: [502] (Target.ResponseCodeMismatch)"}
progress:
  description: What was seen, with the seconds since the module began.
  type: list
  elements: str
  returned: always
  sample: ["0 s: Pending", "2 s: InProgress, 0 %, 2 to update"]
seconds:
  description: How long it took.
  type: float
  returned: always
"""

__all__ = ["Fleet", "RefreshError", "RefreshFailedError", "Run", "main"]

_SIGN_OF_LIFE = 4.0
"""Seconds after which somebody who waits is told again what is still so."""

_STATUS_WORDS = {
    "RollbackSuccessful": "The refresh was rolled back",
    "RollbackFailed": "The rollback failed as well",
    "Cancelled": "The refresh was cancelled; what it had replaced stays replaced",
    "Failed": "AWS ended the refresh; what it had replaced stays replaced",
}
_CLIENT_NAMES = {
    "min_healthy_percentage": "MinHealthyPercentage",
    "max_healthy_percentage": "MaxHealthyPercentage",
    "instance_warmup": "InstanceWarmup",
    "checkpoint_percentages": "CheckpointPercentages",
    "checkpoint_delay": "CheckpointDelay",
    "bake_time": "BakeTime",
    "skip_matching": "SkipMatching",
    "auto_rollback": "AutoRollback",
    "scale_in_protected_instances": "ScaleInProtectedInstances",
    "standby_instances": "StandbyInstances",
}


class RefreshFailedError(RefreshError):
    """The refresh did not end as wanted; the text tells the story."""


@dataclass
class Run:
    """One run of the module: what is wanted, and what was seen on the way.

    Args:
        fleet: the group.
        params: the module's parameters.
        check_mode: change nothing.
        clock: seconds that only grow.
        sleep: waits some seconds.
        tell: gets a line for a person who waits, whenever something is new and at least every few seconds.
    """

    fleet: Fleet
    params: dict[str, Any]
    check_mode: bool = False
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    tell: Callable[[str], None] = lambda _: None
    begun: float = 0.0
    told: tuple[str, float] = ("", 0.0)
    progress: list[str] = field(default_factory=list)
    evidence: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    served: set[str] = field(default_factory=set)
    unlaunched: set[str] = field(default_factory=set)
    refresh: dict[str, Any] = field(default_factory=dict)
    adopted: bool = False
    changed: bool = False
    before: dict[str, Any] = field(default_factory=dict)

    def do(self) -> dict[str, Any]:
        """Bring the group into the wanted state.

        Returns:
            The module's return values.

        Raises:
            RefreshFailedError: it did not end as wanted.
            RefreshError: it cannot be begun.
        """
        self.begun = self.clock()
        self.before = self._versions()
        message = {"started": self._start, "cancelled": self._cancel, "rolled_back": self._roll_back}[
            self.params["state"]
        ]()
        return self.results(message)

    def results(self, message: str) -> dict[str, Any]:
        """Return the module's return values."""
        after = self._after() if self.check_mode and self.changed else self._versions()
        return {
            "changed": self.changed,
            "msg": message,
            "instance_refresh": camel_dict_to_snake_dict(self.refresh),
            "adopted": self.adopted,
            "failed_instances": self.failed,
            "progress": self.progress,
            "seconds": round(self.clock() - self.begun, 1),
            "diff": {"before": self.before, "after": after},
        }

    def _start(self) -> str:
        wanted = self._wanted()
        active = self._settled(wanted)
        if active is not None:
            self.adopted, self.refresh = True, active
            self._say(f"adopted the refresh {active['InstanceRefreshId']}, which is {active['Status']}")
        elif not self._needed(wanted):
            if self.params["wait"] and not self.check_mode:
                self._wait_for_health()
            return f"Nothing to refresh: {serving(self.fleet.members())}."
        elif self.check_mode:
            self.changed = True
            ids = listed([member.instance_id for member in self._outdated(wanted)])
            return f"Would refresh {self.fleet.name} to {self._aim(wanted)}" + (f", replacing {ids}." if ids else ".")
        else:
            self._begin(wanted)
        if self.check_mode or not self.params["wait"]:
            return f"The refresh of {self.fleet.name} to {self._aim(wanted)} is {self.refresh['Status']}."
        self._follow(wanted)
        self._wait_for_health()
        # Adopted or not: what the group runs is not what it ran when this began.
        self.changed = self.changed or self._versions() != self.before
        return (
            f"{self._aim(wanted).capitalize()} of {self.fleet.name} is in place after "
            f"{self.clock() - self.begun:.0f} s: {serving(self.fleet.members())}."
        )

    def _cancel(self) -> str:
        active = self.fleet.active()
        if active is None:
            return f"No refresh of {self.fleet.name} is under way."
        self.refresh, self.changed = active, active["Status"] != "Cancelling"
        if self.check_mode:
            return f"Would cancel the refresh {active['InstanceRefreshId']} at {active.get('PercentageComplete', 0)} %."
        if self.changed:
            self.fleet.autoscaling.cancel_instance_refresh(AutoScalingGroupName=self.fleet.name)
        if self.params["wait"]:
            self._wait_for_end()
        return f"The refresh is {self.refresh['Status']}; {serving(self.fleet.members())}."

    def _roll_back(self) -> str:
        refreshes = self.fleet.refreshes()
        latest = refreshes[0] if refreshes else {"Status": "None"}
        if latest["Status"] == "RollbackSuccessful":
            self.refresh = latest
            return f"The last refresh is rolled back already; {serving(self.fleet.members())}."
        if latest["Status"] not in ACTIVE or latest["Status"] == "Cancelling":
            raise RefreshError(
                f"No refresh of {self.fleet.name} is under way, and AWS cannot roll back one that is over. "
                "Refresh to the older launch template version instead: state=started with launch_template.version."
            )
        self.refresh, self.changed = latest, latest["Status"] != "RollbackInProgress"
        if self.check_mode:
            return f"Would roll back the refresh {latest['InstanceRefreshId']}."
        if self.changed:
            self.fleet.autoscaling.rollback_instance_refresh(AutoScalingGroupName=self.fleet.name)
        if self.params["wait"]:
            self._wait_for_end()
            if self.refresh["Status"] != "RollbackSuccessful":
                raise RefreshFailedError(
                    f"The rollback of {self.fleet.name} ended {self.refresh['Status']}: "
                    f"{self.refresh.get('StatusReason', 'AWS says no reason')}. {self._now_serving()}"
                )
        return f"The refresh is {self.refresh['Status']}; {serving(self.fleet.members())}."

    def _wanted(self) -> dict[str, str]:
        given = self.params.get("launch_template") or {}
        if not given:
            return {}
        if not str(given["version"]).isdigit():
            raise RefreshError(
                f"launch_template.version must be a number, not {given['version']}: AWS cannot roll back to or from "
                "$Latest and $Default."
            )
        names = {"launch_template_id": "LaunchTemplateId", "launch_template_name": "LaunchTemplateName"}
        wanted = {theirs: str(given[ours]) for ours, theirs in names.items() if given.get(ours)}
        if len(wanted) != 1:
            raise RefreshError("Give exactly one of launch_template.launch_template_id and launch_template_name.")
        return {**wanted, "Version": str(given["version"])}

    def _aim(self, wanted: dict[str, str]) -> str:
        return f"version {wanted['Version']}" if wanted else "the version that the group has saved"

    def _settled(self, wanted: dict[str, str]) -> dict[str, Any] | None:
        """Return a refresh to adopt, after waiting for one that turns back and ending one that goes elsewhere."""
        active = self.fleet.active()
        if active is None:
            return None
        turning_back = active["Status"] in ("RollbackInProgress", "Cancelling")
        desired = active.get("DesiredConfiguration", {}).get("LaunchTemplate", {})
        if not turning_back and _same(desired, wanted):
            return active
        if not turning_back and not self.params["replace_running"]:
            aim = f"version {desired['Version']}" if desired else "the group's saved version"
            raise RefreshError(
                f"A refresh of {self.fleet.name} to {aim} is {active['Status']} "
                f"({active.get('PercentageComplete', 0)} %). Wait for it, end it with state=cancelled or "
                "state=rolled_back, or set replace_running."
            )
        if self.check_mode:
            return None
        if not turning_back:
            self.fleet.autoscaling.cancel_instance_refresh(AutoScalingGroupName=self.fleet.name)
            self.changed = True
        self._say(f"waiting for the refresh {active['InstanceRefreshId']} to end first")
        self.refresh = active
        self._wait_for_end()
        return None

    def _outdated(self, wanted: dict[str, str]) -> list[Member]:
        saved = self._saved()
        members = [member for member in self.fleet.members() if not member.leaving]
        if not self.params["preferences"].get("skip_matching", True):
            return members
        return [member for member in members if not _runs(member, wanted or saved)]

    def _needed(self, wanted: dict[str, str]) -> bool:
        """Whether an instance is to be replaced, or only the version to be saved to the group."""
        return bool(self._outdated(wanted)) or (bool(wanted) and not _same(self._saved(), wanted))

    def _saved(self) -> dict[str, Any]:
        saved: dict[str, Any] = self.fleet.group().get("LaunchTemplate", {})
        return saved

    def _begin(self, wanted: dict[str, str]) -> None:
        given = self.params["preferences"]
        preferences = {theirs: given[ours] for ours, theirs in _CLIENT_NAMES.items() if given.get(ours) is not None}
        preferences.setdefault("AutoRollback", bool(wanted))
        if given.get("alarms"):
            preferences["AlarmSpecification"] = {"Alarms": given["alarms"]}
        configuration = {"DesiredConfiguration": {"LaunchTemplate": wanted}} if wanted else {}
        answer = self.fleet.autoscaling.start_instance_refresh(
            AutoScalingGroupName=self.fleet.name, Preferences=preferences, **configuration
        )
        self.changed = True
        (self.refresh,) = self.fleet.refreshes(answer["InstanceRefreshId"])

    def _follow(self, wanted: dict[str, str]) -> None:
        """Wait for the refresh's end; turn it back when too many replacements fail or the time is over.

        Raises:
            RefreshFailedError: it did not succeed.
        """
        end = self.clock() + self.params["wait_timeout"]
        cause = ""
        while True:
            self._look(wanted)
            status = self.refresh["Status"]
            if status not in ACTIVE:
                break
            limit = self.params["max_failed_instances"]
            if status in ("Pending", "InProgress", "Baking"):
                if limit and len(self.failed) >= limit:
                    self._turn_back(wanted)
                elif self.clock() > end:
                    cause = f"it was {status} with {self.refresh.get('PercentageComplete', 0)} % after "
                    cause += f"{self.params['wait_timeout']} s. {self.refresh.get('StatusReason') or ''}".rstrip()
                    self._turn_back(wanted)
                else:
                    self.sleep(self.params["wait_interval"])
                    continue
                end = self.clock() + self.params["wait_timeout"]
            elif self.clock() > end:
                break
            self.sleep(self.params["wait_interval"])
        if self.refresh["Status"] != "Successful":
            self.changed = self.changed or self._versions() != self.before
            raise RefreshFailedError(self._story(wanted, cause))

    def _look(self, wanted: dict[str, str]) -> None:
        (self.refresh,) = self.fleet.refreshes(self.refresh["InstanceRefreshId"])
        saved = self._saved()
        others = set() if self.adopted else set(self.before["instances"])
        members = self.fleet.members()
        for member in members:
            if member.serves or not _runs(member, wanted or saved):
                # What has served and dies later is not what a bad version looks like: the group replaces it.
                others.add(member.instance_id)
                self.served.add(member.instance_id)
            elif member.instance_id not in others | self.served and member.reasons:
                self.evidence[member.instance_id] = member.reasons[0]
                if member.group_health.lower() == "unhealthy":
                    self.failed[member.instance_id] = member.reasons[0]
        if self.refresh["Status"] in ("Pending", "InProgress"):
            launches, checks = self.fleet.failures_since(self.refresh["StartTime"])
            for key, reason in {**launches, **checks}.items():
                if key not in others | self.served:
                    self.failed.setdefault(key, self.evidence.get(key, reason))
                    self.unlaunched.update({key} & launches.keys())
        seen = f"{self.refresh['Status']}, {self.refresh.get('PercentageComplete', 0)} %"
        seen += f", {self.refresh.get('InstancesToUpdate', 0)} to update"
        self._say(". ".join(filter(None, [seen, self.refresh.get("StatusReason")])))
        self._tell(f"{self.refresh.get('PercentageComplete', 0)} %", members)

    def _turn_back(self, wanted: dict[str, str]) -> None:
        """Roll back, or cancel where there is nothing that AWS could roll back to."""
        possible = bool(wanted) and str(self._saved().get("Version", "")).isdigit()
        self._say("rolling back" if possible else "cancelling")
        client = self.fleet.autoscaling
        try:
            end = client.rollback_instance_refresh if possible else client.cancel_instance_refresh
            end(AutoScalingGroupName=self.fleet.name)
        except ClientError as error:
            # It ended, or AWS turned it back itself, since it was looked at: the next look tells.
            if error.response["Error"]["Code"] != "ActiveInstanceRefreshNotFound":
                raise
        else:
            self.changed = True

    def _story(self, wanted: dict[str, str], cause: str) -> str:
        aim = self._aim(wanted).capitalize()
        asked = self.fleet.health_checks()
        for instance_id, reason in sorted({**self.evidence, **self.failed}.items()):
            told = f"{instance_id} failed {asked}: {reason}"
            if instance_id in self.unlaunched:
                told = f"no instance could be launched: {reason}"
            cause += f"{'; ' if cause else ''}{told}"
        details = self.refresh.get("RollbackDetails") or {}
        said = details.get("RollbackReason") or self.refresh.get("StatusReason") or "AWS says no reason"
        cause = cause or str(said)
        ending = _STATUS_WORDS.get(self.refresh["Status"], f"The refresh is still {self.refresh['Status']}")
        return f"{aim} of {self.fleet.name} failed: {cause.rstrip('.')}. {ending}; {serving(self.fleet.members())}."

    def _wait_for_end(self) -> None:
        end = self.clock() + self.params["wait_timeout"]
        while True:
            (self.refresh,) = self.fleet.refreshes(self.refresh["InstanceRefreshId"])
            self._say(f"{self.refresh['Status']}, {self.refresh.get('PercentageComplete', 0)} %")
            self._tell(f"{self.refresh['Status']}, {self.refresh.get('PercentageComplete', 0)} %", self.fleet.members())
            if self.refresh["Status"] not in ACTIVE:
                return
            if self.clock() > end:
                raise RefreshFailedError(
                    f"The refresh of {self.fleet.name} is still {self.refresh['Status']} after "
                    f"{self.params['wait_timeout']} s. {self._now_serving()}"
                )
            self.sleep(self.params["wait_interval"])

    def _wait_for_health(self) -> None:
        """Wait until as many instances as the group wants are healthy, none else is left and nobody leaves."""
        end = self.clock() + self.params["wait_timeout"]
        while True:
            group, members = self.fleet.group(), self.fleet.members()
            healthy = [member for member in members if member.serves]
            if len(healthy) >= int(group["DesiredCapacity"]) and len(healthy) == len(members):
                return
            self._say(f"{len(healthy)} of {group['DesiredCapacity']} instances are healthy")
            self._tell(f"{len(healthy)} of {group['DesiredCapacity']} healthy", members)
            if self.clock() > end:
                asked = self.fleet.health_checks()
                why = "; ".join(f"{m.instance_id} fails {asked}: {m.reasons[0]}" for m in members if m.reasons)
                raise RefreshFailedError(
                    f"After {self.params['wait_timeout']} s {len(healthy)} of {group['DesiredCapacity']} instances of "
                    f"{self.fleet.name} are healthy{': ' + why if why else ''}. {self._now_serving()}"
                )
            self.sleep(self.params["wait_interval"])

    def _now_serving(self) -> str:
        return serving(self.fleet.members()).capitalize() + "."

    def _say(self, what: str) -> None:
        if not self.progress or self.progress[-1].partition(": ")[2] != what:
            self.progress.append(f"{self.clock() - self.begun:.0f} s: {what}")

    def _tell(self, how_far: str, members: list[Member]) -> None:
        """Tell a person who waits; what is not new is told again only after some seconds, as a sign of life."""
        text = ": ".join(filter(None, [how_far, ", ".join(member.told for member in members)]))
        now = self.clock()
        if text != self.told[0] or now - self.told[1] >= _SIGN_OF_LIFE:
            self.told = (text, now)
            self.tell(f"{now - self.begun:.0f} s, {text}")

    def _versions(self) -> dict[str, Any]:
        return {
            "launch_template_version": str(self.fleet.group().get("LaunchTemplate", {}).get("Version", "")),
            "instances": {m.instance_id: m.version for m in self.fleet.members() if not m.leaving},
        }

    def _after(self) -> dict[str, Any]:
        """Return what the group would look like."""
        wanted = self._wanted() if self.params["state"] == "started" else {}
        if not wanted:
            return self.before
        instances = {
            (one if version == wanted["Version"] else f"in place of {one}"): wanted["Version"]
            for one, version in self.before["instances"].items()
        }
        return {"launch_template_version": wanted["Version"], "instances": instances}


def _same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two launch template specifications name the same version; ids and names may be given or not."""
    if not one or not other:
        return not one and not other
    shared = [key for key in ("LaunchTemplateId", "LaunchTemplateName") if one.get(key) and other.get(key)]
    return str(one.get("Version")) == str(other.get("Version")) and all(one[key] == other[key] for key in shared)


def _runs(member: Member, template: dict[str, Any]) -> bool:
    template_id, name = member.template
    return _same({"LaunchTemplateId": template_id, "LaunchTemplateName": name, "Version": member.version}, template)


def _append(path: Path, line: str) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(f"{line}\n")


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleAWSModule(
        argument_spec={
            "name": {"type": "str", "required": True, "aliases": ["group_name"]},
            "state": {"type": "str", "choices": ["started", "cancelled", "rolled_back"], "default": "started"},
            "launch_template": {
                "type": "dict",
                "options": {
                    "launch_template_id": {"type": "str"},
                    "launch_template_name": {"type": "str"},
                    "version": {"type": "str", "required": True},
                },
            },
            "preferences": {
                "type": "dict",
                "default": {},
                "apply_defaults": True,
                "options": {
                    "min_healthy_percentage": {"type": "int", "default": 100},
                    "max_healthy_percentage": {"type": "int", "default": 200},
                    "instance_warmup": {"type": "int"},
                    "checkpoint_percentages": {"type": "list", "elements": "int"},
                    "checkpoint_delay": {"type": "int"},
                    "bake_time": {"type": "int"},
                    "skip_matching": {"type": "bool", "default": True},
                    "auto_rollback": {"type": "bool"},
                    "scale_in_protected_instances": {"type": "str", "choices": ["Refresh", "Ignore", "Wait"]},
                    "standby_instances": {"type": "str", "choices": ["Terminate", "Ignore", "Wait"]},
                    "alarms": {"type": "list", "elements": "str"},
                },
            },
            "replace_running": {"type": "bool", "default": False},
            "max_failed_instances": {"type": "int", "default": 1},
            "wait": {"type": "bool", "default": True},
            "wait_timeout": {"type": "int", "default": 900},
            "wait_interval": {"type": "int", "default": 2},
            "progress_file": {"type": "path"},
        },
        supports_check_mode=True,
    )
    fleet = Fleet(module.client("autoscaling"), module.client("elbv2"), module.params["name"])
    run = Run(fleet, module.params, check_mode=module.check_mode)
    path = module.params["progress_file"]
    if path:
        run.tell = partial(_append, Path(path))
    try:
        answer = run.do()
    except RefreshFailedError as error:
        module.fail_json(**run.results(str(error)))
    except RefreshError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"No progress can be written to progress_file: {error}. Name a file that can be written.")
    except (BotoCoreError, ClientError) as error:
        module.fail_json_aws(error, msg=f"The instances of {fleet.name} could not be refreshed")
    module.exit_json(**answer)


if __name__ == "__main__":
    main()
