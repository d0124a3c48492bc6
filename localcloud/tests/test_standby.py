"""Standby, and what suspended processes leave out."""

from __future__ import annotations

import pytest
from botocore.exceptions import ClientError

from localcloud.model import HealthState
from localcloud.tests.api_cloud import ApiCloud, refused
from localcloud.tests.test_refreshes import AHEAD, start, told, two_versions


def enter(cloud: ApiCloud, *instance_ids: str, decrement: bool = True) -> str:
    """Put members into standby; return the first activity's cause."""
    made = cloud.asg.enter_standby(
        AutoScalingGroupName="fleet", InstanceIds=list(instance_ids), ShouldDecrementDesiredCapacity=decrement
    )
    return str(made["Activities"][0]["Cause"])


def leave(cloud: ApiCloud, *instance_ids: str) -> str:
    made = cloud.asg.exit_standby(AutoScalingGroupName="fleet", InstanceIds=list(instance_ids))
    return str(made["Activities"][0]["Cause"])


def targets(cloud: ApiCloud, group_arn: str) -> set[str]:
    return {t.target_id for t in cloud.state.target_groups()[group_arn].targets}


def test_standby_and_back(cloud: ApiCloud) -> None:
    """Auto Scaling User Guide, "Temporarily remove instances from your Auto Scaling group"."""
    _, group_arn = cloud.balanced(delay=5)
    cloud.group(DesiredCapacity=2, TargetGroupARNs=[group_arn], HealthCheckType="ELB")
    one, two = cloud.members()
    assert enter(cloud, one).endswith(
        f"instance {one} was moved to standby in response to a user request, shrinking the capacity from 2 to 1."
    )
    cloud.step()
    assert cloud.members()[one]["LifecycleState"] == "EnteringStandby"
    cloud.step(6)
    assert cloud.members()[one]["LifecycleState"] == "Standby"
    assert targets(cloud, group_arn) == {two}
    assert cloud.activities()[0] == (f"Moving EC2 instance to Standby: {one}", "Successful")
    cloud.see(group_arn, one, HealthState.UNHEALTHY)
    cloud.step(3)
    assert set(cloud.members()) == {one, two}
    cloud.see(group_arn, one, HealthState.HEALTHY)
    assert leave(cloud, one).endswith(
        f"instance {one} was moved out of standby in response to a user request, increasing the capacity from 1 to 2."
    )
    assert cloud.members()[one]["LifecycleState"] == "Pending"
    cloud.step(2)
    assert cloud.members()[one]["LifecycleState"] == "InService"
    assert targets(cloud, group_arn) == {one, two}
    assert cloud.asg.describe_auto_scaling_groups()["AutoScalingGroups"][0]["DesiredCapacity"] == 2


def test_stopping_in_standby_is_no_failure(cloud: ApiCloud) -> None:
    """The same page: instances on standby can be stopped and started without being replaced."""
    cloud.group(DesiredCapacity=2)
    one, _ = cloud.members()
    enter(cloud, one)
    cloud.step(2)
    cloud.ec2.stop_instances(InstanceIds=[one])
    cloud.step(4)
    assert cloud.members()[one]["LifecycleState"] == "Standby"
    cloud.ec2.start_instances(InstanceIds=[one])
    cloud.step(2)
    leave(cloud, one)
    cloud.step(2)
    assert cloud.members()[one]["LifecycleState"] == "InService"


def test_without_decrement_it_is_replaced(cloud: ApiCloud) -> None:
    """API Reference, "EnterStandby": the desired capacity stays, so another instance is launched."""
    cloud.group()
    (one,) = cloud.members()
    enter(cloud, one, decrement=False)
    cloud.step(3)
    assert sorted(m["LifecycleState"] for m in cloud.members().values()) == ["InService", "Standby"]
    cloud.asg.update_auto_scaling_group(AutoScalingGroupName="fleet", MaxSize=1)
    with pytest.raises(ClientError, match="min-size=1, max-size=1, and desired-size=1"):
        leave(cloud, one)


def test_wrong_standby_is_refused(cloud: ApiCloud) -> None:
    """API Reference, "EnterStandby" and "ExitStandby"; the text as seen from AWS."""
    cloud.group()
    (one,) = cloud.members()
    with pytest.raises(
        ClientError,
        match="fleet has min-size=1, max-size=4, and desired-size=1. To place into standby 1 instance, please update",
    ):
        enter(cloud, one)
    assert refused(lambda: enter(cloud, "i-00000000000000000")) == "ValidationError"
    assert refused(lambda: leave(cloud, one)) == "ValidationError"
    assert refused(lambda: enter(cloud)) == "ValidationError"


@pytest.mark.parametrize(
    ("preference", "first"),
    [("Wait", "InProgress"), ("Ignore", "Successful"), ("Terminate", "Successful")],
)
def test_refresh_and_standby(cloud: ApiCloud, preference: str, first: str) -> None:
    """API Reference, "RefreshPreferences": StandbyInstances."""
    desired = two_versions(cloud, DesiredCapacity=2)
    one, _ = cloud.members()
    enter(cloud, one)
    cloud.step(2)
    start(cloud, desired, **AHEAD, StandbyInstances=preference)
    cloud.step(20)
    assert told(cloud)["Status"] == first
    assert (one in cloud.members()) is (preference != "Terminate")
    if preference == "Wait":
        assert f"{one} is in standby" in told(cloud)["StatusReason"]
        leave(cloud, one)
        cloud.step(20)
        assert (told(cloud)["Status"], told(cloud)["PercentageComplete"]) == ("Successful", 100)
        assert one not in cloud.members()
    elif preference == "Terminate":
        assert told(cloud)["PercentageComplete"] == 100


