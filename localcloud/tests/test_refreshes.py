"""Instance refreshes: what the API refuses and what the groups do, step by step."""

from __future__ import annotations

from typing import Any

import pytest

from localcloud.api import cloudwatch
from localcloud.model import HealthState
from localcloud.tests.api_cloud import ApiCloud, encoded, refused

FLEET = {"AutoScalingGroupName": "fleet"}
AHEAD = {"MinHealthyPercentage": 100, "MaxHealthyPercentage": 200, "InstanceWarmup": 0}


def two_versions(cloud: ApiCloud, **group: Any) -> dict[str, Any]:  # noqa: ANN401 - CreateAutoScalingGroup's
    """Make a group that runs version 1 of a template that has two.

    Returns:
        The desired configuration for version 2.
    """
    template = cloud.template()
    cloud.ec2.create_launch_template_version(
        LaunchTemplateId=template, SourceVersion="1", LaunchTemplateData={"UserData": encoded("two")}
    )
    cloud.group(template=template, **group)
    return {"LaunchTemplate": {"LaunchTemplateId": template, "Version": "2"}}


def start(cloud: ApiCloud, desired: dict[str, Any] | None = None, **preferences: Any) -> str:  # noqa: ANN401 - the API's
    given: dict[str, Any] = {"Preferences": preferences} if preferences else {}
    if desired is not None:
        given["DesiredConfiguration"] = desired
    return str(cloud.asg.start_instance_refresh(**FLEET, **given)["InstanceRefreshId"])


def told(cloud: ApiCloud) -> dict[str, Any]:
    return dict(cloud.asg.describe_instance_refreshes(**FLEET)["InstanceRefreshes"][0])


def versions(cloud: ApiCloud) -> list[str]:
    return sorted(m["LaunchTemplate"]["Version"] for m in serving(cloud).values())


def serving(cloud: ApiCloud) -> dict[str, dict[str, Any]]:
    return {i: m for i, m in cloud.members().items() if not m["LifecycleState"].startswith("Terminat")}


def saved_version(cloud: ApiCloud) -> str:
    groups = cloud.asg.describe_auto_scaling_groups(AutoScalingGroupNames=["fleet"])["AutoScalingGroups"]
    return str(groups[0]["LaunchTemplate"]["Version"])


def healthy(cloud: ApiCloud, group_arn: str, *but: str) -> None:
    for instance_id in serving(cloud):
        if instance_id not in but:
            cloud.see(group_arn, instance_id, HealthState.HEALTHY)


def test_launches_before_it_terminates(cloud: ApiCloud) -> None:
    """Auto Scaling User Guide, "How an instance refresh works": minimum 100 % launches first, above the maximum."""
    desired = two_versions(cloud, MinSize=1, MaxSize=1)
    (old,) = cloud.members()
    refresh_id = start(cloud, desired, **AHEAD)
    assert (told(cloud)["Status"], told(cloud)["InstanceRefreshId"]) == ("Pending", refresh_id)
    cloud.step()
    assert (told(cloud)["Status"], told(cloud)["InstancesToUpdate"]) == ("InProgress", 1)
    assert versions(cloud) == ["1", "2"]
    assert cloud.members()[old]["LifecycleState"] == "InService"
    assert saved_version(cloud) == "1"
    cloud.step(4)
    assert versions(cloud) == ["2"]
    assert old not in cloud.members()
    end = told(cloud)
    assert (end["Status"], end["PercentageComplete"], end["InstancesToUpdate"]) == ("Successful", 100, 0)
    assert end["EndTime"] >= end["StartTime"]
    assert end["DesiredConfiguration"]["LaunchTemplate"]["Version"] == "2"
    assert saved_version(cloud) == "2"
    cloud.step(10)
    assert len(cloud.members()) == 1


def test_never_fewer_than_the_minimum_nor_more_than_the_maximum(cloud: ApiCloud) -> None:
    """API Reference, "RefreshPreferences": MinHealthyPercentage and MaxHealthyPercentage of the desired capacity."""
    desired = two_versions(cloud, DesiredCapacity=4)
    start(cloud, desired, **{**AHEAD, "MaxHealthyPercentage": 125})
    for _ in range(40):
        cloud.step()
        in_service = [m for m in cloud.members().values() if m["LifecycleState"] == "InService"]
        assert len(in_service) >= 4
        assert len(serving(cloud)) <= 5
    assert told(cloud)["Status"] == "Successful"
    assert versions(cloud) == ["2"] * 4


