"""Target tracking: load makes more instances, calm makes fewer."""

from __future__ import annotations

import re
from typing import Any

import pytest

from localcloud.tests.api_cloud import ApiCloud, refused


def track(cloud: ApiCloud, target: float = 50.0, name: str = "cpu", **more: Any) -> dict[str, str]:  # noqa: ANN401 - boto3
    """Put a policy on the average CPU use; return the names of its alarms by `High` and `Low`."""
    configuration = {
        "PredefinedMetricSpecification": {"PredefinedMetricType": "ASGAverageCPUUtilization"},
        "TargetValue": target,
        **more.pop("configuration", {}),
    }
    made = cloud.asg.put_scaling_policy(
        AutoScalingGroupName="fleet",
        PolicyName=name,
        PolicyType="TargetTrackingScaling",
        TargetTrackingConfiguration=configuration,
        **more,
    )
    names = [str(a["AlarmName"]) for a in made["Alarms"]]
    return {kind: n for n in names for kind in ("High", "Low") if f"-Alarm{kind}-" in n}


def desired(cloud: ApiCloud) -> int:
    return int(cloud.asg.describe_auto_scaling_groups()["AutoScalingGroups"][0]["DesiredCapacity"])


def states(cloud: ApiCloud, alarms: dict[str, str]) -> tuple[str, ...]:
    told = {a["AlarmName"]: a["StateValue"] for a in cloud.watch.describe_alarms()["MetricAlarms"]}
    return tuple(told[name] for name in alarms.values())


def test_load_makes_a_second_instance_and_calm_removes_it(cloud: ApiCloud) -> None:
    """Auto Scaling User Guide, "Target tracking scaling policies"; the activities' causes as AWS words them."""
    cloud.group(DefaultInstanceWarmup=60)
    alarms = track(cloud)
    assert states(cloud, alarms) == ("INSUFFICIENT_DATA", "INSUFFICIENT_DATA")
    cloud.minutes(2, 40.0)
    assert states(cloud, alarms) == ("OK", "OK")
    cloud.minutes(2, 90.0)
    assert (desired(cloud), states(cloud, alarms)) == (1, ("OK", "OK"))
    cloud.minutes(1, 90.0)
    assert (desired(cloud), states(cloud, alarms)) == (2, ("ALARM", "OK"))
    assert [m["LifecycleState"] for m in cloud.members().values()] == ["InService"] * 2
    launch = cloud.asg.describe_scaling_activities(AutoScalingGroupName="fleet")["Activities"][0]
    when = r"At \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"
    assert re.fullmatch(
        rf"{when} a monitor alarm {alarms['High']} in state ALARM triggered policy cpu changing the desired capacity "
        rf"from 1 to 2\.  {when} an instance was started in response to a difference between desired and actual "
        r"capacity, increasing the capacity from 1 to 2\.",
        launch["Cause"],
    )
    cloud.minutes(14, 5.0)
    assert (desired(cloud), states(cloud, alarms)) == (2, ("OK", "OK"))
    cloud.minutes(1, 5.0)
    assert (desired(cloud), states(cloud, alarms)) == (1, ("OK", "ALARM"))
    cloud.step(3)
    assert len(cloud.members()) == 1
    leaving = cloud.asg.describe_scaling_activities(AutoScalingGroupName="fleet")["Activities"][0]
    assert leaving["StatusCode"] == "Successful"
    assert re.fullmatch(
        rf"{when} a monitor alarm {alarms['Low']} in state ALARM triggered policy cpu changing the desired capacity "
        rf"from 2 to 1\.  {when} an instance was taken out of service in response to a difference between desired and "
        rf"actual capacity, shrinking the capacity from 2 to 1\.  {when} instance i-\w+ was selected for termination\.",
        leaving["Cause"],
    )
    cloud.minutes(3, 5.0)
    assert desired(cloud) == 1


def test_as_many_as_the_load_needs_and_the_maximum_allows(cloud: ApiCloud) -> None:
    """Auto Scaling User Guide, "Target tracking …", Considerations: in proportion to the metric, rounded up."""
    cloud.group(DesiredCapacity=2)
    track(cloud, 60.0)
    cloud.minutes(3, 80.0)
    assert desired(cloud) == 3
    cloud.asg.set_desired_capacity(AutoScalingGroupName="fleet", DesiredCapacity=2)
    cloud.step(3)
    cloud.minutes(3, 100.0)
    assert desired(cloud) == 4
    cloud.minutes(5, 100.0)
    assert desired(cloud) == 4


def test_scale_in_waits_for_new_instances_to_warm_up(cloud: ApiCloud) -> None:
    """API Reference, "PutScalingPolicy": without its own warm-up the group's cooldown of 300 s counts."""
    cloud.group()
    alarms = track(cloud)
    cloud.minutes(15, 1.0)
    assert states(cloud, alarms)[1] == "ALARM"
    cloud.asg.set_desired_capacity(AutoScalingGroupName="fleet", DesiredCapacity=2)
    cloud.step(3)
    cloud.minutes(4, 1.0)
    assert desired(cloud) == 2
    cloud.minutes(1, 1.0)
    assert desired(cloud) == 1


