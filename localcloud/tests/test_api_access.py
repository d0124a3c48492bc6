"""Who may call, what is answered, and how refusals look."""

from __future__ import annotations

import contextlib
import urllib.error
import urllib.request
from typing import Any

import pytest

from localcloud.api import AwsError, access
from localcloud.tests.api_cloud import ApiCloud, policy, refused

READ_APP = {
    "Effect": "Allow",
    "Action": ["ssm:GetParameter", "ssm:GetParameters"],
    "Resource": "arn:aws:ssm:*:*:parameter/memo-server/app/*",
}


def as_instance(cloud: ApiCloud, service: str = "ssm", role: str = "web") -> Any:  # noqa: ANN401 - a boto3 client
    """Return a client with the credentials that the metadata service would give an instance of the role."""
    instance_id = cloud.run(IamInstanceProfile={"Name": role})
    given = cloud.state.instance_credentials(cloud.state.instances()[instance_id])
    assert given is not None
    return cloud.client(
        service,
        aws_access_key_id=given.access_key_id,
        aws_secret_access_key=given.secret_access_key,
        aws_session_token=given.token,
    )


def put(cloud: ApiCloud, *names: str) -> None:
    """Store secrets."""
    for name in names:
        cloud.ssm.put_parameter(Name=name, Value="secret", Type="SecureString")


def test_instance_reads_what_its_role_allows(cloud: ApiCloud) -> None:
    """Systems Manager User Guide, "Restricting access to Parameter Store parameters using IAM policies"."""
    cloud.role("web", READ_APP)
    put(cloud, "/memo-server/app/key", "/memo-server/admin/root")
    ssm = as_instance(cloud)
    assert ssm.get_parameter(Name="/memo-server/app/key", WithDecryption=True)["Parameter"]["Value"] == "secret"
    assert refused(lambda: ssm.get_parameter(Name="/memo-server/admin/root")) == "AccessDeniedException"
    both = ["/memo-server/app/key", "/memo-server/admin/root"]
    assert refused(lambda: ssm.get_parameters(Names=both)) == "AccessDeniedException"
    assert refused(lambda: ssm.delete_parameter(Name="/memo-server/app/key")) == "AccessDeniedException"
    assert refused(lambda: as_instance(cloud, "ec2").describe_instances()) == "UnauthorizedOperation"
    assert (
        as_instance(cloud, "sts")
        .get_caller_identity()["Arn"]
        .startswith("arn:aws:sts::123456789012:assumed-role/web/i-")
    )


def test_deny_wins_and_conditions_do_not_allow(cloud: ApiCloud) -> None:
    """IAM User Guide, "Policy evaluation logic"; conditions are not modelled and so never widen what is allowed."""
    put(cloud, "/memo-server/app/key")
    secret = {"Name": "/memo-server/app/key"}
    cloud.role("web", READ_APP, {"Effect": "Deny", "Action": "ssm:*", "Resource": "*"})
    assert refused(lambda: as_instance(cloud).get_parameter(**secret)) == "AccessDeniedException"
    cloud.role("careful", {**READ_APP, "Condition": {"Bool": {"aws:SecureTransport": "true"}}})
    assert refused(lambda: as_instance(cloud, role="careful").get_parameter(**secret)) == "AccessDeniedException"


def test_attached_policies_count(cloud: ApiCloud) -> None:
    """IAM User Guide, "Managed policies and inline policies"."""
    put(cloud, "/memo-server/app/key")
    cloud.role("web", {"Effect": "Allow", "Action": "ec2:DescribeTags", "Resource": "*"})
    ssm = as_instance(cloud)
    assert refused(lambda: ssm.get_parameter(Name="/memo-server/app/key")) == "AccessDeniedException"
    arn = cloud.iam.create_policy(PolicyName="read", PolicyDocument=policy(READ_APP))["Policy"]["Arn"]
    cloud.iam.attach_role_policy(RoleName="web", PolicyArn=arn)
    assert ssm.get_parameter(Name="/memo-server/app/key")["Parameter"]["Name"] == "/memo-server/app/key"


def test_made_up_temporary_keys_are_refused(cloud: ApiCloud) -> None:
    """IAM User Guide, "Temporary security credentials in IAM": key and session token belong together."""
    cloud.role("web", READ_APP)
    put(cloud, "/memo-server/app/key")
    instance_id = cloud.run(IamInstanceProfile={"Name": "web"})
    given = cloud.state.instance_credentials(cloud.state.instances()[instance_id])
    assert given is not None
    assert given.access_key_id.startswith("ASIA")
    for key, token in (("ASIAMADEUPMADEUPMADE", given.token), (given.access_key_id, "made up")):
        client = cloud.client("ssm", aws_access_key_id=key, aws_secret_access_key="x", aws_session_token=token)
        assert refused(client.get_parameter, Name="/memo-server/app/key") == "UnrecognizedClientException"


def test_instances_cannot_be_administrator(cloud: ApiCloud) -> None:
    """An instance that makes up a long-term key is refused: otherwise any guest could read every secret."""
    address = cloud.instance(cloud.run())["PrivateIpAddress"]
    for source, allowed in ((address, False), ("10.213.0.1", True), ("127.0.0.1", True)):
        caller = access.Caller("AKIALOCALCLOUD000000", None, source)
        with contextlib.nullcontext() if allowed else pytest.raises(AwsError):
            access.check(cloud.plane, caller, "ssm", "GetParameter", {"Name": "/memo-server/admin/root"})


