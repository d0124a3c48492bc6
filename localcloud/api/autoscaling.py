"""Auto Scaling's API: writes down what is wanted; `localcloud.groups` makes it so, step by step."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from moto.autoscaling.responses import AutoScalingResponse
from moto.core.responses import ActionResult, EmptyResult

from localcloud.api import cloudwatch, ec2, elbv2
from localcloud.api.asg_records import Activity, Group, Member, at_this_time
from localcloud.api.ec2 import launching
from localcloud.api.ec2.templates import find, version_of
from localcloud.api.lifecycle_hook_records import hooks_of
from localcloud.api.registry import AwsError, Call, Service, unsupported
from localcloud.settings import ACCOUNT_ID

if TYPE_CHECKING:
    from localcloud.api import ControlPlane

SERVICE = Service("autoscaling", AutoScalingResponse)

METRICS = tuple(
    f"Group{name}"
    for name in [
        "MinSize",
        "MaxSize",
        "DesiredCapacity",
        "InServiceInstances",
        "PendingInstances",
        "StandbyInstances",
        "TerminatingInstances",
        "TotalInstances",
    ]
)
_NOT_MODELLED = {
    "LaunchConfigurationName": "launch configurations",
    "MixedInstancesPolicy": "mixed instances",
    "InstanceId": "groups made from an instance",
    "LoadBalancerNames": "classic load balancers",
    "PlacementGroup": "placement groups",
    "CapacityRebalance": "Spot capacity rebalancing",
    "TrafficSources": "traffic sources other than target groups",
    "InstanceMaintenancePolicy": "instance maintenance policies",
    "AvailabilityZoneDistribution": "availability zone distribution",
    "AvailabilityZoneImpairmentPolicy": "zonal shift",
    "CapacityReservationSpecification": "capacity reservations",
    "InstanceLifecyclePolicy": "instance lifecycle policies",
    "MaxInstanceLifetime": "a maximum instance lifetime",
    "DesiredCapacityType": "capacity in units other than instances",
    "AvailabilityZoneIds": "zones by id",
    "DeletionProtection": "deletion protection of groups",
}
_TERMINATION_POLICIES = ("Default", "OldestInstance", "NewestInstance", "OldestLaunchTemplate")


@SERVICE.action("CreateAutoScalingGroup")
def create_group(call: Call) -> EmptyResult:
    """Record a group; its first instances come with the next step."""
    params, plane = call.params, call.plane
    _refuse(call)
    name = str(params.get("AutoScalingGroupName") or "")
    if not 1 <= len(name) <= 255 or ":" in name:
        raise AwsError("ValidationError", f"The group name {name!r} must have 1 to 255 characters and no colon")
    if name in plane.groups:
        raise AwsError("AlreadyExists", "AutoScalingGroup by this name already exists - A group with the name " + name)
    for required in ("MinSize", "MaxSize"):
        if params.get(required) is None:
            raise AwsError("ValidationError", f"{required} is required")
    if not params.get("LaunchTemplate"):
        raise AwsError(
            "ValidationError",
            "Valid requests must contain either LaunchTemplate, LaunchConfigurationName, InstanceId or "
            "MixedInstancesPolicy parameter.",
        )
    region = plane.settings.region
    minimum, maximum = int(params["MinSize"]), int(params["MaxSize"])
    desired = params.get("DesiredCapacity")
    group = Group(
        name=name,
        arn=f"arn:aws:autoscaling:{region}:{ACCOUNT_ID}:autoScalingGroup:{uuid.uuid4()}:autoScalingGroupName/{name}",
        minimum=minimum,
        maximum=maximum,
        desired=minimum if desired is None else int(desired),
        subnet_ids=_subnets(plane, params),
        template=template_of(plane, params["LaunchTemplate"]),
        target_group_arns=_target_groups(plane, params.get("TargetGroupARNs") or []),
        tags=_tags(name, params.get("Tags") or []),
    )
    _apply(group, params)
    _check_size(group)
    check_launch(plane, group)
    group.hooks = hooks_of(params.get("LifecycleHookSpecificationList") or [])
    wanted, group.desired = group.desired, 0
    group.set_desired(wanted, "a user request created an AutoScalingGroup")
    plane.groups[name] = group
    return EmptyResult()


@SERVICE.action("UpdateAutoScalingGroup")
def update_group(call: Call) -> EmptyResult:
    """Change what is wanted; a desired capacity outside new bounds follows them, as AWS documents."""
    params, plane = call.params, call.plane
    _refuse(call)
    group = find_group(plane, params.get("AutoScalingGroupName"))
    changed = Group(**{**group.__dict__})
    if params.get("MinSize") is not None:
        changed.minimum = int(params["MinSize"])
    if params.get("MaxSize") is not None:
        changed.maximum = int(params["MaxSize"])
    if params.get("DesiredCapacity") is not None:
        changed.desired = int(params["DesiredCapacity"])
    else:
        changed.desired = min(max(changed.desired, changed.minimum), changed.maximum)
    if params.get("VPCZoneIdentifier"):
        changed.subnet_ids = _subnets(plane, params)
    if params.get("LaunchTemplate"):
        if group.refresh is not None and group.refresh.desired is not None:
            raise AwsError(
                "ValidationError",
                "An active instance refresh with a desired configuration exists. All configuration options derived "
                "from the desired configuration are not available for update while the instance refresh is active.",
            )
        changed.template = template_of(plane, params["LaunchTemplate"])
    _apply(changed, params)
    _check_size(changed)
    if params.get("LaunchTemplate"):
        check_launch(plane, changed)
    wanted, changed.desired = changed.desired, group.desired
    group.__dict__.update(changed.__dict__)
    if wanted != group.desired:
        bounds = f"min: {group.minimum}, max: {group.maximum}, desired: {wanted}"
        group.set_desired(wanted, f"a user request update of AutoScalingGroup constraints to {bounds}")
    group.retry_at, group.failures = 0.0, 0
    return EmptyResult()


@SERVICE.action("DeleteAutoScalingGroup")
def delete_group(call: Call) -> EmptyResult:
    """Delete an empty group, or, by force, one with its instances."""
    group = find_group(call.plane, call.params.get("AutoScalingGroupName"))
    if group.members and not call.params.get("ForceDelete"):
        raise AwsError(
            "ResourceInUse",
            "You cannot delete an AutoScalingGroup while there are instances or pending Spot instance request(s) "
            "still in the group.",
        )
    for policy in group.policies.values():
        cloudwatch.remove_alarms(call.plane, [alarm["AlarmName"] for alarm in policy.alarms])
    if group.members:
        group.deleting, group.minimum, group.desired = True, 0, 0
    else:
        del call.plane.groups[group.name]
    return EmptyResult()


@SERVICE.action("DescribeAutoScalingGroups")
def describe_groups(call: Call) -> ActionResult:
    """List groups."""
    names = call.params.get("AutoScalingGroupNames") or []
    found = [g for g in call.plane.groups.values() if not names or g.name in names]
    for filter_ in call.params.get("Filters") or []:
        found = [g for g in found if _passes(g, str(filter_.get("Name")), filter_.get("Values") or [])]
    page, token = page_of(found, call.params)
    return ActionResult({"AutoScalingGroups": [_describe(call.plane, g) for g in page], "NextToken": token})


@SERVICE.action("DescribeAutoScalingInstances")
def describe_instances(call: Call) -> ActionResult:
    """List the instances of groups."""
    wanted = call.params.get("InstanceIds") or []
    found = [
        {**_describe_member(call.plane, member), "AutoScalingGroupName": group.name}
        for group in call.plane.groups.values()
        for member in group.members.values()
        if not wanted or member.instance_id in wanted
    ]
    page, token = page_of(found, call.params)
    return ActionResult({"AutoScalingInstances": page, "NextToken": token})


@SERVICE.action("DescribeScalingActivities")
def describe_activities(call: Call) -> ActionResult:
    """List what groups did, newest first: moto has nothing to tell."""
    name, wanted = call.params.get("AutoScalingGroupName"), call.params.get("ActivityIds") or []
    groups = [find_group(call.plane, name)] if name else list(call.plane.groups.values())
    found = [a for g in groups for a in g.activities if not wanted or a.activity_id in wanted]
    page, token = page_of(found, call.params)
    return ActionResult({"Activities": [describe_activity(a) for a in page], "NextToken": token})


@SERVICE.action("SetDesiredCapacity")
def set_desired_capacity(call: Call) -> EmptyResult:
    """Change the desired capacity within the bounds."""
    if call.params.get("HonorCooldown"):
        raise unsupported("the cooldown of simple scaling (HonorCooldown)")
    group = find_group(call.plane, call.params.get("AutoScalingGroupName"))
    wanted = int(call.params.get("DesiredCapacity") or 0)
    if wanted < group.minimum:
        raise AwsError(
            "ValidationError",
            f"New SetDesiredCapacity value {wanted} is below min value {group.minimum} for the AutoScalingGroup.",
        )
    if wanted > group.maximum:
        raise AwsError(
            "ValidationError",
            f"New SetDesiredCapacity value {wanted} is above max value {group.maximum} for the AutoScalingGroup.",
        )
    if wanted != group.desired:
        group.set_desired(wanted, "a user request explicitly set group desired capacity")
    group.retry_at, group.failures = 0.0, 0
    return EmptyResult()


@SERVICE.action("TerminateInstanceInAutoScalingGroup")
def terminate_instance(call: Call) -> ActionResult:
    """Terminate a member after it has drained; the group replaces it unless the capacity goes down with it."""
    group, member = _find_member(call.plane, call.params.get("InstanceId"))
    decrement = bool(call.params.get("ShouldDecrementDesiredCapacity"))
    if decrement and group.desired - 1 < group.minimum:
        raise AwsError(
            "ValidationError",
            f"Currently, desiredSize equals minSize ({group.minimum}). Terminating instance without replacement "
            f"will violate group's min size constraint. Either set shouldDecrementDesiredCapacity flag to false or "
            "lower group's min size.",
        )
    if member.terminating:
        raise AwsError("ValidationError", f"Instance {member.instance_id} is already terminating.")
    cause = f"instance {member.instance_id} was taken out of service in response to a user request"
    if decrement:
        cause += f", shrinking the capacity from {group.desired} to {group.desired - 1}"
        group.desired -= 1
    begin_termination(call.plane, group, member, cause + ".")
    if member.activity is None:
        raise LookupError("a terminating member has an activity")
    return ActionResult({"Activity": describe_activity(member.activity)})


@SERVICE.action("SetInstanceHealth")
def set_instance_health(call: Call) -> EmptyResult:
    """Set a member's health; the next step replaces an unhealthy one (moto only keeps the flag)."""
    status = call.params.get("HealthStatus")
    if status not in ("Healthy", "Unhealthy"):
        raise AwsError("ValidationError", "Valid instance health states are: [Healthy, Unhealthy]")
    group, member = _find_member(call.plane, call.params.get("InstanceId"))
    respect = call.params.get("ShouldRespectGracePeriod")
    young = member.lifecycle != "InService" or call.plane.clock() - member.changed < group.grace_period
    if young and respect is not False and status == "Unhealthy":
        return EmptyResult()
    member.health = status
    member.cause = "a user health-check indicated it was unhealthy" if status == "Unhealthy" else ""
    return EmptyResult()


