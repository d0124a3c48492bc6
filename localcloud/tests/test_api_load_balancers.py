"""Load balancers and target groups."""

from __future__ import annotations

from typing import Any

import pytest

from localcloud.model import DesiredListener, DesiredTarget, HealthCheck, HealthState
from localcloud.tests.api_cloud import ApiCloud, refused


def health(cloud: ApiCloud, group_arn: str) -> dict[str, tuple[str, str | None]]:
    """Return every target's state and reason."""
    told = cloud.elb.describe_target_health(TargetGroupArn=group_arn)["TargetHealthDescriptions"]
    return {t["Target"]["Id"]: (t["TargetHealth"]["State"], t["TargetHealth"].get("Reason")) for t in told}


def test_load_balancer_has_an_address_and_a_name(cloud: ApiCloud) -> None:
    """ELB API Reference, "LoadBalancer"; the address is one of its first subnet, the name ends as the cloud says."""
    balancer_arn, group_arn = cloud.balanced()
    told = cloud.elb.describe_load_balancers()["LoadBalancers"][0]
    assert told["State"]["Code"] == "active"
    assert told["DNSName"].startswith("lb-")
    assert told["DNSName"].endswith(".ap-northeast-2.elb.api.internal")
    desired = cloud.state.load_balancers()[balancer_arn]
    assert desired.address.startswith("10.213.")
    assert desired.address != cloud.instance(cloud.run())["PrivateIpAddress"]
    assert [(x.port, x.target_group_arn) for x in desired.listeners] == [(80, group_arn)]


def test_health_is_what_the_probes_saw(cloud: ApiCloud) -> None:
    """ELB User Guide, "Target health status" (moto always says `healthy`)."""
    _, group_arn = cloud.balanced()
    instance_id = cloud.run()
    cloud.elb.register_targets(TargetGroupArn=group_arn, Targets=[{"Id": instance_id}])
    assert health(cloud, group_arn) == {instance_id: ("initial", "Elb.RegistrationInProgress")}
    cloud.see(group_arn, instance_id, HealthState.HEALTHY)
    assert health(cloud, group_arn) == {instance_id: ("healthy", None)}
    cloud.ec2.stop_instances(InstanceIds=[instance_id])
    cloud.follow()
    assert health(cloud, group_arn) == {instance_id: ("unused", "Target.InvalidState")}
    other = cloud.run()
    told = cloud.elb.describe_target_health(TargetGroupArn=group_arn, Targets=[{"Id": other}])
    assert told["TargetHealthDescriptions"][0]["TargetHealth"]["Reason"] == "Target.NotRegistered"


def test_unused_targets(cloud: ApiCloud) -> None:
    """ELB User Guide, "Health check reason codes": Target.NotInUse without a listener, and in a zone left out."""
    _, used = cloud.balanced()
    unused = cloud.elb.create_target_group(Name="unused", Protocol="HTTP", Port=80, VpcId=cloud.vpc())
    unused_arn = unused["TargetGroups"][0]["TargetGroupArn"]
    elsewhere = cloud.run(SubnetId=cloud.subnet("b"), InstanceType="t3.micro")
    for arn in (used, unused_arn):
        cloud.elb.register_targets(TargetGroupArn=arn, Targets=[{"Id": elsewhere}])
        assert health(cloud, arn) == {elsewhere: ("unused", "Target.NotInUse")}


def test_deregistered_target_drains(cloud: ApiCloud) -> None:
    """ELB User Guide, "Deregistration delay"."""
    _, group_arn = cloud.balanced(delay=5)
    instance_id = cloud.run()
    cloud.elb.register_targets(TargetGroupArn=group_arn, Targets=[{"Id": instance_id}])
    (desired,) = cloud.state.target_groups().values()
    assert desired.targets == (DesiredTarget(instance_id, cloud.instance(instance_id)["PrivateIpAddress"], 80),)
    cloud.elb.deregister_targets(TargetGroupArn=group_arn, Targets=[{"Id": instance_id}])
    assert health(cloud, group_arn) == {instance_id: ("draining", "Target.DeregistrationInProgress")}
    assert cloud.state.target_groups()[group_arn].targets == ()
    cloud.now += 5
    assert health(cloud, group_arn) == {}


def test_terminated_instance_is_deregistered(cloud: ApiCloud) -> None:
    """ELB User Guide, "Register targets": a terminated instance is deregistered (moto keeps it)."""
    _, group_arn = cloud.balanced(delay=0)
    instance_id = cloud.run()
    cloud.elb.register_targets(TargetGroupArn=group_arn, Targets=[{"Id": instance_id}])
    cloud.ec2.terminate_instances(InstanceIds=[instance_id])
    cloud.follow()
    assert health(cloud, group_arn) == {}


def test_only_running_instances_are_registered(cloud: ApiCloud) -> None:
    """ELB API Reference, "RegisterTargets": InvalidTarget."""
    _, group_arn = cloud.balanced()
    instance_id = cloud.run()
    cloud.ec2.stop_instances(InstanceIds=[instance_id])
    for target in (instance_id, "i-00000000000000000"):
        assert (
            refused(cloud.elb.register_targets, TargetGroupArn=group_arn, Targets=[{"Id": target}]) == "InvalidTarget"
        )