@pytest.mark.parametrize(
    "smuggled",
    [
        b'{"Name": "/memo-server/app/key", "x": "&Name=/memo-server/admin/root&"}',
        b'{"Name": "/memo-server/app/key", "x": "&Action=DescribeParameters&"}',
    ],
)
def test_names_cannot_be_smuggled_past_the_policy(cloud: ApiCloud, smuggled: bytes) -> None:
    """moto reads a JSON body as a form as well: a second name in it would be answered, but was never checked."""
    cloud.role("web", READ_APP)
    put(cloud, "/memo-server/app/key", "/memo-server/admin/root")
    instance_id = cloud.run(IamInstanceProfile={"Name": "web"})
    given = cloud.state.instance_credentials(cloud.state.instances()[instance_id])
    assert given is not None
    scope = f"Credential={given.access_key_id}/20261122/ap-northeast-2/ssm/aws4_request"
    request = urllib.request.Request(  # noqa: S310 - our own http URL
        cloud.plane.url,
        data=smuggled,
        headers={
            "Authorization": f"AWS4-HMAC-SHA256 {scope}, SignedHeaders=host, Signature=0",
            "X-Amz-Security-Token": given.token,
            "X-Amz-Target": "AmazonSSM.GetParameter",
            "Content-Type": "application/x-amz-json-1.1",
        },
    )
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request)  # noqa: S310 - our own http URL
    assert "ValidationException" in caught.value.read().decode()


def test_credentials_stay_until_they_are_about_to_expire(cloud: ApiCloud) -> None:
    """EC2 User Guide, "Retrieve security credentials from instance metadata"."""
    cloud.role("web", READ_APP)
    instance_id, without = cloud.run(IamInstanceProfile={"Name": "web"}), cloud.run()
    desired = cloud.state.instances()
    with_role = desired[instance_id]
    assert cloud.state.instance_credentials(with_role) == cloud.state.instance_credentials(with_role)
    assert cloud.state.instance_credentials(desired[without]) is None


@pytest.mark.parametrize("service", ["ec2", "autoscaling", "elbv2", "ssm"])
def test_other_regions_are_refused(cloud: ApiCloud, service: str) -> None:
    """IAM User Guide, "AWS Signature Version 4": the credential scope names the region."""
    calls = {
        "ec2": "describe_instances",
        "autoscaling": "describe_auto_scaling_groups",
        "elbv2": "describe_load_balancers",
        "ssm": "describe_parameters",
    }
    client = cloud.client(service, region_name="eu-west-1")
    code = refused(getattr(client, calls[service]))
    assert code == ("AuthFailure" if service == "ec2" else "SignatureDoesNotMatch")


@pytest.mark.parametrize(
    ("service", "call", "parameters"),
    [
        ("s3", "list_buckets", {}),
        ("ec2", "create_vpc", {"CidrBlock": "10.9.0.0/16"}),
        ("ec2", "allocate_address", {}),
        ("ec2", "request_spot_instances", {}),
        ("ec2", "describe_ipams", {}),
        ("autoscaling", "execute_policy", {"AutoScalingGroupName": "x", "PolicyName": "y"}),
        ("autoscaling", "describe_warm_pool", {"AutoScalingGroupName": "x"}),
        ("autoscaling", "put_warm_pool", {"AutoScalingGroupName": "x"}),
        ("elbv2", "set_subnets", {"LoadBalancerArn": "x", "Subnets": ["y"]}),
        ("iam", "create_user", {"UserName": "x"}),
        ("ssm", "send_command", {"DocumentName": "x"}),
        ("cloudwatch", "put_metric_data", {"Namespace": "x"}),
    ],
)
def test_what_is_not_modelled_is_refused(cloud: ApiCloud, service: str, call: str, parameters: dict[str, Any]) -> None:
    """EC2 API Reference, "Error codes": UnsupportedOperation, readable by boto3 (moto answers HTML)."""
    assert refused(lambda: getattr(cloud.client(service), call)(**parameters)) == "UnsupportedOperation"


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [("/", 403, "MissingAuthenticationToken"), ("/moto-api/reset", 403, "MissingAuthenticationToken")],
)
def test_unsigned_requests_are_refused(cloud: ApiCloud, path: str, status: int, code: str) -> None:
    """IAM User Guide, "Common errors": also moto's own way to forget everything is closed."""
    cloud.run()
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(urllib.request.Request(cloud.plane.url + path, method="POST", data=b""))  # noqa: S310 - our own http URL
    assert code in caught.value.read().decode()
    assert caught.value.code in (400, status)
    assert len(cloud.state.instances()) == 1


def test_actions_that_do_not_exist(cloud: ApiCloud) -> None:
    """EC2 API Reference, "Common client error codes": InvalidAction."""
    scope = "Credential=AKIALOCALCLOUD000000/20261122/ap-northeast-2/ec2/aws4_request"
    request = urllib.request.Request(  # noqa: S310 - our own http URL
        cloud.plane.url,
        data=b"Action=MakeCoffee&Version=2016-11-15",
        headers={"Authorization": f"AWS4-HMAC-SHA256 {scope}, SignedHeaders=host, Signature=0"},
    )
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request)  # noqa: S310 - our own http URL
    assert "<Code>InvalidAction</Code>" in caught.value.read().decode()