@SERVICE.action("SetInstanceProtection")
def set_instance_protection(call: Call) -> EmptyResult:
    """Keep members from being chosen at scale-in."""
    group = find_group(call.plane, call.params.get("AutoScalingGroupName"))
    for member in members_of(group, call.params.get("InstanceIds") or []):
        member.protected = bool(call.params.get("ProtectedFromScaleIn"))
    return EmptyResult()


@SERVICE.action("AttachLoadBalancerTargetGroups")
def attach_target_groups(call: Call) -> EmptyResult:
    """Add target groups; members are registered in the next step."""
    group = find_group(call.plane, call.params.get("AutoScalingGroupName"))
    for arn in _target_groups(call.plane, call.params.get("TargetGroupARNs") or []):
        if arn not in group.target_group_arns:
            group.target_group_arns.append(arn)
    return EmptyResult()


@SERVICE.action("DetachLoadBalancerTargetGroups")
def detach_target_groups(call: Call) -> EmptyResult:
    """Take target groups away; members begin to drain in them."""
    group = find_group(call.plane, call.params.get("AutoScalingGroupName"))
    for arn in call.params.get("TargetGroupARNs") or []:
        if arn not in group.target_group_arns:
            raise AwsError("ValidationError", f"Target group {arn} is not attached to {group.name}")
        group.target_group_arns.remove(arn)
        record = elbv2.backend(call.plane).target_groups.get(arn)
        if record is not None:
            for instance_id in group.members:
                elbv2.deregister(record, instance_id, call.plane.clock())
        for member in group.members.values():
            member.offered.discard(arn)
    return EmptyResult()


