"""Lifecycle hooks: members wait on their way into service and out of it."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError

from localcloud.model import HealthState
from localcloud.tests.api_cloud import ApiCloud, refused
from localcloud.tests.test_refreshes import AHEAD, start, told, two_versions

LAUNCHING, TERMINATING = "autoscaling:EC2_INSTANCE_LAUNCHING", "autoscaling:EC2_INSTANCE_TERMINATING"


def hook(cloud: ApiCloud, transition: str = LAUNCHING, name: str = "prepare", **more: Any) -> None:  # noqa: ANN401 - boto3
    cloud.asg.put_lifecycle_hook(
        AutoScalingGroupName="fleet", LifecycleHookName=name, LifecycleTransition=transition, **more
    )


def complete(cloud: ApiCloud, instance_id: str, result: str = "CONTINUE", name: str = "prepare") -> None:
    cloud.asg.complete_lifecycle_action(
        AutoScalingGroupName="fleet", LifecycleHookName=name, InstanceId=instance_id, LifecycleActionResult=result
    )


def states(cloud: ApiCloud) -> dict[str, str]:
    return {instance_id: str(m["LifecycleState"]) for instance_id, m in cloud.members().items()}


def grow(cloud: ApiCloud, size: int = 2) -> str:
    """Let the group launch one more; return its id."""
    known = set(cloud.members())
    cloud.asg.set_desired_capacity(AutoScalingGroupName="fleet", DesiredCapacity=size)
    cloud.step(3)
    (new,) = set(cloud.members()) - known
    return new


def test_launch_hook_holds_registration_back(cloud: ApiCloud) -> None:
    """Auto Scaling User Guide, "How lifecycle hooks work": Pending:Wait, Pending:Proceed, then the load balancer."""
    _, group_arn = cloud.balanced()
    cloud.group(TargetGroupARNs=[group_arn])
    hook(cloud)
    new = grow(cloud)
    assert states(cloud)[new] == "Pending:Wait"
    assert cloud.activities()[0] == (f"Launching a new EC2 instance: {new}", "MidLifecycleAction")
    assert new not in {t.target_id for t in cloud.state.target_groups()[group_arn].targets}
    complete(cloud, new)
    cloud.step()
    assert states(cloud)[new] == "Pending:Proceed"
    cloud.step()
    assert states(cloud)[new] == "InService"
    assert cloud.activities()[0] == (f"Launching a new EC2 instance: {new}", "Successful")
    assert new in {t.target_id for t in cloud.state.target_groups()[group_arn].targets}


def test_abandoned_launch_is_replaced(cloud: ApiCloud) -> None:
    """API Reference, "CompleteLifecycleAction": ABANDON terminates the instance, and the group launches another."""
    cloud.group()
    hook(cloud)
    new = grow(cloud)
    complete(cloud, new, "ABANDON")
    cloud.step(2)
    assert new not in cloud.members()
    assert (f"Launching a new EC2 instance: {new}", "Failed") in cloud.activities()
    cloud.step(20)
    assert len(cloud.members()) == 2


@pytest.mark.parametrize(("default", "state"), [("CONTINUE", "InService"), ("ABANDON", None)])
def test_time_out(cloud: ApiCloud, default: str, state: str | None) -> None:
    """Auto Scaling API Reference, "PutLifecycleHook": DefaultResult when the heartbeat's time is over."""
    cloud.group()
    hook(cloud, HeartbeatTimeout=60, DefaultResult=default)
    new = grow(cloud)
    cloud.step(50)
    assert states(cloud)[new] == "Pending:Wait"
    cloud.step(14)
    assert states(cloud).get(new) == state


def test_heartbeats_prolong_but_not_for_ever(cloud: ApiCloud) -> None:
    """API Reference, "RecordLifecycleActionHeartbeat"; a wait ends after 100 heartbeat time-outs or 48 hours."""
    cloud.group()
    hook(cloud, HeartbeatTimeout=30)
    new = grow(cloud)
    beat = {"AutoScalingGroupName": "fleet", "LifecycleHookName": "prepare", "InstanceId": new}
    cloud.now += 20
    cloud.asg.record_lifecycle_action_heartbeat(**beat)
    cloud.now += 20
    cloud.step()
    assert states(cloud)[new] == "Pending:Wait"
    for _ in range(200):
        cloud.now += 20
        if states(cloud).get(new) != "Pending:Wait":
            break
        cloud.asg.record_lifecycle_action_heartbeat(**beat)
        cloud.step(seconds=0)
    cloud.step(2)
    assert new not in cloud.members()
    (listed,) = cloud.asg.describe_lifecycle_hooks(AutoScalingGroupName="fleet")["LifecycleHooks"]
    assert (listed["HeartbeatTimeout"], listed["GlobalTimeout"], listed["DefaultResult"]) == (30, 3000, "ABANDON")