def test_terminates_first_without_a_maximum(cloud: ApiCloud) -> None:
    """API Reference, "RefreshPreferences": MaxHealthyPercentage omitted terminates and launches at the same time."""
    desired = two_versions(cloud, DesiredCapacity=2)
    start(cloud, desired, InstanceWarmup=0)
    seen = []
    for _ in range(20):
        cloud.step()
        seen.append(versions(cloud))
        assert len(serving(cloud)) <= 2
    assert seen[0] == ["1", "2"]
    assert told(cloud)["Status"] == "Successful"
    assert versions(cloud) == ["2", "2"]


def test_explicit_bounds_of_one_hundred_launch_first(cloud: ApiCloud) -> None:
    """API Reference, "RefreshPreferences": 100 to 100 given explicitly launches one more before it terminates."""
    desired = two_versions(cloud, DesiredCapacity=2)
    start(cloud, desired, **{**AHEAD, "MaxHealthyPercentage": 100})
    cloud.step()
    assert versions(cloud) == ["1", "1", "2"]
    cloud.step(15)
    assert told(cloud)["Status"] == "Successful"


def test_waits_for_the_warm_up(cloud: ApiCloud) -> None:
    """API Reference, "RefreshPreferences": InstanceWarmup, by default the group's; status reason as in the guide."""
    desired = two_versions(cloud, DefaultInstanceWarmup=30)
    start(cloud, desired, MinHealthyPercentage=100, MaxHealthyPercentage=200)
    cloud.step(10)
    assert versions(cloud) == ["1", "2"]
    assert "is warming up" in told(cloud)["StatusReason"]
    assert told(cloud)["Preferences"]["InstanceWarmup"] == 30
    cloud.step(30)
    assert told(cloud)["Status"] == "Successful"


def test_waits_for_the_load_balancer_and_drains_the_old(cloud: ApiCloud) -> None:
    """Auto Scaling User Guide, "Instance refresh": healthy in the target group first; ELB, "Deregistration delay"."""
    _, group_arn = cloud.balanced(delay=10)
    desired = two_versions(cloud, TargetGroupARNs=[group_arn], HealthCheckType="ELB", HealthCheckGracePeriod=600)
    healthy(cloud, group_arn)
    (old,) = cloud.members()
    start(cloud, desired, **AHEAD)
    cloud.step(10)
    assert versions(cloud) == ["1", "2"]
    assert "Elastic Load Balancing" in told(cloud)["StatusReason"]
    healthy(cloud, group_arn)
    cloud.step(2)
    assert cloud.members()[old]["LifecycleState"] == "Terminating"
    assert cloud.instance(old)["State"]["Name"] == "running"
    assert told(cloud)["Status"] == "InProgress"
    cloud.step(12)
    assert cloud.instance(old)["State"]["Name"] == "terminated"
    assert told(cloud)["Status"] == "Successful"


def test_checkpoints_stop_on_the_way(cloud: ApiCloud) -> None:
    """Auto Scaling User Guide, "Add checkpoints to an instance refresh"."""
    desired = two_versions(cloud, DesiredCapacity=4)
    start(cloud, desired, **AHEAD, CheckpointPercentages=[25, 50], CheckpointDelay=100)
    cloud.step(20)
    assert (told(cloud)["Status"], told(cloud)["PercentageComplete"]) == ("InProgress", 25)
    assert versions(cloud) == ["1", "1", "1", "2"]
    cloud.now += 100
    cloud.step(20)
    # "To replace all instances in the Auto Scaling group, the last number in the array must be 100."
    assert (told(cloud)["Status"], told(cloud)["PercentageComplete"]) == ("Successful", 50)
    assert versions(cloud) == ["1", "1", "2", "2"]


