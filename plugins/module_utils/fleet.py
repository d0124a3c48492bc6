"""All that the account says of a fleet: versions, instances, images, alarms, refreshes, records. Reads only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from plugins.module_utils.deploy_records import Records
    from plugins.module_utils.version_marks import Marks, tags_of
else:
    # Where Ansible puts what lies in plugins/module_utils.
    from ansible.module_utils.deploy_records import Records
    from ansible.module_utils.version_marks import Marks, tags_of

_REFRESHES = 5
_NO_TEMPLATE = "InvalidLaunchTemplateName.NotFoundException"
_NO_BALANCER = "LoadBalancerNotFound"


@dataclass(frozen=True)
class FleetReader:
    """Reads one fleet.

    Args:
        clients: boto3 clients `ec2`, `autoscaling`, `elbv2`, `cloudwatch` and `ssm`.
        project: the project's name; its images and records carry it.
        template: the launch template's name.
        group: the Auto Scaling group's name.
        load_balancer: the load balancer's name.
        now: aware.
    """

    clients: dict[str, Any]
    project: str
    template: str
    group: str
    load_balancer: str
    now: datetime

    def read(self) -> dict[str, Any]:
        """Return what fleet_info documents; what does not exist is empty."""
        ec2 = self.clients["ec2"]
        template = self._template()
        group = self._group()
        images = ec2.describe_images(Owners=["self"], Filters=[_tagged(self.project)])["Images"]
        instances = self._instances(group)
        versions = self._versions(template, instances)
        records = Records(self.clients["ssm"], self.project)
        lock = records.lock()
        return {
            "template": _template_told(template),
            "versions": versions,
            "group": _group_told(group),
            "instances": instances,
            "images": self._images(images, versions, self._running_images()),
            "alarms": self._alarms() if group else [],
            "refreshes": self._refreshes() if group else [],
            "lock": {**lock.described(), "told": lock.told(self.now)} if lock else {},
            "history": records.history(),
            **self._listener(),
        }

    def _template(self) -> dict[str, Any]:
        def ask() -> list[dict[str, Any]]:
            found: list[dict[str, Any]] = self.clients["ec2"].describe_launch_templates(
                LaunchTemplateNames=[self.template]
            )["LaunchTemplates"]
            return found

        return next(iter(_unless(ask, _NO_TEMPLATE)), {})

    def _group(self) -> dict[str, Any]:
        found: list[dict[str, Any]] = self.clients["autoscaling"].describe_auto_scaling_groups(
            AutoScalingGroupNames=[self.group]
        )["AutoScalingGroups"]
        return found[0] if found else {}

    def _versions(self, template: dict[str, Any], instances: list[dict[str, Any]]) -> list[dict[str, Any]]:
        if not template:
            return []
        marks = Marks.from_tags(tags_of(template))
        pages = (
            self.clients["ec2"]
            .get_paginator("describe_launch_template_versions")
            .paginate(LaunchTemplateId=template["LaunchTemplateId"])
        )
        found = [version for page in pages for version in page["LaunchTemplateVersions"]]
        return [
            {
                "number": version["VersionNumber"],
                "image_id": version["LaunchTemplateData"].get("ImageId", ""),
                "created": _moment(version.get("CreateTime")),
                "good": version["VersionNumber"] in marks.good,
                "void": version["VersionNumber"] in marks.void,
                "instances": [one["id"] for one in instances if one["version"] == str(version["VersionNumber"])],
            }
            for version in sorted(found, key=lambda one: int(one["VersionNumber"]), reverse=True)
        ]

    def _instances(self, group: dict[str, Any]) -> list[dict[str, Any]]:
        ids = [one["InstanceId"] for one in group.get("Instances", [])]
        if not ids:
            return []
        # By filter, not by id: one that is gone already is no error.
        answer = self.clients["ec2"].describe_instances(Filters=[{"Name": "instance-id", "Values": ids}])
        known = {one["InstanceId"]: one for each in answer["Reservations"] for one in each["Instances"]}
        targets: dict[str, dict[str, str]] = {}
        for arn in group.get("TargetGroupARNs", []):
            for one in self.clients["elbv2"].describe_target_health(TargetGroupArn=arn)["TargetHealthDescriptions"]:
                health = one["TargetHealth"]
                targets[one["Target"]["Id"]] = {
                    "state": health["State"],
                    "reason": health.get("Reason", ""),
                    "description": health.get("Description", ""),
                }
        unknown = {"state": "unregistered", "reason": "", "description": ""}
        return [
            {
                "id": one["InstanceId"],
                "version": str(one.get("LaunchTemplate", {}).get("Version", "")),
                "state": one["LifecycleState"],
                "health": one["HealthStatus"],
                "zone": one["AvailabilityZone"],
                "private_ip": known.get(one["InstanceId"], {}).get("PrivateIpAddress", ""),
                "launched": _moment(known.get(one["InstanceId"], {}).get("LaunchTime")),
                "target": targets.get(one["InstanceId"], unknown),
            }
            for one in sorted(group["Instances"], key=lambda each: str(each["InstanceId"]))
        ]

    def _running_images(self) -> dict[str, list[str]]:
        """The images of all instances of the project that are not terminated, the fleet's and others'."""
        states = {"Name": "instance-state-name", "Values": ["pending", "running", "stopping", "stopped"]}
        pages = (
            self.clients["ec2"].get_paginator("describe_instances").paginate(Filters=[_tagged(self.project), states])
        )
        found: dict[str, list[str]] = {}
        for page in pages:
            for each in page["Reservations"]:
                for one in each["Instances"]:
                    found.setdefault(one["ImageId"], []).append(one["InstanceId"])
        return found

    def _images(
        self, images: list[dict[str, Any]], versions: list[dict[str, Any]], running: dict[str, list[str]]
    ) -> list[dict[str, Any]]:
        return [
            {
                "id": image["ImageId"],
                "name": image["Name"],
                "state": image["State"],
                "created": image["CreationDate"],
                "age_days": max((self.now - _parsed(image["CreationDate"])).days, 0),
                "tags": tags_of(image),
                "snapshots": [
                    mapping["Ebs"]["SnapshotId"]
                    for mapping in image.get("BlockDeviceMappings", [])
                    if mapping.get("Ebs", {}).get("SnapshotId")
                ],
                "versions": [one["number"] for one in versions if one["image_id"] == image["ImageId"]],
                "instances": running.get(image["ImageId"], []),
            }
            for image in sorted(images, key=lambda one: (one["CreationDate"], one["ImageId"]), reverse=True)
        ]

    def _alarms(self) -> list[dict[str, str]]:
        """The alarms that the group's scaling policies act on."""
        policies = self.clients["autoscaling"].describe_policies(AutoScalingGroupName=self.group)["ScalingPolicies"]
        names = [alarm["AlarmName"] for policy in policies for alarm in policy.get("Alarms", [])]
        if not names:
            return []
        answer = self.clients["cloudwatch"].describe_alarms(AlarmNames=names)
        return [
            {"name": one["AlarmName"], "state": one["StateValue"], "reason": one.get("StateReason", "")}
            for one in answer["MetricAlarms"]
        ]

    def _refreshes(self) -> list[dict[str, Any]]:
        answer = self.clients["autoscaling"].describe_instance_refreshes(
            AutoScalingGroupName=self.group, MaxRecords=_REFRESHES
        )
        return [
            {
                "id": one["InstanceRefreshId"],
                "status": one["Status"],
                "percentage": one.get("PercentageComplete", 0),
                "version": str(one.get("DesiredConfiguration", {}).get("LaunchTemplate", {}).get("Version", "")),
                "started": _moment(one.get("StartTime")),
                "ended": _moment(one.get("EndTime")),
                "reason": one.get("StatusReason", ""),
            }
            for one in answer["InstanceRefreshes"][:_REFRESHES]
        ]

    def _listener(self) -> dict[str, Any]:
        def ask() -> list[dict[str, Any]]:
            found: list[dict[str, Any]] = self.clients["elbv2"].describe_load_balancers(Names=[self.load_balancer])[
                "LoadBalancers"
            ]
            return found

        balancers = _unless(ask, _NO_BALANCER)
        if not balancers:
            return {"dns_name": "", "maintenance": False}
        listeners = self.clients["elbv2"].describe_listeners(LoadBalancerArn=balancers[0]["LoadBalancerArn"])
        actions = [action["Type"] for one in listeners["Listeners"] for action in one["DefaultActions"]]
        return {"dns_name": balancers[0]["DNSName"], "maintenance": "fixed-response" in actions}


