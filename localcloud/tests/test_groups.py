"""Auto Scaling: what the groups do, step by step."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from localcloud.model import HealthState, InstanceState
from localcloud.tests.api_cloud import ApiCloud, encoded, refused


def test_group_launches_from_the_numbered_version(cloud: ApiCloud) -> None:
    """Auto Scaling User Guide, "Launch templates": tags, user data and metadata options reach the instances."""
    template = cloud.template(UserData=encoded("one"))
    cloud.ec2.create_launch_template_version(
        LaunchTemplateId=template,
        SourceVersion="1",
        LaunchTemplateData={"UserData": encoded("two"), "MetadataOptions": {"HttpTokens": "required"}},
    )
    cloud.ec2.create_launch_template_version(LaunchTemplateId=template, SourceVersion="1", LaunchTemplateData={})
    cloud.group(
        template=template,
        LaunchTemplate={"LaunchTemplateId": template, "Version": "2"},
        Tags=[
            {"Key": "Role", "Value": "web", "PropagateAtLaunch": True},
            {"Key": "Own", "Value": "group", "PropagateAtLaunch": False},
        ],
    )
    ((instance_id, member),) = cloud.members().items()
    assert (member["LifecycleState"], member["HealthStatus"]) == ("InService", "Healthy")
    assert member["LaunchTemplate"]["Version"] == "2"
    desired = cloud.state.instances()[instance_id]
    assert desired.user_data == b"two"
    assert desired.http_tokens == "required"
    tags = dict(desired.tags)
    assert (tags["Role"], tags["aws:autoscaling:groupName"]) == ("web", "fleet")
    assert "Own" not in tags


def test_instances_are_spread_over_zones(cloud: ApiCloud) -> None:
    """Auto Scaling User Guide, "Distribute instances across Availability Zones" (moto uses the first subnet only)."""
    cloud.group(DesiredCapacity=4)
    zones = Counter(m["AvailabilityZone"] for m in cloud.members().values())
    assert zones == {"ap-northeast-2a": 2, "ap-northeast-2c": 2}


def test_zones_without_the_type_are_left_out(cloud: ApiCloud) -> None:
    """EC2 API Reference, "DescribeInstanceTypeOfferings": t2 is not offered in the zone b."""
    cloud.group(DesiredCapacity=2, VPCZoneIdentifier=f"{cloud.subnet('b')},{cloud.subnet('c')}")
    assert {m["AvailabilityZone"] for m in cloud.members().values()} == {"ap-northeast-2c"}


def test_dead_instance_is_replaced(cloud: ApiCloud) -> None:
    """Auto Scaling User Guide, "Health checks for instances in an Auto Scaling group": terminated outside the group."""
    _, group_arn = cloud.balanced(delay=5)
    cloud.group(TargetGroupARNs=[group_arn])
    (dead,) = cloud.members()
    cloud.ec2.terminate_instances(InstanceIds=[dead])
    cloud.step(3)
    (alive,) = cloud.members()
    assert alive != dead
    targets = cloud.state.target_groups()[group_arn].targets
    assert [t.target_id for t in targets] == [alive]


def test_stopped_instance_is_replaced(cloud: ApiCloud) -> None:
    """Auto Scaling User Guide, "Health checks …": an instance that does not run is unhealthy."""
    cloud.group()
    (stopped,) = cloud.members()
    cloud.ec2.stop_instances(InstanceIds=[stopped])
    cloud.step(4)
    assert stopped not in cloud.members()
    assert cloud.instance(stopped)["State"]["Name"] == "terminated"


def test_elb_check_counts_after_the_grace_period(cloud: ApiCloud) -> None:
    """Auto Scaling User Guide, "Set the health check grace period"."""
    _, group_arn = cloud.balanced(delay=0)
    cloud.group(TargetGroupARNs=[group_arn], HealthCheckType="ELB", HealthCheckGracePeriod=60)
    (sick,) = cloud.members()
    cloud.see(group_arn, sick, HealthState.UNHEALTHY, "Health checks failed with these codes: [502]")
    cloud.step(5)
    assert list(cloud.members()) == [sick]
    cloud.now += 60
    cloud.step(4)
    assert sick not in cloud.members()
    cause = cloud.asg.describe_scaling_activities(AutoScalingGroupName="fleet")["Activities"]
    assert any("[502]" in a["Cause"] for a in cause)


def test_ec2_type_ignores_the_load_balancer(cloud: ApiCloud) -> None:
    """Auto Scaling User Guide, "Health check types": ELB checks count only when turned on."""
    _, group_arn = cloud.balanced()
    cloud.group(TargetGroupARNs=[group_arn])
    (sick,) = cloud.members()
    cloud.see(group_arn, sick, HealthState.UNHEALTHY)
    cloud.step(5, seconds=100)
    assert list(cloud.members()) == [sick]


@pytest.mark.parametrize(("respect", "replaced"), [(False, True), (True, False)])
def test_set_instance_health_has_an_effect(cloud: ApiCloud, respect: bool, replaced: bool) -> None:
    """Auto Scaling API Reference, "SetInstanceHealth": ShouldRespectGracePeriod (moto only keeps the flag)."""
    cloud.group(HealthCheckGracePeriod=300)
    (instance_id,) = cloud.members()
    cloud.asg.set_instance_health(InstanceId=instance_id, HealthStatus="Unhealthy", ShouldRespectGracePeriod=respect)
    cloud.step(4)
    assert (instance_id not in cloud.members()) is replaced


def test_instance_drains_before_it_is_terminated(cloud: ApiCloud) -> None:
    """ELB User Guide, "Deregistration delay"; Auto Scaling waits for it."""
    _, group_arn = cloud.balanced(delay=10)
    cloud.group(DesiredCapacity=2, TargetGroupARNs=[group_arn])
    cloud.asg.set_desired_capacity(AutoScalingGroupName="fleet", DesiredCapacity=1)
    cloud.step(2)
    (leaving,) = (i for i, m in cloud.members().items() if m["LifecycleState"] == "Terminating")
    assert cloud.instance(leaving)["State"]["Name"] == "running"
    assert leaving not in {t.target_id for t in cloud.state.target_groups()[group_arn].targets}
    assert cloud.activities()[0] == (
        f"Terminating EC2 instance: {leaving}",
        "WaitingForELBConnectionDraining",
    )
    cloud.now += 10
    cloud.step(3)
    assert leaving not in cloud.members()
    assert cloud.instance(leaving)["State"]["Name"] == "terminated"
    assert cloud.activities()[0] == (f"Terminating EC2 instance: {leaving}", "Successful")


def test_scale_in_takes_the_fullest_zone_and_spares_the_protected(cloud: ApiCloud) -> None:
    """Auto Scaling User Guide, "Default termination policy" and "Use instance scale-in protection"."""
    cloud.group(DesiredCapacity=3)
    by_zone: dict[str, list[str]] = {}
    for instance_id, member in cloud.members().items():
        by_zone.setdefault(member["AvailabilityZone"], []).append(instance_id)
    alone = next(v[0] for v in by_zone.values() if len(v) == 1)
    protected, other = next(v for v in by_zone.values() if len(v) == 2)
    cloud.asg.set_instance_protection(AutoScalingGroupName="fleet", InstanceIds=[protected], ProtectedFromScaleIn=True)
    cloud.asg.set_desired_capacity(AutoScalingGroupName="fleet", DesiredCapacity=2)
    cloud.step(3)
    assert set(cloud.members()) == {alone, protected}
    assert other not in cloud.members()


def test_size_stays_within_its_bounds(cloud: ApiCloud) -> None:
    """Auto Scaling API Reference, "SetDesiredCapacity", "UpdateAutoScalingGroup", "TerminateInstance…"."""
    cloud.group(MinSize=1, MaxSize=2)
    for wanted in (0, 3):
        assert (
            refused(cloud.asg.set_desired_capacity, AutoScalingGroupName="fleet", DesiredCapacity=wanted)
            == "ValidationError"
        )
    (only,) = cloud.members()
    shrink = {"InstanceId": only, "ShouldDecrementDesiredCapacity": True}
    assert refused(lambda: cloud.asg.terminate_instance_in_auto_scaling_group(**shrink)) == "ValidationError"
    cloud.asg.update_auto_scaling_group(AutoScalingGroupName="fleet", MinSize=2, MaxSize=3)
    cloud.step(3)
    assert len(cloud.members()) == 2


def test_terminated_through_the_group(cloud: ApiCloud) -> None:
    """Auto Scaling API Reference, "TerminateInstanceInAutoScalingGroup"."""
    cloud.group(DesiredCapacity=2)
    first, second = cloud.members()
    cloud.asg.terminate_instance_in_auto_scaling_group(InstanceId=first, ShouldDecrementDesiredCapacity=True)
    cloud.step(4)
    assert list(cloud.members()) == [second]
    cloud.asg.terminate_instance_in_auto_scaling_group(InstanceId=second, ShouldDecrementDesiredCapacity=False)
    cloud.step(4)
    assert len(cloud.members()) == 1
    assert second not in cloud.members()


def test_failed_launch_is_told_and_tried_again_later(cloud: ApiCloud) -> None:
    """Auto Scaling User Guide, "Troubleshoot Amazon EC2 Auto Scaling": the activity says why."""
    image_id = cloud.ec2.create_image(InstanceId=cloud.run(), Name="memo-1")["ImageId"]
    cloud.group(template=cloud.template(ImageId=image_id))
    cloud.ec2.deregister_image(ImageId=image_id)
    cloud.asg.set_desired_capacity(AutoScalingGroupName="fleet", DesiredCapacity=2)
    cloud.step(10)
    failed = [a for a in cloud.activities() if a[1] == "Failed"]
    assert len(failed) == 1
    told = cloud.asg.describe_scaling_activities(AutoScalingGroupName="fleet")["Activities"][0]
    assert image_id in told["StatusMessage"]
    cloud.step(10)
    assert len([a for a in cloud.activities() if a[1] == "Failed"]) == 2


def test_instance_that_never_starts_is_no_endless_loop(cloud: ApiCloud) -> None:
    """Auto Scaling slows down when launches fail in a row."""
    cloud.asg.create_auto_scaling_group(
        AutoScalingGroupName="fleet",
        MinSize=1,
        MaxSize=1,
        VPCZoneIdentifier=cloud.subnet(),
        LaunchTemplate={"LaunchTemplateId": cloud.template()},
    )
    for _ in range(60):
        cloud.groups.step()
        for instance in cloud.state.instances().values():
            cloud.state.mark(instance.instance_id, InstanceState.TERMINATED, "Server.InternalError: no room")
        cloud.now += 1
    failed = [a for a in cloud.activities() if a[1] == "Failed"]
    assert 2 <= len(failed) <= 3


def test_target_groups_can_be_changed(cloud: ApiCloud) -> None:
    """Auto Scaling API Reference, "AttachLoadBalancerTargetGroups" and "DetachLoadBalancerTargetGroups"."""
    _, group_arn = cloud.balanced()
    cloud.group()
    (instance_id,) = cloud.members()
    cloud.asg.attach_load_balancer_target_groups(AutoScalingGroupName="fleet", TargetGroupARNs=[group_arn])
    cloud.step()
    assert [t.target_id for t in cloud.state.target_groups()[group_arn].targets] == [instance_id]
    states = {"AutoScalingGroupName": "fleet"}
    told = cloud.asg.describe_load_balancer_target_groups(**states)["LoadBalancerTargetGroups"]
    assert told[0]["State"] == "Added"
    cloud.see(group_arn, instance_id, HealthState.HEALTHY)
    told = cloud.asg.describe_load_balancer_target_groups(**states)["LoadBalancerTargetGroups"]
    assert told[0]["State"] == "InService"
    cloud.asg.detach_load_balancer_target_groups(AutoScalingGroupName="fleet", TargetGroupARNs=[group_arn])
    cloud.step()
    assert cloud.state.target_groups()[group_arn].targets == ()


def test_group_is_deleted_with_its_instances_by_force_only(cloud: ApiCloud) -> None:
    """Auto Scaling API Reference, "DeleteAutoScalingGroup"."""
    cloud.group(DesiredCapacity=2)
    assert refused(lambda: cloud.asg.delete_auto_scaling_group(AutoScalingGroupName="fleet")) == "ResourceInUse"
    cloud.asg.delete_auto_scaling_group(AutoScalingGroupName="fleet", ForceDelete=True)
    status = cloud.asg.describe_auto_scaling_groups()["AutoScalingGroups"][0]["Status"]
    assert status == "Delete in progress"
    cloud.step(3)
    assert cloud.asg.describe_auto_scaling_groups()["AutoScalingGroups"] == []
    assert cloud.state.instances() == {}


def test_suspended_processes_rest(cloud: ApiCloud) -> None:
    """Auto Scaling User Guide, "Suspend and resume Amazon EC2 Auto Scaling processes"."""
    cloud.group()
    cloud.asg.suspend_processes(AutoScalingGroupName="fleet", ScalingProcesses=["Launch"])
    cloud.asg.set_desired_capacity(AutoScalingGroupName="fleet", DesiredCapacity=2)
    cloud.step(3)
    assert len(cloud.members()) == 1
    cloud.asg.resume_processes(AutoScalingGroupName="fleet")
    cloud.step(3)
    assert len(cloud.members()) == 2


def test_tags_are_sorted(cloud: ApiCloud) -> None:
    """Auto Scaling API Reference, "DescribeAutoScalingGroups": AWS returns tags by key (moto in the order given)."""
    cloud.group(Tags=[{"Key": k, "Value": "x", "PropagateAtLaunch": True} for k in ("b", "c", "a")])
    told = cloud.asg.describe_auto_scaling_groups()["AutoScalingGroups"][0]["Tags"]
    assert [t["Key"] for t in told] == ["a", "b", "c"]


def test_metrics_can_be_turned_off(cloud: ApiCloud) -> None:
    """Auto Scaling API Reference, "DisableMetricsCollection" (missing in moto; autoscaling_group always calls it)."""
    cloud.group()
    cloud.asg.enable_metrics_collection(
        AutoScalingGroupName="fleet", Metrics=["GroupMinSize", "GroupMaxSize"], Granularity="1Minute"
    )
    cloud.asg.disable_metrics_collection(AutoScalingGroupName="fleet", Metrics=["GroupMinSize"])
    told = cloud.asg.describe_auto_scaling_groups()["AutoScalingGroups"][0]["EnabledMetrics"]
    assert [m["Metric"] for m in told] == ["GroupMaxSize"]


def test_target_tracking_makes_its_alarms(cloud: ApiCloud) -> None:
    """Auto Scaling User Guide, "Target tracking scaling policies": two alarms, which wait for data here."""
    cloud.group()
    track: dict[str, Any] = {
        "AutoScalingGroupName": "fleet",
        "PolicyName": "cpu",
        "PolicyType": "TargetTrackingScaling",
        "TargetTrackingConfiguration": {
            "PredefinedMetricSpecification": {"PredefinedMetricType": "ASGAverageCPUUtilization"},
            "TargetValue": 50.0,
        },
    }
    for _ in range(2):
        alarms = {a["AlarmName"] for a in cloud.asg.put_scaling_policy(**track)["Alarms"]}
    known = cloud.client("cloudwatch").describe_alarms()["MetricAlarms"]
    assert {a["AlarmName"] for a in known} == alarms
    assert {a["StateValue"] for a in known} == {"INSUFFICIENT_DATA"}
    cloud.asg.delete_policy(AutoScalingGroupName="fleet", PolicyName="cpu")
    assert cloud.client("cloudwatch").describe_alarms()["MetricAlarms"] == []
    assert refused(lambda: cloud.asg.put_scaling_policy(**{**track, "PolicyType": "StepScaling"})) == (
        "UnsupportedOperation"
    )


@pytest.mark.parametrize(
    ("parameters", "code"),
    [
        ({"MinSize": 3, "MaxSize": 2}, "ValidationError"),
        ({"DesiredCapacity": 9}, "ValidationError"),
        ({"LaunchTemplate": {"LaunchTemplateName": "nobody"}}, "ValidationError"),
        ({"VPCZoneIdentifier": "subnet-00000000000000000"}, "ValidationError"),
        ({"TargetGroupARNs": ["arn:aws:nothing"]}, "ValidationError"),
        ({"HealthCheckType": "VPC_LATTICE"}, "UnsupportedOperation"),
        ({"MaxInstanceLifetime": 86400}, "UnsupportedOperation"),
        ({"PlacementGroup": "close"}, "UnsupportedOperation"),
    ],
)
def test_wrong_groups_are_refused(cloud: ApiCloud, parameters: dict[str, Any], code: str) -> None:
    """Auto Scaling API Reference, "CreateAutoScalingGroup"."""
    assert refused(lambda: cloud.group(**parameters)) == code


def test_template_that_cannot_launch_is_refused(cloud: ApiCloud) -> None:
    """Auto Scaling User Guide, "Troubleshoot …: You must use a valid fully-formed launch template"."""
    template = cloud.template(ImageId="ami-00000000000000000")
    assert refused(lambda: cloud.group(template=template)) == "ValidationError"