def test_scale_in_that_would_bring_the_load_back_is_left_out(cloud: ApiCloud) -> None:
    """Below the alarm's 90 % of the target, but one instance less would have more than the target."""
    cloud.group(DesiredCapacity=2)
    alarms = track(cloud, 50.0)
    cloud.minutes(20, 40.0)
    assert (desired(cloud), states(cloud, alarms)) == (2, ("OK", "ALARM"))


def test_scale_in_can_be_disabled(cloud: ApiCloud) -> None:
    """API Reference, "TargetTrackingConfiguration", DisableScaleIn."""
    cloud.group(DesiredCapacity=2)
    assert set(track(cloud, configuration={"DisableScaleIn": True})) == {"High"}
    cloud.minutes(25, 0.0)
    assert desired(cloud) == 2


def test_all_policies_must_agree_to_scale_in(cloud: ApiCloud) -> None:
    """Auto Scaling User Guide, "Multiple target tracking scaling policies"."""
    cloud.group(DesiredCapacity=2)
    track(cloud, 50.0)
    track(cloud, 10.0, name="other")
    cloud.minutes(25, 9.5)
    assert desired(cloud) == 2
    cloud.minutes(20, 4.0)
    assert desired(cloud) == 1


@pytest.mark.parametrize("process", ["AlarmNotification", "Launch"])
def test_suspended_processes_stop_policies(cloud: ApiCloud, process: str) -> None:
    """Auto Scaling User Guide, "How suspended processes affect other processes"."""
    cloud.group()
    alarms = track(cloud)
    cloud.asg.suspend_processes(AutoScalingGroupName="fleet", ScalingProcesses=[process])
    cloud.minutes(4, 99.0)
    assert (desired(cloud), states(cloud, alarms)[0]) == (1, "ALARM")
    cloud.asg.resume_processes(AutoScalingGroupName="fleet", ScalingProcesses=[process])
    cloud.minutes(1, 99.0)
    assert desired(cloud) == 2


def test_terminate_suspended_stops_scale_in(cloud: ApiCloud) -> None:
    """The same page: AlarmNotification "can't initiate scale in activities for alarms that are in breach"."""
    cloud.group(DesiredCapacity=2)
    track(cloud)
    cloud.asg.suspend_processes(AutoScalingGroupName="fleet", ScalingProcesses=["Terminate"])
    cloud.minutes(20, 1.0)
    assert desired(cloud) == 2


def test_disabled_policy_rests(cloud: ApiCloud) -> None:
    """Auto Scaling User Guide, "Disable a scaling policy for an Auto Scaling group"."""
    cloud.group()
    track(cloud, Enabled=False)
    cloud.minutes(4, 99.0)
    assert desired(cloud) == 1


def test_protected_instances_stay(cloud: ApiCloud) -> None:
    """Auto Scaling User Guide, "Use instance scale-in protection": the desired capacity goes down, nobody goes."""
    cloud.group(DesiredCapacity=2, NewInstancesProtectedFromScaleIn=True)
    track(cloud)
    cloud.minutes(15, 1.0)
    assert (desired(cloud), len(cloud.members())) == (1, 2)
    one, _ = cloud.members()
    cloud.asg.set_instance_protection(AutoScalingGroupName="fleet", InstanceIds=[one], ProtectedFromScaleIn=False)
    cloud.step(4)
    assert one not in cloud.members()


def test_alarms_of_a_policy_have_the_clouds_period(cloud: ApiCloud) -> None:
    """A minute, 3 of 3 and 15 of 15, 90 % of the target: as in accounts."""
    cloud.group()
    alarms = track(cloud, 40.0)
    told = {a["AlarmName"]: a for a in cloud.watch.describe_alarms()["MetricAlarms"]}
    high, low = told[alarms["High"]], told[alarms["Low"]]
    assert (high["Period"], high["EvaluationPeriods"], high["Threshold"]) == (60, 3, 40.0)
    assert (low["Period"], low["EvaluationPeriods"], low["Threshold"]) == (60, 15, 36.0)
    assert high["Dimensions"] == [{"Name": "AutoScalingGroupName", "Value": "fleet"}]


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"PolicyType": "StepScaling"}, "UnsupportedOperation"),
        (
            {"configuration": {"PredefinedMetricSpecification": {"PredefinedMetricType": "ASGAverageNetworkIn"}}},
            "UnsupportedOperation",
        ),
        (
            {"configuration": {"PredefinedMetricSpecification": {"PredefinedMetricType": "ASGAverageNothing"}}},
            "ValidationError",
        ),
        ({"configuration": {"TargetValue": 0}}, "ValidationError"),
    ],
)
def test_wrong_policies_are_refused(cloud: ApiCloud, more: dict[str, Any], code: str) -> None:
    """API Reference, "PutScalingPolicy"."""
    cloud.group()
    given = {"PolicyType": "TargetTrackingScaling", **more}
    configuration = {
        "PredefinedMetricSpecification": {"PredefinedMetricType": "ASGAverageCPUUtilization"},
        "TargetValue": 50.0,
        **given.pop("configuration", {}),
    }
    put = {"AutoScalingGroupName": "fleet", "PolicyName": "cpu", "TargetTrackingConfiguration": configuration}
    assert refused(lambda: cloud.asg.put_scaling_policy(**put, **given)) == code