def suspend(cloud: ApiCloud, *names: str) -> None:
    cloud.asg.suspend_processes(AutoScalingGroupName="fleet", ScalingProcesses=list(names))


def resume(cloud: ApiCloud, *names: str) -> None:
    cloud.asg.resume_processes(AutoScalingGroupName="fleet", ScalingProcesses=list(names))


def test_add_to_load_balancer_suspended(cloud: ApiCloud) -> None:
    """User Guide, "How suspended processes affect other processes": what was launched meanwhile is not added later."""
    _, group_arn = cloud.balanced()
    cloud.group(TargetGroupARNs=[group_arn])
    (one,) = cloud.members()
    suspend(cloud, "AddToLoadBalancer")
    cloud.asg.set_desired_capacity(AutoScalingGroupName="fleet", DesiredCapacity=2)
    cloud.step(3)
    resume(cloud, "AddToLoadBalancer")
    cloud.step(3)
    assert targets(cloud, group_arn) == {one}
    known = set(cloud.members())
    cloud.asg.set_desired_capacity(AutoScalingGroupName="fleet", DesiredCapacity=3)
    cloud.step(3)
    assert targets(cloud, group_arn) == {one, *(set(cloud.members()) - known)}


def test_terminate_suspended(cloud: ApiCloud) -> None:
    """The same page: nothing is terminated, the unhealthy neither; what is waiting goes when it is resumed."""
    cloud.group(DesiredCapacity=2)
    one, two = cloud.members()
    suspend(cloud, "Terminate")
    cloud.asg.set_instance_health(InstanceId=one, HealthStatus="Unhealthy", ShouldRespectGracePeriod=False)
    cloud.asg.set_desired_capacity(AutoScalingGroupName="fleet", DesiredCapacity=1)
    cloud.step(4)
    assert {i: m["LifecycleState"] for i, m in cloud.members().items()} == {one: "InService", two: "InService"}
    resume(cloud, "Terminate")
    cloud.step(4)
    assert list(cloud.members()) == [two]


def test_replace_unhealthy_and_health_check_suspended(cloud: ApiCloud) -> None:
    """The same page: without HealthCheck nothing becomes unhealthy, without ReplaceUnhealthy nothing is replaced."""
    _, group_arn = cloud.balanced(delay=0)
    cloud.group(TargetGroupARNs=[group_arn], HealthCheckType="ELB")
    (one,) = cloud.members()
    cloud.see(group_arn, one, HealthState.UNHEALTHY)
    suspend(cloud, "HealthCheck")
    cloud.step(3)
    assert cloud.members()[one]["HealthStatus"] == "Healthy"
    resume(cloud, "HealthCheck")
    suspend(cloud, "ReplaceUnhealthy")
    cloud.step(3)
    assert cloud.members()[one]["HealthStatus"] == "Unhealthy"
    resume(cloud, "ReplaceUnhealthy")
    cloud.step(3)
    assert one not in cloud.members()


def test_stopped_instance_is_healthy_while_health_checks_are_suspended(cloud: ApiCloud) -> None:
    """The same page: HealthCheck marks nothing unhealthy by checks of EC2 or the load balancer."""
    cloud.group()
    (one,) = cloud.members()
    suspend(cloud, "HealthCheck")
    cloud.ec2.stop_instances(InstanceIds=[one])
    cloud.step(3)
    assert (cloud.members()[one]["HealthStatus"], cloud.members()[one]["LifecycleState"]) == ("Healthy", "InService")
    resume(cloud, "HealthCheck")
    cloud.step(4)
    assert one not in cloud.members()


@pytest.mark.parametrize("process", ["Launch", "Terminate", "InstanceRefresh"])
def test_refresh_rests(cloud: ApiCloud, process: str) -> None:
    """The same page: without any of these InstanceRefresh does not replace instances."""
    desired = two_versions(cloud)
    (one,) = cloud.members()
    suspend(cloud, process)
    start(cloud, desired)
    cloud.step(5)
    assert cloud.members()[one]["LifecycleState"] == "InService"
    resume(cloud, process)
    cloud.step(10)
    assert one not in cloud.members()


@pytest.mark.parametrize(
    ("process", "code"),
    [
        ("AZRebalance", "UnsupportedOperation"),
        ("ScheduledActions", "UnsupportedOperation"),
        ("Dance", "ValidationError"),
    ],
)
def test_processes_that_are_refused(cloud: ApiCloud, process: str, code: str) -> None:
    """API Reference, "SuspendProcesses"; what never runs here is not suspended by name."""
    cloud.group()
    assert refused(lambda: suspend(cloud, process)) == code


def test_all_processes_at_once(cloud: ApiCloud) -> None:
    """API Reference, "SuspendProcesses": without names, all of AWS's."""
    cloud.group()
    suspend(cloud)
    told_ = cloud.asg.describe_auto_scaling_groups()["AutoScalingGroups"][0]["SuspendedProcesses"]
    assert len(told_) == 9
    resume(cloud)
    assert cloud.asg.describe_auto_scaling_groups()["AutoScalingGroups"][0]["SuspendedProcesses"] == []