def test_what_is_in_use_is_not_deleted(cloud: ApiCloud) -> None:
    """ELB API Reference, "DeleteTargetGroup" (ResourceInUse) and "DeleteLoadBalancer" (deletion protection)."""
    balancer_arn, group_arn = cloud.balanced()
    assert refused(lambda: cloud.elb.delete_target_group(TargetGroupArn=group_arn)) == "ResourceInUse"
    protection = {"Key": "deletion_protection.enabled", "Value": "true"}
    cloud.elb.modify_load_balancer_attributes(LoadBalancerArn=balancer_arn, Attributes=[protection])
    assert refused(lambda: cloud.elb.delete_load_balancer(LoadBalancerArn=balancer_arn)) == "OperationNotPermitted"
    protection["Value"] = "false"
    cloud.elb.modify_load_balancer_attributes(LoadBalancerArn=balancer_arn, Attributes=[protection])
    cloud.elb.delete_load_balancer(LoadBalancerArn=balancer_arn)
    cloud.elb.delete_target_group(TargetGroupArn=group_arn)
    assert cloud.state.load_balancers() == {}


def test_health_check_as_given(cloud: ApiCloud) -> None:
    """ELB API Reference, "CreateTargetGroup" and "ModifyTargetGroup"."""
    made = cloud.elb.create_target_group(
        Name="web",
        Protocol="HTTP",
        Port=80,
        VpcId=cloud.vpc(),
        HealthCheckPath="/memo/alive",
        HealthCheckIntervalSeconds=5,
        HealthCheckTimeoutSeconds=2,
        HealthyThresholdCount=2,
        Matcher={"HttpCode": "200-299"},
    )["TargetGroups"][0]["TargetGroupArn"]
    assert cloud.state.target_groups()[made].health_check == HealthCheck(
        path="/memo/alive", interval=5, timeout=2, healthy_threshold=2, unhealthy_threshold=2, matcher="200-299"
    )
    change = {"TargetGroupArn": made, "HealthCheckTimeoutSeconds": 5}
    assert refused(lambda: cloud.elb.modify_target_group(**change)) == "ValidationError"


def test_listener_can_answer_itself(cloud: ApiCloud) -> None:
    """ELB API Reference, "FixedResponseActionConfig": what a maintenance page is made of."""
    balancer_arn, group_arn = cloud.balanced()
    listener_arn = cloud.elb.describe_listeners(LoadBalancerArn=balancer_arn)["Listeners"][0]["ListenerArn"]
    answer = {"StatusCode": "503", "ContentType": "text/html", "MessageBody": "<p>Back soon"}
    cloud.elb.modify_listener(
        ListenerArn=listener_arn,
        DefaultActions=[{"Type": "fixed-response", "FixedResponseConfig": answer}],
    )
    (listener,) = cloud.state.load_balancers()[balancer_arn].listeners
    assert listener == DesiredListener(listener_arn, 80, None, 503, "<p>Back soon", "text/html")
    cloud.elb.delete_target_group(TargetGroupArn=group_arn)


@pytest.mark.parametrize(
    ("parameters", "code"),
    [
        ({"Name": "internal-lb"}, "ValidationError"),
        ({"Name": "a" * 33}, "ValidationError"),
        ({"Type": "network"}, "UnsupportedOperation"),
        ({"IpAddressType": "dualstack"}, "UnsupportedOperation"),
        ({"Subnets": ["a"]}, "ValidationError"),
        ({"SecurityGroups": ["sg-00000000000000000"]}, "InvalidSecurityGroup"),
    ],
)
def test_wrong_load_balancers_are_refused(cloud: ApiCloud, parameters: dict[str, Any], code: str) -> None:
    """ELB API Reference, "CreateLoadBalancer"."""
    given = {"Name": "lb", "Subnets": ["a", "c"], **parameters}
    given["Subnets"] = [cloud.subnet(zone) for zone in given["Subnets"]]
    assert refused(lambda: cloud.elb.create_load_balancer(**given)) == code


def test_what_is_not_modelled_is_refused(cloud: ApiCloud) -> None:
    """TLS, rules, stickiness and other kinds of targets are refused rather than ignored (decision 2)."""
    balancer_arn, group_arn = cloud.balanced()
    forward = {"Type": "forward", "TargetGroupArn": group_arn}
    listener: dict[str, Any] = {"LoadBalancerArn": balancer_arn, "DefaultActions": [forward]}
    assert refused(lambda: cloud.elb.create_listener(Protocol="HTTPS", Port=443, **listener)) == "UnsupportedOperation"
    assert refused(lambda: cloud.elb.create_listener(Protocol="HTTP", Port=80, **listener)) == "DuplicateListener"
    sticky: Any = [{"Key": "stickiness.enabled", "Value": "true"}]
    assert (
        refused(lambda: cloud.elb.modify_target_group_attributes(TargetGroupArn=group_arn, Attributes=sticky))
        == "UnsupportedOperation"
    )
    assert (
        refused(lambda: cloud.elb.create_target_group(Name="x", Protocol="TCP", Port=80, VpcId=cloud.vpc()))
        == "UnsupportedOperation"
    )