@pytest.mark.parametrize(("skip", "replaced"), [(True, 0), (False, 2)])
def test_skip_matching(cloud: ApiCloud, skip: bool, replaced: int) -> None:
    """Auto Scaling User Guide, "Use an instance refresh with skip matching": off by default."""
    two_versions(cloud, DesiredCapacity=2)
    before = set(cloud.members())
    start(cloud, None, **AHEAD, SkipMatching=skip)
    cloud.step(20)
    assert told(cloud)["Status"] == "Successful"
    assert len(before - set(cloud.members())) == replaced


def test_bakes_at_the_end(cloud: ApiCloud) -> None:
    """API Reference, "RefreshPreferences": BakeTime; it can still be rolled back meanwhile."""
    desired = two_versions(cloud)
    start(cloud, desired, **AHEAD, BakeTime=60)
    cloud.step(10)
    assert told(cloud)["Status"] == "Baking"
    assert saved_version(cloud) == "1"
    cloud.step(60)
    assert told(cloud)["Status"] == "Successful"
    assert saved_version(cloud) == "2"


def test_failed_health_checks_roll_back_by_themselves(cloud: ApiCloud) -> None:
    """Auto Scaling User Guide, "Undo changes with a rollback": the old one never stopped serving."""
    _, group_arn = cloud.balanced(delay=0)
    desired = two_versions(cloud, TargetGroupARNs=[group_arn], HealthCheckType="ELB", HealthCheckGracePeriod=5)
    (old,) = cloud.members()
    healthy(cloud, group_arn)
    start(cloud, desired, **AHEAD, AutoRollback=True)
    for _ in range(60):
        for instance_id in serving(cloud):
            if instance_id != old:
                said = "Health checks failed with these codes: [502]"
                cloud.see(group_arn, instance_id, HealthState.UNHEALTHY, said)
        cloud.step()
        assert cloud.members()[old]["LifecycleState"] == "InService"
    end = told(cloud)
    assert (end["Status"], end["PercentageComplete"]) == ("RollbackSuccessful", 0)
    assert "[502]" in end["RollbackDetails"]["RollbackReason"]
    assert (saved_version(cloud), list(cloud.members())) == ("1", [old])


def test_failure_without_rollback_keeps_what_serves(cloud: ApiCloud) -> None:
    """API Reference, "StartInstanceRefresh": EC2 launch failures; "DescribeInstanceRefreshes": Failed."""
    template = cloud.template()
    image_id = cloud.ec2.create_image(InstanceId=cloud.run(), Name="memo-2")["ImageId"]
    cloud.ec2.create_launch_template_version(
        LaunchTemplateId=template, SourceVersion="1", LaunchTemplateData={"ImageId": image_id}
    )
    cloud.group(template=template)
    (old,) = cloud.members()
    start(cloud, {"LaunchTemplate": {"LaunchTemplateId": template, "Version": "2"}}, **AHEAD)
    cloud.ec2.deregister_image(ImageId=image_id)
    cloud.step(90)
    assert told(cloud)["Status"] == "Failed"
    assert image_id in told(cloud)["StatusReason"]
    assert list(cloud.members()) == [old]
    assert saved_version(cloud) == "1"


def test_manual_rollback_replaces_what_was_replaced(cloud: ApiCloud) -> None:
    """API Reference, "RollbackInstanceRefresh" and "RollbackDetails"."""
    desired = two_versions(cloud, DesiredCapacity=2)
    start(cloud, desired, **AHEAD, CheckpointPercentages=[50, 100], CheckpointDelay=1000)
    cloud.step(10)
    assert versions(cloud) == ["1", "2"]
    cloud.asg.rollback_instance_refresh(**FLEET)
    assert told(cloud)["Status"] == "RollbackInProgress"
    for _ in range(20):
        cloud.step()
        assert len([m for m in cloud.members().values() if m["LifecycleState"] == "InService"]) >= 2
    end = told(cloud)
    assert (end["Status"], end["PercentageComplete"], end["InstancesToUpdate"]) == ("RollbackSuccessful", 0, 1)
    assert end["RollbackDetails"]["PercentageCompleteOnRollback"] == 50
    assert versions(cloud) == ["1", "1"]
    assert saved_version(cloud) == "1"


