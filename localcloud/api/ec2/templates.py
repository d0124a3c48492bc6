"""Launch templates: tags of their own, numbered versions that stay what they were, versions that can be deleted."""

from __future__ import annotations

import copy
import re
from typing import TYPE_CHECKING, Any

from moto.core.responses import ActionResult
from moto.ec2.models.launch_templates import LaunchTemplate, LaunchTemplateVersion

from localcloud.api.ec2 import instance_types, user_data
from localcloud.api.ec2.service import SERVICE, backend
from localcloud.api.registry import AwsError, Call, unsupported
from localcloud.settings import ACCOUNT_ID

if TYPE_CHECKING:
    from localcloud.api import ControlPlane

_NAME = re.compile(r"[a-zA-Z0-9().\-/_]{3,128}")
_TAGGABLE = ("instance", "volume", "network-interface")


def find(plane: ControlPlane, template_id: object, name: object) -> LaunchTemplate:
    """Return the template with this id or name.

    Raises:
        AwsError: there is none, or both or neither are given.
    """
    if bool(template_id) == bool(name):
        raise AwsError(
            "MissingParameter" if not name else "InvalidParameterCombination",
            "Exactly one of LaunchTemplateId and LaunchTemplateName must be given.",
        )
    for template in backend(plane).launch_templates.values():
        if template.id == template_id or (name and template.name == name):
            return template
    if name:
        raise AwsError(
            "InvalidLaunchTemplateName.NotFoundException",
            f"At least one of the launch templates specified in the request does not exist ({name}).",
        )
    raise AwsError(
        "InvalidLaunchTemplateId.NotFound",
        f"The specified launch template, with template ID {template_id}, does not exist.",
    )


def version_of(template: LaunchTemplate, number: object) -> LaunchTemplateVersion:
    """Return a version by number, `$Latest` or `$Default` (the default when nothing is given).

    Raises:
        AwsError: there is none.
    """
    wanted = str(number or "$Default")
    if wanted.lower() == "$latest":
        return template.latest_version()
    if wanted.lower() == "$default":
        wanted = str(template.default_version_number)
    for version in template.versions:
        if str(version.number) == wanted:
            return version
    raise AwsError(
        "InvalidLaunchTemplateId.VersionNotFound",
        f"Could not find the specified version {wanted} for the launch template with ID {template.id}.",
    )


def data_of(plane: ControlPlane, specification: dict[str, Any] | None) -> tuple[dict[str, Any], dict[str, str]]:
    """Return what a template version says, and the tags that instances made of it carry.

    Args:
        plane: the cloud.
        specification: LaunchTemplateId or LaunchTemplateName, and Version.

    Returns:
        The launch template data and AWS's two tags; both empty without a specification.
    """
    if not specification:
        return {}, {}
    template = find(plane, specification.get("LaunchTemplateId"), specification.get("LaunchTemplateName"))
    version = version_of(template, specification.get("Version"))
    tags = {"aws:ec2launchtemplate:id": template.id, "aws:ec2launchtemplate:version": str(version.number)}
    return copy.deepcopy(version.data), tags


def _get_version(self: LaunchTemplate, num: object) -> LaunchTemplateVersion:
    """Replace moto's, which counts list positions and so is wrong once a version was deleted."""
    return version_of(self, num)


def _default_version(self: LaunchTemplate) -> LaunchTemplateVersion:
    return version_of(self, self.default_version_number)


def _create_version(self: LaunchTemplate, data: dict[str, Any], description: str) -> LaunchTemplateVersion:
    """Replace moto's: numbers are never used again ("Create a launch template", EC2 User Guide)."""
    self.highest_version = getattr(self, "highest_version", 0) + 1  # type: ignore[attr-defined]
    version = LaunchTemplateVersion(self, self.highest_version, data, description)  # type: ignore[attr-defined]
    self.versions.append(version)
    return version


def _tags(self: LaunchTemplate) -> list[dict[str, str]]:
    """The tags as CreateTags and DeleteTags leave them; moto told those of the creation for ever."""
    tags: list[dict[str, str]] = self.get_tags()
    return tags


LaunchTemplate.tags = property(_tags, lambda self, value: None)  # type: ignore[assignment]
LaunchTemplate.get_version = _get_version  # type: ignore[method-assign]
LaunchTemplate.default_version = _default_version  # type: ignore[method-assign]
LaunchTemplate.create_version = _create_version  # type: ignore[method-assign]


@SERVICE.action("CreateLaunchTemplate")
def create_launch_template(call: Call) -> ActionResult:
    """Keep the template's own tags apart from its data: in stock moto they became part of version 1."""
    name = str(call.params.get("LaunchTemplateName") or "")
    if not _NAME.fullmatch(name):
        raise AwsError(
            "InvalidLaunchTemplateName.MalformedException", f"The launch template name {name!r} is not valid."
        )
    for specification in call.params.get("TagSpecifications") or []:
        if specification.get("ResourceType") != "launch-template":
            raise AwsError(
                "InvalidParameterValue",
                f"'{specification.get('ResourceType')}' is not a valid taggable resource type for this operation.",
            )
    data = _checked_data(call.params.get("LaunchTemplateData") or {})
    call.response.error_on_dryrun()
    tags = call.response._parse_tag_specification() if call.params.get("TagSpecifications") else {}
    template = backend(call.plane).create_launch_template(name, call.params.get("VersionDescription") or "", data, tags)
    return ActionResult({"LaunchTemplate": _describe(template)})