@SERVICE.action("DescribeLoadBalancerTargetGroups")
def describe_target_groups(call: Call) -> ActionResult:
    """List a group's target groups: `InService` once a member is healthy in them, before that `Added`."""
    group = find_group(call.plane, call.params.get("AutoScalingGroupName"))
    states = []
    for arn in group.target_group_arns:
        seen = call.plane.machine.target_health(arn)
        healthy = any(h.state == "healthy" for key, h in seen.items() if key.rpartition(":")[0] in group.members)
        states.append({"LoadBalancerTargetGroupARN": arn, "State": "InService" if healthy else "Added"})
    return ActionResult({"LoadBalancerTargetGroups": states})


@SERVICE.action("CreateOrUpdateTags")
def create_or_update_tags(call: Call) -> EmptyResult:
    """Tag groups; instances that are there already keep the tags they have, as on AWS."""
    for tag in call.params.get("Tags") or []:
        group = find_group(call.plane, tag.get("ResourceId"))
        group.tags.update(_tags(group.name, [tag]))
    return EmptyResult()


@SERVICE.action("DeleteTags")
def delete_tags(call: Call) -> EmptyResult:
    """Take tags away."""
    for tag in call.params.get("Tags") or []:
        find_group(call.plane, tag.get("ResourceId")).tags.pop(str(tag.get("Key")), None)
    return EmptyResult()