def test_cancel_undoes_nothing(cloud: ApiCloud) -> None:
    """API Reference, "CancelInstanceRefresh"."""
    desired = two_versions(cloud, DesiredCapacity=2)
    start(cloud, desired, **AHEAD, CheckpointPercentages=[50, 100], CheckpointDelay=1000)
    cloud.step(10)
    cloud.asg.cancel_instance_refresh(**FLEET)
    assert told(cloud)["Status"] == "Cancelling"
    cloud.step(5)
    assert told(cloud)["Status"] == "Cancelled"
    assert versions(cloud) == ["1", "2"]
    assert refused(cloud.asg.cancel_instance_refresh, **FLEET) == "ActiveInstanceRefreshNotFound"


def test_cancel_drops_the_replacement_that_does_not_serve(cloud: ApiCloud) -> None:
    """API Reference, "CancelInstanceRefresh": WaitForTransitioningInstances."""
    desired = two_versions(cloud)
    (old,) = cloud.members()
    start(cloud, desired, **AHEAD)
    cloud.groups.step()
    cloud.asg.cancel_instance_refresh(**FLEET, WaitForTransitioningInstances=False)
    assert told(cloud)["Status"] == "Cancelled"
    cloud.step(5)
    assert list(cloud.members()) == [old]


def test_alarm_fails_the_refresh(cloud: ApiCloud) -> None:
    """API Reference, "AlarmSpecification"; an alarm that does not exist is refused."""
    desired = two_versions(cloud)
    missing = {"AlarmSpecification": {"Alarms": ["nobody"]}}
    assert refused(lambda: start(cloud, desired, **AHEAD, **missing)) == "ValidationError"
    watch = cloud.client("cloudwatch")
    watch.put_metric_alarm(
        AlarmName="errors",
        MetricName="HTTPCode_Target_5XX_Count",
        Namespace="AWS/ApplicationELB",
        Statistic="Sum",
        Period=60,
        EvaluationPeriods=1,
        Threshold=1,
        ComparisonOperator="GreaterThanThreshold",
    )
    start(cloud, desired, **AHEAD, AutoRollback=True, AlarmSpecification={"Alarms": ["errors"]})
    cloud.step()
    backend_alarm(cloud, "errors", "ALARM")
    cloud.step(10)
    assert told(cloud)["Status"] == "RollbackSuccessful"
    assert "errors" in told(cloud)["RollbackDetails"]["RollbackReason"]
    assert versions(cloud) == ["1"]


def backend_alarm(cloud: ApiCloud, name: str, state: str) -> None:
    cloudwatch.backend(cloud.plane).alarms[name].update_state("test", "{}", state)


def test_protected_instances(cloud: ApiCloud) -> None:
    """API Reference, "RefreshPreferences": ScaleInProtectedInstances Wait (default), Ignore, Refresh."""
    desired = two_versions(cloud, NewInstancesProtectedFromScaleIn=True)
    start(cloud, desired, **AHEAD)
    cloud.step(5)
    assert "is protected" in told(cloud)["StatusReason"]
    cloud.now += 3601
    cloud.step(2)
    assert told(cloud)["Status"] == "Failed"
    start(cloud, desired, **AHEAD, ScaleInProtectedInstances="Ignore")
    cloud.step(5)
    assert (told(cloud)["Status"], versions(cloud)) == ("Successful", ["1"])
    start(cloud, desired, **AHEAD, ScaleInProtectedInstances="Refresh")
    cloud.step(8)
    assert (told(cloud)["Status"], versions(cloud)) == ("Successful", ["2"])


def test_one_at_a_time(cloud: ApiCloud) -> None:
    """API Reference, "StartInstanceRefresh" (InstanceRefreshInProgress) and "UpdateAutoScalingGroup" meanwhile."""
    desired = two_versions(cloud)
    start(cloud, desired, **AHEAD)
    assert refused(lambda: start(cloud, desired)) == "InstanceRefreshInProgress"
    template = {"LaunchTemplate": desired["LaunchTemplate"]}
    assert refused(lambda: cloud.asg.update_auto_scaling_group(**FLEET, **template)) == "ValidationError"
    cloud.asg.update_auto_scaling_group(**FLEET, MaxSize=5)
    cloud.step(8)
    start(cloud, desired, **AHEAD)
    assert len(cloud.asg.describe_instance_refreshes(**FLEET)["InstanceRefreshes"]) == 2


