"""The modules that talk to AWS, against moto; and the messages that name a fix."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, NoCredentialsError, ProfileNotFound
from moto import mock_aws

from plugins.modules import account_info, controller_check, project_resources_info, ssm_secrets

REGION = "ap-northeast-2"
TAGS = {"Project": "memo-server"}


@pytest.fixture(autouse=True)
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, value in {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    with mock_aws():
        yield


def test_secrets_are_generated_once() -> None:
    ssm = boto3.client("ssm", REGION)
    wanted: list[dict[str, Any]] = [{"name": "/memo-server/app/key", "value": None}]
    first = ssm_secrets.keep(ssm, wanted, TAGS, check_mode=False)
    second = ssm_secrets.keep(ssm, wanted, TAGS, check_mode=False)
    assert first["created"] == ["/memo-server/app/key"]
    assert len(first["values"]["/memo-server/app/key"]) >= 43
    assert not second["changed"]
    assert second["values"] == first["values"]
    assert ssm.describe_parameters()["Parameters"][0]["Type"] == "SecureString"


def test_a_given_secret_is_stored_replaced_and_kept() -> None:
    ssm = boto3.client("ssm", REGION)

    def keep(value: str) -> dict[str, Any]:
        return ssm_secrets.keep(ssm, [{"name": "/id", "value": value}], TAGS, check_mode=False)

    assert keep("one")["created"] == ["/id"]
    assert keep("two")["updated"] == ["/id"]
    assert keep("")["values"] == {"/id": "two"}


def test_check_mode_stores_nothing() -> None:
    ssm = boto3.client("ssm", REGION)
    answer = ssm_secrets.keep(ssm, [{"name": "/a", "value": None}], TAGS, check_mode=True)
    assert answer["changed"]
    assert answer["values"] == {"/a": ""}
    assert ssm.describe_parameters()["Parameters"] == []


def test_an_empty_secret_that_is_not_stored_is_refused() -> None:
    with pytest.raises(ssm_secrets.MissingSecretError, match="/naver"):
        ssm_secrets.keep(boto3.client("ssm", REGION), [{"name": "/naver", "value": ""}], TAGS, check_mode=False)


def test_subnets_are_one_for_each_zone_that_offers_the_type() -> None:
    ec2 = boto3.client("ec2", REGION)
    vpc = account_info.find_vpc(ec2, "")
    subnets = account_info.find_subnets(ec2, vpc["id"], "t2.micro", 2)
    offered = ec2.describe_instance_type_offerings(
        LocationType="availability-zone", Filters=[{"Name": "instance-type", "Values": ["t2.micro"]}]
    )["InstanceTypeOfferings"]
    assert [subnet["zone"] for subnet in subnets] == sorted(one["Location"] for one in offered)


def test_too_few_zones_and_unknown_types_name_the_setting() -> None:
    ec2 = boto3.client("ec2", REGION)
    vpc = account_info.find_vpc(ec2, "")
    with pytest.raises(account_info.AccountError, match="memo_server_vpc_id or memo_server_instance_type"):
        account_info.find_subnets(ec2, vpc["id"], "t2.micro", 9)
    with pytest.raises(account_info.AccountError, match="memo_server_instance_type"):
        account_info.find_subnets(ec2, vpc["id"], "t2.nonesuch", 2)


def test_vpcs_that_are_not_there_name_the_setting() -> None:
    ec2 = boto3.client("ec2", REGION)
    with pytest.raises(account_info.AccountError, match=r"Correct memo_server_vpc_id"):
        account_info.find_vpc(ec2, "vpc-0123456789abcdef0")


def test_an_unknown_base_image_names_the_setting() -> None:
    with pytest.raises(account_info.AccountError, match="memo_server_base_image_name"):
        account_info.find_base_image(boto3.client("ec2", REGION), "136693071363", "nonesuch-*", "x86_64")


@pytest.mark.parametrize(("region", "fix"), [("", "memo_server_region"), ("ap-nowhere-1", "ap-nowhere-1")])
def test_unknown_regions_name_the_setting(region: str, fix: str) -> None:
    with pytest.raises(account_info.AccountError, match=fix):
        account_info.check_region(region)


@pytest.mark.parametrize(
    ("error", "endpoint", "fix"),
    [
        (NoCredentialsError(), None, "AWS_PROFILE"),
        (ProfileNotFound(profile="x"), None, "list-profiles"),
        (EndpointConnectionError(endpoint_url="http://a"), "http://a", "Start the cloud"),
        (EndpointConnectionError(endpoint_url="http://a"), None, "memo_server_region"),
        (ClientError({"Error": {"Code": "ExpiredToken", "Message": ""}}, "x"), None, "Renew them"),
        (ClientError({"Error": {"Code": "UnauthorizedOperation", "Message": ""}}, "x"), None, "permissions"),
        (ClientError({"Error": {"Code": "OptInRequired", "Message": ""}}, "x"), None, "Enable it"),
    ],
)
def test_errors_name_their_fix(error: Exception, endpoint: str | None, fix: str) -> None:
    assert fix in account_info.explain(error, REGION, endpoint)


def test_secrets_that_are_neither_given_nor_stored_are_told_together() -> None:
    ssm = boto3.client("ssm", REGION)
    wanted = [
        {"name": "/a", "given": False, "hint": "Set A"},
        {"name": "/b", "given": False, "hint": "Set B"},
        {"name": "/c", "given": True, "hint": "Set C"},
    ]
    with pytest.raises(account_info.AccountError, match=r"Set A\. .*Set B\.$"):
        account_info.check_secrets(ssm, wanted)
    for name in ("/a", "/b"):
        ssm.put_parameter(Name=name, Value="x", Type="SecureString")
    account_info.check_secrets(ssm, wanted)


def test_public_key_files_are_checked(tmp_path: Path) -> None:
    private = tmp_path / "private.pub"
    private.write_text("-----BEGIN OPENSSH PRIVATE KEY-----\n", encoding="utf-8")
    empty = tmp_path / "empty.pub"
    empty.write_text("\n", encoding="utf-8")
    wrong = tmp_path / "wrong.pub"
    wrong.write_text("ssh-ed25519 nonsense\n", encoding="utf-8")
    good = tmp_path / "good.pub"
    good.write_text(
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdGBPIbAmpaG4QM1zPbcRLJ1zBdxtDm9QcJCP6RVg0n a\n", encoding="utf-8"
    )
    assert "PRIVATE key" in str(controller_check.key_problem(private))
    assert "holds no key" in str(controller_check.key_problem(empty))
    assert "not a public key" in str(controller_check.key_problem(wrong))
    assert controller_check.key_problem(good) is None
    assert controller_check.missing_programs(["sh", "no-such-program"]) == ["no-such-program"]


def test_security_groups_go_referrers_first() -> None:
    order = project_resources_info.referrers_first({"lb": set(), "web": {"lb", "web"}, "db": {"web"}, "dev": set()})
    assert order.index("db") < order.index("web") < order.index("lb")


def test_groups_that_refer_to_each_other_are_listed_too() -> None:
    assert project_resources_info.referrers_first({"a": {"b"}, "b": {"a"}}) == ["a", "b"]


def test_only_the_projects_resources_are_listed() -> None:
    ec2 = boto3.client("ec2", REGION)
    for project in ("memo-server", "other"):
        ec2.create_volume(
            AvailabilityZone=REGION + "a",
            Size=1,
            TagSpecifications=[{"ResourceType": "volume", "Tags": [{"Key": "Project", "Value": project}]}],
        )
    assert len(project_resources_info.ec2_resources(ec2, "memo-server")["volumes"]) == 1


def test_only_the_projects_roles_are_listed() -> None:
    iam = boto3.client("iam", REGION)
    for name, project in (("memo-server-web", "memo-server"), ("other-web", "other")):
        iam.create_role(RoleName=name, AssumeRolePolicyDocument="{}", Tags=[{"Key": "Project", "Value": project}])
    found = project_resources_info.other_resources(
        boto3.client("autoscaling", REGION),
        iam,
        boto3.client("ssm", REGION),
        "memo-server",
        ["memo-server-web", "other-web", "none"],
    )
    assert found == {"autoscaling_groups": [], "roles": ["memo-server-web"], "parameters": []}