@SERVICE.action("DescribeTags")
def describe_tags(call: Call) -> ActionResult:
    """List tags of groups."""
    found = [tag for group in call.plane.groups.values() for tag in _sorted_tags(group)]
    fields = {"auto-scaling-group": "ResourceId", "key": "Key", "value": "Value"}
    for filter_ in call.params.get("Filters") or []:
        name, values = str(filter_.get("Name")), [str(v) for v in filter_.get("Values") or []]
        if name == "propagate-at-launch":
            found = [t for t in found if str(t["PropagateAtLaunch"]).lower() in {v.lower() for v in values}]
        elif name in fields:
            found = [t for t in found if t[fields[name]] in values]
        else:
            raise AwsError("ValidationError", f"The filter {name!r} is not valid")
    page, token = page_of(found, call.params)
    return ActionResult({"Tags": page, "NextToken": token})


@SERVICE.action("EnableMetricsCollection")
def enable_metrics(call: Call) -> EmptyResult:
    """Note which group metrics are wanted; none are collected (see docs)."""
    group = find_group(call.plane, call.params.get("AutoScalingGroupName"))
    wanted = call.params.get("Metrics") or METRICS
    _check_metrics(wanted)
    group.metrics = sorted({*group.metrics, *wanted})
    return EmptyResult()