@pytest.mark.parametrize("result", ["CONTINUE", "ABANDON"])
def test_terminate_hook_comes_after_draining(cloud: ApiCloud, result: str) -> None:
    """Auto Scaling User Guide, "How lifecycle hooks work": the load balancer first; both results terminate."""
    _, group_arn = cloud.balanced(delay=10)
    cloud.group(DesiredCapacity=2, TargetGroupARNs=[group_arn])
    hook(cloud, TERMINATING)
    cloud.asg.set_desired_capacity(AutoScalingGroupName="fleet", DesiredCapacity=1)
    cloud.step(2)
    (leaving,) = (i for i, state in states(cloud).items() if state == "Terminating")
    cloud.step(10)
    assert states(cloud)[leaving] == "Terminating:Wait"
    assert cloud.instance(leaving)["State"]["Name"] == "running"
    assert cloud.activities()[0] == (f"Terminating EC2 instance: {leaving}", "MidLifecycleAction")
    complete(cloud, leaving, result)
    cloud.step()
    assert states(cloud)[leaving] == "Terminating:Proceed"
    cloud.step(3)
    assert leaving not in cloud.members()
    assert cloud.activities()[0] == (f"Terminating EC2 instance: {leaving}", "Successful")


def test_several_hooks_are_all_waited_for(cloud: ApiCloud) -> None:
    """API Reference, "CompleteLifecycleAction": CONTINUE lets the other hooks complete, ABANDON stops them."""
    cloud.group()
    hook(cloud)
    hook(cloud, name="check")
    one = grow(cloud)
    complete(cloud, one)
    cloud.step()
    assert states(cloud)[one] == "Pending:Wait"
    complete(cloud, one, name="check")
    cloud.step(2)
    assert states(cloud)[one] == "InService"
    two = grow(cloud, 3)
    complete(cloud, two, "ABANDON", name="check")
    cloud.step(2)
    assert two not in cloud.members()


def test_deleted_hook_completes_its_actions(cloud: ApiCloud) -> None:
    """API Reference, "DeleteLifecycleHook": ABANDON for launching instances, CONTINUE for terminating ones."""
    cloud.group()
    hook(cloud)
    new = grow(cloud)
    cloud.asg.delete_lifecycle_hook(AutoScalingGroupName="fleet", LifecycleHookName="prepare")
    cloud.step(2)
    assert new not in cloud.members()
    cloud.step(20)
    hook(cloud, TERMINATING)
    cloud.asg.set_desired_capacity(AutoScalingGroupName="fleet", DesiredCapacity=1)
    cloud.step(2)
    assert "Terminating:Wait" in states(cloud).values()
    cloud.asg.delete_lifecycle_hook(AutoScalingGroupName="fleet", LifecycleHookName="prepare")
    cloud.step(4)
    assert len(cloud.members()) == 1


def test_hooks_given_with_the_group(cloud: ApiCloud) -> None:
    """API Reference, "CreateAutoScalingGroup": LifecycleHookSpecificationList holds for the first instances too."""
    cloud.group(LifecycleHookSpecificationList=[{"LifecycleHookName": "prepare", "LifecycleTransition": LAUNCHING}])
    assert list(states(cloud).values()) == ["Pending:Wait"]