def test_instance_killed_in_the_middle(cloud: ApiCloud) -> None:
    """Auto Scaling User Guide, "Health checks": a dead instance is replaced, by the desired version."""
    desired = two_versions(cloud, DesiredCapacity=2)
    start(cloud, desired, **AHEAD)
    cloud.step(1)
    cloud.ec2.terminate_instances(InstanceIds=list(cloud.members())[:1])
    cloud.step(25)
    assert told(cloud)["Status"] == "Successful"
    assert versions(cloud) == ["2", "2"]


def test_irreversible(cloud: ApiCloud) -> None:
    """API Reference, "RollbackInstanceRefresh": no desired configuration; $Latest or $Default on the group."""
    desired = two_versions(cloud, LaunchTemplate={"LaunchTemplateName": "web", "Version": "$Latest"})
    assert refused(cloud.asg.rollback_instance_refresh, **FLEET) == "ActiveInstanceRefreshNotFound"
    assert refused(lambda: start(cloud, desired, AutoRollback=True)) == "ValidationError"
    start(cloud, desired, **AHEAD)
    assert refused(cloud.asg.rollback_instance_refresh, **FLEET) == "IrreversibleInstanceRefresh"


def test_no_rollback_without_a_desired_configuration(cloud: ApiCloud) -> None:
    """API Reference, "RollbackInstanceRefresh"; a finished refresh cannot be rolled back either."""
    desired = two_versions(cloud)
    assert refused(lambda: start(cloud, AutoRollback=True)) == "ValidationError"
    latest = {"LaunchTemplate": {**desired["LaunchTemplate"], "Version": "$Latest"}}
    assert refused(lambda: start(cloud, latest, AutoRollback=True)) == "ValidationError"
    start(cloud)
    assert refused(cloud.asg.rollback_instance_refresh, **FLEET) == "IrreversibleInstanceRefresh"


@pytest.mark.parametrize(
    ("preferences", "code"),
    [
        ({"MaxHealthyPercentage": 150}, "ValidationError"),
        ({"MinHealthyPercentage": 50, "MaxHealthyPercentage": 200}, "ValidationError"),
        ({"CheckpointPercentages": [50, 50]}, "ValidationError"),
        ({"CheckpointPercentages": [100, 50]}, "ValidationError"),
        ({"CheckpointDelay": 60}, "ValidationError"),
        ({"StandbyInstances": "Refresh"}, "ValidationError"),
        ({"BakeTime": 172801}, "ValidationError"),
    ],
)
def test_wrong_preferences_are_refused(cloud: ApiCloud, preferences: dict[str, Any], code: str) -> None:
    """API Reference, "RefreshPreferences"."""
    desired = two_versions(cloud)
    assert refused(lambda: start(cloud, desired, **preferences)) == code


def test_wrong_configurations_are_refused(cloud: ApiCloud) -> None:
    """API Reference, "StartInstanceRefresh" and "DesiredConfiguration"."""
    desired = two_versions(cloud)
    unknown = {"LaunchTemplate": {**desired["LaunchTemplate"], "Version": "9"}}
    assert refused(lambda: start(cloud, unknown)) == "ValidationError"
    call = cloud.asg.start_instance_refresh
    assert refused(call, AutoScalingGroupName="nobody") == "ValidationError"
    assert refused(call, **FLEET, Strategy="ReplaceRootVolume") == "UnsupportedOperation"


def test_suspended_refresh_rests(cloud: ApiCloud) -> None:
    """Auto Scaling User Guide, "Types of processes": InstanceRefresh."""
    desired = two_versions(cloud)
    cloud.asg.suspend_processes(**FLEET, ScalingProcesses=["InstanceRefresh"])
    start(cloud, desired, **AHEAD)
    cloud.step(5)
    assert versions(cloud) == ["1"]
    cloud.asg.resume_processes(**FLEET)
    cloud.step(8)
    assert versions(cloud) == ["2"]
