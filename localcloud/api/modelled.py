"""Which actions the local cloud answers. What changes something and is not listed here is refused, never ignored.

Questions (`Describe…`, `Get…`, `List…`) are answered wherever moto can: of what nobody can make,
there is nothing to list.
"""

from __future__ import annotations

QUESTIONS = ("Describe", "Get", "List", "Search", "Lookup")

ACTIONS: dict[str, frozenset[str]] = {
    "ec2": frozenset(
        [
            "RunInstances",
            "StartInstances",
            "StopInstances",
            "RebootInstances",
            "TerminateInstances",
            "ModifyInstanceAttribute",
            "ModifyInstanceMetadataOptions",
            "AssociateIamInstanceProfile",
            "DisassociateIamInstanceProfile",
            "ReplaceIamInstanceProfileAssociation",
            "CreateTags",
            "DeleteTags",
            "CreateImage",
            "DeregisterImage",
            "CreateSnapshot",
            "DeleteSnapshot",
            "CreateVolume",
            "DeleteVolume",
            "AttachVolume",
            "DetachVolume",
            "CreateSecurityGroup",
            "DeleteSecurityGroup",
            "ModifySecurityGroupRules",
            "AuthorizeSecurityGroupIngress",
            "AuthorizeSecurityGroupEgress",
            "RevokeSecurityGroupIngress",
            "RevokeSecurityGroupEgress",
            "UpdateSecurityGroupRuleDescriptionsIngress",
            "UpdateSecurityGroupRuleDescriptionsEgress",
            "CreateKeyPair",
            "ImportKeyPair",
            "DeleteKeyPair",
            "CreateLaunchTemplate",
            "CreateLaunchTemplateVersion",
            "ModifyLaunchTemplate",
            "DeleteLaunchTemplate",
            "DeleteLaunchTemplateVersions",
            "CreateSubnet",
            "DeleteSubnet",
        ]
    ),
    "autoscaling": frozenset(
        [
            "CreateAutoScalingGroup",
            "UpdateAutoScalingGroup",
            "DeleteAutoScalingGroup",
            "SetDesiredCapacity",
            "SetInstanceHealth",
            "TerminateInstanceInAutoScalingGroup",
            "AttachLoadBalancerTargetGroups",
            "DetachLoadBalancerTargetGroups",
            "CreateOrUpdateTags",
            "DeleteTags",
            "PutScalingPolicy",
            "DeletePolicy",
            "EnableMetricsCollection",
            "DisableMetricsCollection",
            "SetInstanceProtection",
            "EnterStandby",
            "ExitStandby",
            "PutLifecycleHook",
            "DeleteLifecycleHook",
            "CompleteLifecycleAction",
            "RecordLifecycleActionHeartbeat",
            "SuspendProcesses",
            "ResumeProcesses",
            "StartInstanceRefresh",
            "CancelInstanceRefresh",
            "RollbackInstanceRefresh",
        ]
    ),
    "elbv2": frozenset(
        [
            "CreateLoadBalancer",
            "DeleteLoadBalancer",
            "ModifyLoadBalancerAttributes",
            "SetSecurityGroups",
            "CreateTargetGroup",
            "ModifyTargetGroup",
            "ModifyTargetGroupAttributes",
            "DeleteTargetGroup",
            "RegisterTargets",
            "DeregisterTargets",
            "CreateListener",
            "ModifyListener",
            "DeleteListener",
            "AddTags",
            "RemoveTags",
        ]
    ),
    "iam": frozenset(
        [
            "CreateRole",
            "UpdateRole",
            "UpdateRoleDescription",
            "UpdateAssumeRolePolicy",
            "DeleteRole",
            "TagRole",
            "UntagRole",
            "PutRolePolicy",
            "DeleteRolePolicy",
            "AttachRolePolicy",
            "DetachRolePolicy",
            "CreatePolicy",
            "CreatePolicyVersion",
            "SetDefaultPolicyVersion",
            "DeletePolicyVersion",
            "DeletePolicy",
            "TagPolicy",
            "UntagPolicy",
            "CreateInstanceProfile",
            "DeleteInstanceProfile",
            "AddRoleToInstanceProfile",
            "RemoveRoleFromInstanceProfile",
            "TagInstanceProfile",
            "UntagInstanceProfile",
            "CreateServiceLinkedRole",
            "DeleteServiceLinkedRole",
        ]
    ),
    "ssm": frozenset(
        ["PutParameter", "DeleteParameter", "DeleteParameters", "AddTagsToResource", "RemoveTagsFromResource"]
    ),
    "sts": frozenset(["AssumeRole"]),
    "cloudwatch": frozenset(["PutMetricAlarm", "DeleteAlarms", "TagResource", "UntagResource"]),
}


MADE_UP_ANSWERS: dict[str, frozenset[str]] = {
    "ec2": frozenset({"GetLaunchTemplateData", "GetPasswordData", "GetInstanceUefiData"}),
    "autoscaling": frozenset({"DescribeWarmPool"}),
}
"""Questions that moto answers with values of its own invention, or not at all."""


def is_modelled(service: str, action: str) -> bool:
    """Whether the local cloud answers the action truthfully."""
    if action in MADE_UP_ANSWERS.get(service, frozenset()):
        return False
    return action.startswith(QUESTIONS) or action in ACTIONS.get(service, frozenset())