@SERVICE.action("CreateLaunchTemplateVersion")
def create_launch_template_version(call: Call) -> ActionResult:
    """Make the next version, on top of `SourceVersion` where one is named."""
    template = _named(call)
    data = _checked_data(call.params.get("LaunchTemplateData") or {})
    if source := call.params.get("SourceVersion"):
        data = {**copy.deepcopy(version_of(template, source).data), **data}
    call.response.error_on_dryrun()
    version = template.create_version(data, call.params.get("VersionDescription") or "")
    return ActionResult({"LaunchTemplateVersion": _describe_version(template, version)})


@SERVICE.action("DeleteLaunchTemplateVersions")
def delete_launch_template_versions(call: Call) -> ActionResult:
    """Delete versions but never the default one (EC2 API Reference, "DeleteLaunchTemplateVersions")."""
    template = _named(call)
    gone, kept = [], []
    for number in call.params.get("Versions") or []:
        identity = {
            "LaunchTemplateId": template.id,
            "LaunchTemplateName": template.name,
            "VersionNumber": int(number) if str(number).isdigit() else 0,
        }
        version = next((v for v in template.versions if str(v.number) == str(number)), None)
        if version is None:
            error = ("launchTemplateVersionDoesNotExist", "The specified launch template version does not exist.")
        elif template.is_default(version):
            error = ("unexpectedError", "The default version of a launch template cannot be deleted.")
        else:
            template.versions.remove(version)
            gone.append(identity)
            continue
        kept.append({**identity, "ResponseError": {"Code": error[0], "Message": error[1]}})
    return ActionResult(
        {
            "SuccessfullyDeletedLaunchTemplateVersions": gone,
            "UnsuccessfullyDeletedLaunchTemplateVersions": kept,
        }
    )


@SERVICE.action("DescribeLaunchTemplateVersions")
def describe_launch_template_versions(call: Call) -> ActionResult:
    """List versions newest first, as AWS does, by number rather than by position."""
    if call.params.get("Filters"):
        raise unsupported("filters on launch template versions (Filters)")
    wanted = [str(v) for v in call.params.get("Versions") or []]
    if call.params.get("LaunchTemplateId") or call.params.get("LaunchTemplateName"):
        templates = [_named(call)]
    elif set(wanted) & {"$Latest", "$Default"}:
        templates = list(backend(call.plane).launch_templates.values())
    else:
        raise AwsError("MissingParameter", "Name a launch template, or ask for $Latest or $Default of all of them.")
    least, most = int(call.params.get("MinVersion") or 0), int(call.params.get("MaxVersion") or 0)
    found = []
    for template in templates:
        if wanted:
            versions = list({v.number: v for v in (version_of(template, w) for w in wanted)}.values())
        else:
            versions = [v for v in template.versions if v.number >= least and (not most or v.number <= most)]
        found += [_describe_version(template, v) for v in sorted(versions, key=lambda v: -v.number)]
    start = int(call.params.get("NextToken") or 0)
    page = int(call.params.get("MaxResults") or 200)
    following = str(start + page) if start + page < len(found) else None
    return ActionResult({"LaunchTemplateVersions": found[start : start + page], "NextToken": following})


@SERVICE.action("ModifyLaunchTemplate")
def modify_launch_template(call: Call) -> ActionResult:
    """Choose the default version."""
    template = _named(call)
    wanted = call.params.get("DefaultVersion") or call.params.get("SetDefaultVersion")
    template.default_version_number = version_of(template, wanted).number
    return ActionResult({"LaunchTemplate": _describe(template)})


@SERVICE.action("DeleteLaunchTemplate")
def delete_launch_template(call: Call) -> ActionResult:
    """Delete a template; AWS allows it while an Auto Scaling group still names it, and its launches fail then."""
    template = _named(call)
    call.response.error_on_dryrun()
    answer = _describe(template)
    backend(call.plane).delete_launch_template(template.name, None)
    return ActionResult({"LaunchTemplate": answer})


def _named(call: Call) -> LaunchTemplate:
    return find(call.plane, call.params.get("LaunchTemplateId"), call.params.get("LaunchTemplateName"))


def _checked_data(data: dict[str, Any]) -> dict[str, Any]:
    """Refuse what can be seen to be wrong now; ids are looked up at launch, as on AWS."""
    user_data.check(data.get("UserData"))
    if data.get("InstanceType"):
        instance_types.check(str(data["InstanceType"]))
    if data.get("InstanceMarketOptions"):
        raise unsupported("Spot instances (InstanceMarketOptions)")
    if data.get("InstanceRequirements"):
        raise unsupported("instance requirements (InstanceRequirements)")
    for specification in data.get("TagSpecifications") or []:
        if specification.get("ResourceType") not in _TAGGABLE:
            raise AwsError(
                "InvalidParameterValue", f"{specification.get('ResourceType')!r} cannot be tagged by a launch template."
            )
    return {key: value for key, value in data.items() if value is not None}


def _describe(template: LaunchTemplate) -> dict[str, Any]:
    return {
        "CreateTime": template.create_time,
        "CreatedBy": f"arn:aws:iam::{ACCOUNT_ID}:root",
        "DefaultVersionNumber": template.default_version_number,
        "LatestVersionNumber": template.latest_version_number,
        "LaunchTemplateId": template.id,
        "LaunchTemplateName": template.name,
        "Tags": template.get_tags(),
    }


def _describe_version(template: LaunchTemplate, version: LaunchTemplateVersion) -> dict[str, Any]:
    return {
        "CreateTime": version.create_time,
        "CreatedBy": f"arn:aws:iam::{ACCOUNT_ID}:root",
        "DefaultVersion": template.is_default(version),
        "LaunchTemplateData": version.data,
        "LaunchTemplateId": template.id,
        "LaunchTemplateName": template.name,
        "VersionDescription": version.description or None,
        "VersionNumber": version.number,
    }