def test_forced_deletion_does_not_wait(cloud: ApiCloud) -> None:
    """API Reference, "DeleteAutoScalingGroup": ForceDelete drops lifecycle actions, protection and suspensions."""
    cloud.group(DesiredCapacity=2, NewInstancesProtectedFromScaleIn=True)
    hook(cloud, TERMINATING)
    cloud.asg.suspend_processes(AutoScalingGroupName="fleet", ScalingProcesses=["Terminate"])
    one, _ = cloud.members()
    cloud.asg.enter_standby(AutoScalingGroupName="fleet", InstanceIds=[one], ShouldDecrementDesiredCapacity=True)
    cloud.step()
    cloud.asg.delete_auto_scaling_group(AutoScalingGroupName="fleet", ForceDelete=True)
    cloud.step(3)
    assert cloud.asg.describe_auto_scaling_groups()["AutoScalingGroups"] == []
    assert cloud.state.instances() == {}


def test_refresh_waits_for_hooks(cloud: ApiCloud) -> None:
    """Auto Scaling User Guide, "How an instance refresh works": lifecycle hooks hold up each replacement."""
    desired = two_versions(cloud)
    hook(cloud)
    hook(cloud, TERMINATING, name="bye")
    (old,) = cloud.members()
    start(cloud, desired, **AHEAD)
    cloud.step(10)
    (new,) = set(cloud.members()) - {old}
    assert states(cloud) == {old: "InService", new: "Pending:Wait"}
    complete(cloud, new)
    cloud.step(5)
    assert states(cloud) == {old: "Terminating:Wait", new: "InService"}
    assert told(cloud)["Status"] == "InProgress"
    complete(cloud, old, name="bye")
    cloud.step(5)
    assert (states(cloud), told(cloud)["Status"]) == ({new: "InService"}, "Successful")


def test_elb_health_counts_from_service_on(cloud: ApiCloud) -> None:
    """Auto Scaling User Guide, "How lifecycle hooks work": the grace period begins when the instance is InService."""
    _, group_arn = cloud.balanced(delay=0)
    cloud.group(TargetGroupARNs=[group_arn], HealthCheckType="ELB", HealthCheckGracePeriod=60)
    hook(cloud)
    new = grow(cloud)
    cloud.step(10, seconds=30)
    complete(cloud, new)
    cloud.step(2)
    cloud.see(group_arn, new, HealthState.UNHEALTHY)
    cloud.step(5)
    assert states(cloud)[new] == "InService"
    cloud.now += 60
    cloud.step(3)
    assert new not in cloud.members()


@pytest.mark.parametrize(
    ("parameters", "code"),
    [
        ({"LifecycleTransition": "autoscaling:TEST"}, "ValidationError"),
        ({"LifecycleHookName": "a b"}, "ValidationError"),
        ({"HeartbeatTimeout": 29}, "ValidationError"),
        ({"HeartbeatTimeout": 7201}, "ValidationError"),
        ({"DefaultResult": "MAYBE"}, "ValidationError"),
        ({"NotificationTargetARN": "arn:aws:sns:ap-northeast-2:123456789012:tell"}, "UnsupportedOperation"),
        ({"AutoScalingGroupName": "nobody"}, "ValidationError"),
    ],
)
def test_wrong_hooks_are_refused(cloud: ApiCloud, parameters: dict[str, Any], code: str) -> None:
    """API Reference, "PutLifecycleHook"."""
    cloud.group()
    given = {"AutoScalingGroupName": "fleet", "LifecycleHookName": "prepare", "LifecycleTransition": LAUNCHING}
    assert refused(lambda: cloud.asg.put_lifecycle_hook(**{**given, **parameters})) == code


def test_wrong_answers_are_refused(cloud: ApiCloud) -> None:
    """API Reference, "CompleteLifecycleAction": only what waits can be completed, and once."""
    cloud.group()
    hook(cloud)
    (one,) = cloud.members()
    with pytest.raises(ClientError, match=f"No active Lifecycle Action found with instance ID {one}"):
        complete(cloud, one)
    new = grow(cloud)
    for wrong in ({"name": "nobody"}, {"result": "MAYBE"}):
        assert refused(lambda w=wrong: complete(cloud, new, **w)) == "ValidationError"
    with pytest.raises(ClientError, match="No active Lifecycle Action found with token"):
        cloud.asg.complete_lifecycle_action(
            AutoScalingGroupName="fleet",
            LifecycleHookName="prepare",
            LifecycleActionToken="12345678-1234-1234-1234-123456789012",
            LifecycleActionResult="CONTINUE",
        )
    complete(cloud, new)
    assert refused(lambda: complete(cloud, new)) == "ValidationError"