@SERVICE.action("DisableMetricsCollection")
def disable_metrics(call: Call) -> EmptyResult:
    """Note which group metrics are no longer wanted: moto lacks this action."""
    group = find_group(call.plane, call.params.get("AutoScalingGroupName"))
    unwanted = call.params.get("Metrics") or METRICS
    _check_metrics(unwanted)
    group.metrics = [m for m in group.metrics if m not in unwanted]
    return EmptyResult()


def find_group(plane: ControlPlane, name: object) -> Group:
    """Return the group with this name.

    Raises:
        AwsError: there is none.
    """
    group = plane.groups.get(str(name or ""))
    if group is None:
        raise AwsError("ValidationError", f"AutoScalingGroup name not found - AutoScalingGroup '{name}' not found")
    return group


def members_of(group: Group, instance_ids: list[str]) -> list[Member]:
    """Return a group's members with these ids.

    Raises:
        AwsError: one of them is not a member.
    """
    for instance_id in instance_ids:
        if instance_id not in group.members:
            raise AwsError(
                "ValidationError", f"The instance {instance_id} is not part of Auto Scaling group {group.name}."
            )
    return [group.members[instance_id] for instance_id in instance_ids]


def begin_termination(plane: ControlPlane, group: Group, member: Member, cause: str) -> None:
    """Take a member out of service: it drains first, waits for its lifecycle hooks and is terminated then.

    Args:
        plane: the control plane, whose lock is held.
        group: the group.
        member: one of its members.
        cause: for the activity; "At" and the time are put before it unless it begins with them.
    """
    member.lifecycle, member.changed = "Terminating", plane.clock()
    member.waits.clear()
    member.activity = group.log(
        f"Terminating EC2 instance: {member.instance_id}", cause if cause.startswith("At ") else at_this_time(cause)
    )
    leave_target_groups(plane, group, member)


def leave_target_groups(plane: ControlPlane, group: Group, member: Member) -> None:
    """Begin to drain a member in all of its group's target groups."""
    for arn in group.target_group_arns:
        record = elbv2.backend(plane).target_groups.get(arn)
        if record is not None:
            elbv2.deregister(record, member.instance_id, plane.clock())
    member.offered.clear()


def describe_activity(activity: Activity) -> dict[str, Any]:
    """Return an activity as the API shows it."""
    return {
        "ActivityId": activity.activity_id,
        "AutoScalingGroupName": activity.group_name,
        "Description": activity.description,
        "Cause": activity.cause,
        "StartTime": activity.started,
        "EndTime": activity.ended,
        "StatusCode": activity.status,
        "StatusMessage": activity.message,
        "Progress": activity.progress,
        "Details": "{}",
    }


def _refuse(call: Call) -> None:
    for name, what in _NOT_MODELLED.items():
        if call.params.get(name) not in (None, False, [], {}, "", 0, "units"):
            raise unsupported(f"{what} ({name})")
    for policy in call.params.get("TerminationPolicies") or []:
        if policy not in _TERMINATION_POLICIES:
            raise unsupported(f"the termination policy {policy!r} (TerminationPolicies)")
    kinds = {k.strip() for k in str(call.params.get("HealthCheckType") or "EC2").split(",")}
    if not kinds <= {"EC2", "ELB"}:
        raise unsupported(f"health checks of type {call.params['HealthCheckType']} (HealthCheckType)")


