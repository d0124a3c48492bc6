"""Launch templates: versions that stay what they were."""

from __future__ import annotations

from localcloud.tests.api_cloud import BASE_IMAGE, ApiCloud, encoded, refused


def test_tags_of_the_template_are_not_its_data(cloud: ApiCloud) -> None:
    """EC2 API Reference, "CreateLaunchTemplate": TagSpecifications tag the template (moto puts them into version 1)."""
    cloud.ec2.create_launch_template(
        LaunchTemplateName="web",
        LaunchTemplateData={"ImageId": BASE_IMAGE, "InstanceType": "t2.micro"},
        TagSpecifications=[{"ResourceType": "launch-template", "Tags": [{"Key": "Project", "Value": "memo-server"}]}],
    )
    template = cloud.ec2.describe_launch_templates(LaunchTemplateNames=["web"])["LaunchTemplates"][0]
    assert template["Tags"] == [{"Key": "Project", "Value": "memo-server"}]
    versions = cloud.ec2.describe_launch_template_versions(LaunchTemplateName="web")["LaunchTemplateVersions"]
    assert versions[0]["LaunchTemplateData"] == {"ImageId": BASE_IMAGE, "InstanceType": "t2.micro"}


def test_a_template_is_tagged_later(cloud: ApiCloud) -> None:
    """EC2 API Reference, "CreateTags" and "DeleteTags": a template's tags change (moto shows those of its creation)."""
    template = cloud.template()
    cloud.ec2.create_tags(Resources=[template], Tags=[{"Key": "good", "Value": "1"}])
    cloud.ec2.create_tags(Resources=[template], Tags=[{"Key": "good", "Value": "1 2"}, {"Key": "void", "Value": "3"}])
    cloud.ec2.delete_tags(Resources=[template], Tags=[{"Key": "void"}])
    (told,) = cloud.ec2.describe_launch_templates(LaunchTemplateIds=[template])["LaunchTemplates"]
    assert {"Key": "good", "Value": "1 2"} in told["Tags"]
    assert "void" not in {tag["Key"] for tag in told["Tags"]}
    found = cloud.ec2.describe_launch_templates(Filters=[{"Name": "tag:good", "Values": ["1 2"]}])["LaunchTemplates"]
    assert [one["LaunchTemplateId"] for one in found] == [template]


def test_later_versions_with_user_data_launch(cloud: ApiCloud) -> None:
    """EC2 API Reference, "CreateLaunchTemplateVersion" (moto raises AssertionError at launch), and SourceVersion."""
    template = cloud.template(UserData=encoded("one"))
    cloud.ec2.create_launch_template_version(
        LaunchTemplateId=template, SourceVersion="1", LaunchTemplateData={"UserData": encoded("two")}
    )
    answer = cloud.ec2.run_instances(
        MinCount=1, MaxCount=1, LaunchTemplate={"LaunchTemplateId": template, "Version": "2"}
    )
    assert cloud.state.instances()[answer["Instances"][0]["InstanceId"]].user_data == b"two"


def test_versions_are_deleted_but_numbers_not_used_again(cloud: ApiCloud) -> None:
    """EC2 API Reference, "DeleteLaunchTemplateVersions" (missing in moto): never the default version."""
    template = cloud.template()
    for _ in range(2):
        cloud.ec2.create_launch_template_version(LaunchTemplateId=template, SourceVersion="1", LaunchTemplateData={})
    answer = cloud.ec2.delete_launch_template_versions(LaunchTemplateId=template, Versions=["1", "2", "9"])
    assert [v["VersionNumber"] for v in answer["SuccessfullyDeletedLaunchTemplateVersions"]] == [2]
    refusals = [v["ResponseError"]["Code"] for v in answer["UnsuccessfullyDeletedLaunchTemplateVersions"]]
    assert refusals == ["unexpectedError", "launchTemplateVersionDoesNotExist"]
    made = cloud.ec2.create_launch_template_version(
        LaunchTemplateId=template, SourceVersion="3", LaunchTemplateData={}
    )["LaunchTemplateVersion"]
    assert made["VersionNumber"] == 4
    told = cloud.ec2.describe_launch_template_versions(LaunchTemplateId=template)["LaunchTemplateVersions"]
    assert [v["VersionNumber"] for v in told] == [4, 3, 1]
    missing = {"LaunchTemplateId": template, "Versions": ["2"]}
    assert (
        refused(lambda: cloud.ec2.describe_launch_template_versions(**missing))
        == "InvalidLaunchTemplateId.VersionNotFound"
    )


def test_default_and_latest(cloud: ApiCloud) -> None:
    """EC2 API Reference, "ModifyLaunchTemplate" and "DescribeLaunchTemplateVersions": $Default and $Latest."""
    template = cloud.template()
    cloud.ec2.create_launch_template_version(LaunchTemplateId=template, SourceVersion="1", LaunchTemplateData={})
    cloud.ec2.modify_launch_template(LaunchTemplateId=template, DefaultVersion="2")
    cloud.ec2.create_launch_template_version(LaunchTemplateId=template, SourceVersion="1", LaunchTemplateData={})
    for word, number in (("$Default", 2), ("$Latest", 3)):
        told = cloud.ec2.describe_launch_template_versions(LaunchTemplateId=template, Versions=[word])
        assert [v["VersionNumber"] for v in told["LaunchTemplateVersions"]] == [number]


def test_wrong_templates_are_refused(cloud: ApiCloud) -> None:
    """EC2 API Reference, "Error codes for the Amazon EC2 API"."""
    cloud.template("web")
    assert refused(lambda: cloud.template("web")) == "InvalidLaunchTemplateName.AlreadyExistsException"
    assert refused(lambda: cloud.template("spot", InstanceMarketOptions={"MarketType": "spot"})) == (
        "UnsupportedOperation"
    )
    assert refused(lambda: cloud.template("odd", InstanceType="t2.enormous")) == "InvalidParameterValue"
    assert refused(lambda: cloud.ec2.delete_launch_template(LaunchTemplateName="nobody")) == (
        "InvalidLaunchTemplateName.NotFoundException"
    )