def _unless(ask: Callable[[], list[dict[str, Any]]], code: str) -> list[dict[str, Any]]:
    try:
        return ask()
    except ClientError as error:
        if error.response["Error"]["Code"] == code:
            return []
        raise


def _tagged(project: str) -> dict[str, Any]:
    return {"Name": "tag:Project", "Values": [project]}


def _template_told(template: dict[str, Any]) -> dict[str, Any]:
    marks = Marks.from_tags(tags_of(template))
    return {
        "id": template.get("LaunchTemplateId", ""),
        "name": template.get("LaunchTemplateName", ""),
        "default": template.get("DefaultVersionNumber", 0),
        "latest": template.get("LatestVersionNumber", 0),
        "good": list(marks.good),
        "void": list(marks.void),
    }


def _group_told(group: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": group.get("AutoScalingGroupName", ""),
        "version": str(group.get("LaunchTemplate", {}).get("Version", "")),
        "min": group.get("MinSize", 0),
        "max": group.get("MaxSize", 0),
        "desired": group.get("DesiredCapacity", 0),
        "suspended": sorted(one["ProcessName"] for one in group.get("SuspendedProcesses", [])),
    }


def _moment(value: datetime | None) -> str:
    return value.astimezone(UTC).isoformat(timespec="seconds") if value else ""


def _parsed(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))