def _apply(group: Group, params: dict[str, Any]) -> None:
    kinds = {k.strip() for k in str(params.get("HealthCheckType") or "").split(",")}
    if params.get("HealthCheckType"):
        group.health_check_type = "ELB" if "ELB" in kinds else "EC2"
    for name, field in (
        ("HealthCheckGracePeriod", "grace_period"),
        ("DefaultCooldown", "cooldown"),
        ("DefaultInstanceWarmup", "warmup"),
    ):
        if params.get(name) is not None:
            setattr(group, field, int(params[name]))
    if group.warmup == -1:
        group.warmup = None
    if params.get("NewInstancesProtectedFromScaleIn") is not None:
        group.new_protected = bool(params["NewInstancesProtectedFromScaleIn"])
    if params.get("TerminationPolicies"):
        group.termination_policies = list(params["TerminationPolicies"])


def _check_size(group: Group) -> None:
    if not 0 <= group.minimum <= group.maximum:
        raise AwsError(
            "ValidationError",
            f"Max bound, {group.maximum}, must be greater than or equal to min bound, {group.minimum}",
        )
    if not group.minimum <= group.desired <= group.maximum:
        raise AwsError(
            "ValidationError",
            f"Desired capacity:{group.desired} must be between the specified min size:{group.minimum} "
            f"and max size:{group.maximum}",
        )


def _subnets(plane: ControlPlane, params: dict[str, Any]) -> list[str]:
    records = ec2.backend(plane)
    wanted = [s.strip() for s in str(params.get("VPCZoneIdentifier") or "").split(",") if s.strip()]
    if not wanted:
        defaults = records.get_default_subnets()
        zones = params.get("AvailabilityZones") or []
        if not zones or any(zone not in defaults for zone in zones):
            raise AwsError("ValidationError", "At least one Availability Zone or VPC Subnet is required.")
        return [defaults[zone].id for zone in zones]
    known = {s.id for s in records.describe_subnets()}
    for subnet_id in wanted:
        if subnet_id not in known:
            raise AwsError("ValidationError", f"The subnet ID '{subnet_id}' does not exist")
    return wanted


def template_of(plane: ControlPlane, given: dict[str, Any]) -> dict[str, Any]:
    """Return a launch template as `Group.template` holds it.

    Raises:
        AwsError: there is no such template or version.
    """
    try:
        template = find(plane, given.get("LaunchTemplateId"), given.get("LaunchTemplateName"))
        version_of(template, given.get("Version"))
    except AwsError as error:
        raise AwsError("ValidationError", str(error.message)) from error
    return {"LaunchTemplateId": template.id, "LaunchTemplateName": template.name, "Version": given.get("Version")}


def check_launch(plane: ControlPlane, group: Group) -> None:
    """Try whether the template could launch, as AWS does when a group is made."""
    failure: AwsError | None = None
    for subnet_id in group.subnet_ids:
        specification = {"LaunchTemplateId": group.template["LaunchTemplateId"], "Version": group.template["Version"]}
        try:
            launching.resolve(plane, {"LaunchTemplate": specification}, subnet_id=subnet_id)
        except AwsError as error:
            failure = failure or error
        else:
            return
    if failure is not None:
        raise AwsError("ValidationError", f"You must use a valid fully-formed launch template. {failure.message}")


def _target_groups(plane: ControlPlane, arns: list[str]) -> list[str]:
    for arn in arns:
        if arn not in elbv2.backend(plane).target_groups:
            raise AwsError("ValidationError", f"Target group {arn} not found")
    return list(arns)


def _tags(group_name: str, tags: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {
        str(tag["Key"]): {
            "ResourceId": group_name,
            "ResourceType": "auto-scaling-group",
            "Key": str(tag["Key"]),
            "Value": str(tag.get("Value") or ""),
            "PropagateAtLaunch": bool(tag.get("PropagateAtLaunch")),
        }
        for tag in tags
    }


def _sorted_tags(group: Group) -> list[dict[str, Any]]:
    return [group.tags[key] for key in sorted(group.tags)]


def _find_member(plane: ControlPlane, instance_id: object) -> tuple[Group, Member]:
    for group in plane.groups.values():
        if str(instance_id) in group.members:
            return group, group.members[str(instance_id)]
    raise AwsError(
        "ValidationError", f"Instance Id not found - No managed instance found for instance ID: {instance_id}"
    )


def _check_metrics(names: Iterable[str]) -> None:
    for name in names:
        if name not in METRICS:
            raise AwsError("ValidationError", f"{name} is not one of the metrics {', '.join(METRICS)}")


def _passes(group: Group, name: str, values: list[str]) -> bool:
    if name == "tag-key":
        return any(key in values for key in group.tags)
    if name == "tag-value":
        return any(tag["Value"] in values for tag in group.tags.values())
    if name.startswith("tag:"):
        tag = group.tags.get(name.removeprefix("tag:"))
        return tag is not None and tag["Value"] in values
    raise AwsError("ValidationError", f"The filter {name!r} is not valid")


def page_of(items: list[Any], params: dict[str, Any]) -> tuple[list[Any], str | None]:
    """Return the part of a list that a call asks for, and the token for the next."""
    start, size = int(params.get("NextToken") or 0), int(params.get("MaxRecords") or 50)
    following = str(start + size) if start + size < len(items) else None
    return items[start : start + size], following


def _describe_member(plane: ControlPlane, member: Member) -> dict[str, Any]:
    instance = ec2.backend(plane).get_instance_by_id(member.instance_id)
    return {
        "InstanceId": member.instance_id,
        "InstanceType": member.instance_type,
        "AvailabilityZone": member.zone,
        "LifecycleState": member.lifecycle,
        "HealthStatus": member.health,
        "ImageId": instance.image_id if instance is not None else None,
        "ProtectedFromScaleIn": member.protected,
        "LaunchTemplate": {
            "LaunchTemplateId": member.template_id,
            "LaunchTemplateName": member.template_name,
            "Version": member.template_version,
        },
    }


def _describe(plane: ControlPlane, group: Group) -> dict[str, Any]:
    zones = {s.id: s.availability_zone for s in ec2.backend(plane).describe_subnets()}
    return {
        "AutoScalingGroupName": group.name,
        "AutoScalingGroupARN": group.arn,
        "LaunchTemplate": {key: value for key, value in group.template.items() if value is not None},
        "MinSize": group.minimum,
        "MaxSize": group.maximum,
        "DesiredCapacity": group.desired,
        "DefaultCooldown": group.cooldown,
        "DefaultInstanceWarmup": group.warmup,
        "AvailabilityZones": sorted({zones[s] for s in group.subnet_ids if s in zones}),
        "LoadBalancerNames": [],
        "TargetGroupARNs": list(group.target_group_arns),
        "HealthCheckType": group.health_check_type,
        "HealthCheckGracePeriod": group.grace_period,
        "Instances": [_describe_member(plane, m) for m in group.members.values()],
        "CreatedTime": group.created,
        "SuspendedProcesses": [
            {"ProcessName": name, "SuspensionReason": "User suspended"} for name in sorted(group.suspended)
        ],
        "VPCZoneIdentifier": ",".join(group.subnet_ids),
        "EnabledMetrics": [{"Metric": m, "Granularity": "1Minute"} for m in group.metrics],
        "Status": "Delete in progress" if group.deleting else None,
        "Tags": _sorted_tags(group),
        "TerminationPolicies": list(group.termination_policies),
        "NewInstancesProtectedFromScaleIn": group.new_protected,
        "ServiceLinkedRoleARN": f"arn:aws:iam::{ACCOUNT_ID}:role/aws-service-role/autoscaling.amazonaws.com/"
        "AWSServiceRoleForAutoScaling",
        "CapacityRebalance": False,
        "TrafficSources": [{"Identifier": arn, "Type": "elbv2"} for arn in group.target_group_arns],
    }
