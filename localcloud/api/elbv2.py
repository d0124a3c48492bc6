"""Elastic Load Balancing: application load balancers that have an address, and targets' health as the probes saw it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from moto.core.responses import ActionResult, EmptyResult
from moto.elbv2.models import ELBv2Backend, FakeLoadBalancer, FakeTargetGroup, elbv2_backends
from moto.elbv2.responses import ELBV2Response

from localcloud.api import ec2
from localcloud.api.ec2 import network
from localcloud.api.registry import AwsError, Call, Service, unsupported
from localcloud.model import HealthState, TargetHealth
from localcloud.settings import ACCOUNT_ID

if TYPE_CHECKING:
    from localcloud.api import ControlPlane

SERVICE = Service("elbv2", ELBV2Response)

_NAME = re.compile(r"(?!internal-)(?!-)[A-Za-z0-9-]{1,32}(?<!-)")
_LOAD_BALANCER_ATTRIBUTES = {
    "idle_timeout.timeout_seconds": None,
    "deletion_protection.enabled": None,
    "access_logs.s3.enabled": "false",
    "access_logs.s3.bucket": "",
    "access_logs.s3.prefix": "",
    "load_balancing.cross_zone.enabled": "true",
    "routing.http2.enabled": None,
    "routing.http.drop_invalid_header_fields.enabled": "false",
    "routing.http.desync_mitigation_mode": "defensive",
    "routing.http.preserve_host_header.enabled": None,
    "routing.http.xff_client_port.enabled": "false",
    "routing.http.xff_header_processing.mode": "append",
    "routing.http.x_amzn_tls_version_and_cipher_suite.enabled": "false",
    "waf.fail_open.enabled": "false",
    "zonal_shift.config.enabled": "false",
    "client_keep_alive.seconds": None,
    "connection_logs.s3.enabled": "false",
}
"""Attributes that may be set, with the only value that changes nothing where the local cloud does not model them."""
_DEFAULT_ATTRIBUTES = {
    "access_logs.s3.enabled": "false",
    "client_keep_alive.seconds": "3600",
    "connection_logs.s3.enabled": "false",
    "idle_timeout.timeout_seconds": "60",
    "load_balancing.cross_zone.enabled": "true",
    "routing.http2.enabled": "true",
    "routing.http.desync_mitigation_mode": "defensive",
    "routing.http.drop_invalid_header_fields.enabled": "false",
    "routing.http.preserve_host_header.enabled": "false",
    "routing.http.x_amzn_tls_version_and_cipher_suite.enabled": "false",
    "routing.http.xff_client_port.enabled": "false",
    "routing.http.xff_header_processing.mode": "append",
    "waf.fail_open.enabled": "false",
    "zonal_shift.config.enabled": "false",
}
"""ELB User Guide, "Load balancer attributes": what a new application load balancer has; moto lists a third of them."""
_TARGET_GROUP_ATTRIBUTES = {
    "deregistration_delay.timeout_seconds": None,
    "stickiness.enabled": "false",
    "stickiness.type": None,
    "stickiness.lb_cookie.duration_seconds": None,
    "stickiness.app_cookie.duration_seconds": None,
    "stickiness.app_cookie.cookie_name": None,
    "load_balancing.algorithm.type": "round_robin",
    "load_balancing.algorithm.anomaly_mitigation": "off",
    "load_balancing.cross_zone.enabled": "use_load_balancer_configuration",
    "slow_start.duration_seconds": "0",
}


def backend(plane: ControlPlane) -> ELBv2Backend:
    """Return moto's records of the cloud's load balancers."""
    return elbv2_backends[ACCOUNT_ID][plane.settings.region]


def draining(group: FakeTargetGroup, now: float) -> dict[str, float]:
    """Return the targets whose deregistration delay still runs: `ID:PORT` to the monotonic time of its end."""
    ends: dict[str, float] = group.__dict__.setdefault("localcloud_draining", {})
    for key in [k for k, end in ends.items() if end <= now]:
        del ends[key]
    return ends


def end_drains(plane: ControlPlane) -> None:
    """Forget the targets that the load balancer has nothing under way with any more.

    ELB User Guide, "Deregistration delay": "If a deregistering target has no in-flight requests and no active
    connections, Elastic Load Balancing immediately completes the deregistration process".
    """
    for group in backend(plane).target_groups.values():
        ends = draining(group, plane.clock())
        known = plane.machine.target_health(group.arn) if ends else {}
        for key in [key for key in ends if key not in known]:
            del ends[key]


def is_draining(plane: ControlPlane, target_id: str) -> bool:
    """Whether the target still drains in any target group."""
    return any(
        key.rpartition(":")[0] == target_id
        for group in backend(plane).target_groups.values()
        for key in draining(group, plane.clock())
    )


def register(group: FakeTargetGroup, target_id: str, now: float, port: int | None = None) -> None:
    """Put a target into a target group; it is known already: nothing happens."""
    port = port or int(group.port)
    if target_id not in group.targets or int(group.targets[target_id]["Port"]) != port:
        group.targets[target_id] = {"Id": target_id, "Port": port}
    draining(group, now).pop(f"{target_id}:{port}", None)


def deregister(group: FakeTargetGroup, target_id: str, now: float) -> None:
    """Take a target out; it drains for the group's deregistration delay."""
    target = group.targets.pop(target_id, None)
    delay = float(str(group.attributes["deregistration_delay.timeout_seconds"]))
    if target is not None and delay > 0 and group.load_balancer_arns:
        draining(group, now)[f"{target_id}:{target['Port']}"] = now + delay


def deregister_everywhere(plane: ControlPlane, target_id: str) -> None:
    """Take a terminating instance out of all target groups, as ELB does on its own."""
    for group in backend(plane).target_groups.values():
        deregister(group, target_id, plane.clock())


@SERVICE.check("CreateLoadBalancer")
def check_load_balancer(call: Call) -> None:
    """Refuse kinds that are not modelled, names and subnets that AWS refuses (API Reference, "CreateLoadBalancer")."""
    params = call.params
    call.refuse_parameters({"CustomerOwnedIpv4Pool": "address pools", "IpamPools": "address pools"})
    if params.get("Type") not in (None, "application"):
        raise unsupported(f"{params['Type']} load balancers (Type)")
    if params.get("IpAddressType") not in (None, "ipv4"):
        raise unsupported(f"{params['IpAddressType']} load balancers (IpAddressType)")
    name = str(params.get("Name") or "")
    if not _NAME.fullmatch(name):
        raise AwsError(
            "ValidationError",
            f"The load balancer name '{name}' must be at most 32 letters, digits and hyphens, "
            "not begin or end with a hyphen, and not begin with 'internal-'",
        )
    if any(balancer.name == name for balancer in backend(call.plane).load_balancers.values()):
        raise AwsError("DuplicateLoadBalancerName", f"A load balancer with the same name '{name}' exists")
    wanted = [*(params.get("Subnets") or []), *(m.get("SubnetId") for m in params.get("SubnetMappings") or [])]
    known = {subnet.id: subnet for subnet in ec2.backend(call.plane).describe_subnets()}
    for subnet_id in wanted:
        if subnet_id not in known:
            raise AwsError("SubnetNotFound", f"The subnet ID '{subnet_id}' does not exist")
    zones = [known[subnet_id].availability_zone for subnet_id in wanted]
    if len(set(zones)) < 2:
        raise AwsError("ValidationError", "At least two subnets in two different Availability Zones must be specified")
    if len(set(zones)) < len(zones):
        raise AwsError(
            "InvalidConfigurationRequest",
            "A load balancer cannot be attached to multiple subnets in the same Availability Zone",
        )
    _check_groups(call, params.get("SecurityGroups") or [])


@SERVICE.action("CreateLoadBalancer")
def create_load_balancer(call: Call) -> object:
    """Give the load balancer an address in its first subnet, a name that resolves here, and the default group."""
    known = set(backend(call.plane).load_balancers)
    result = call.forward()
    (arn,) = set(backend(call.plane).load_balancers) - known
    balancer = backend(call.plane).load_balancers[arn]
    settings = call.plane.settings
    digits = int(arn.rpartition("/")[2], 16) % 10**10
    balancer.dns_name = f"{balancer.name}-{digits:010d}.{settings.region}.{settings.domain}"
    balancer.localcloud_address = network.take_address(balancer.subnets[0])  # type: ignore[attr-defined]
    balancer.attrs.update(_DEFAULT_ATTRIBUTES)
    balancer.state = "active"
    if not balancer.security_groups:
        default = ec2.backend(call.plane).get_default_security_group(balancer.vpc_id)
        balancer.security_groups = [default.id] if default else []
    return result


@SERVICE.action("DeleteLoadBalancer")
def delete_load_balancer(call: Call) -> EmptyResult:
    """Free the address, and let go of the target groups; deletion protection is obeyed."""
    arn = str(call.params.get("LoadBalancerArn") or "")
    balancer = backend(call.plane).load_balancers.get(arn)
    if balancer is None:
        return EmptyResult()
    if str(balancer.attrs.get("deletion_protection.enabled")).lower() == "true":
        raise AwsError(
            "OperationNotPermitted", f"Load balancer '{arn}' cannot be deleted because deletion protection is enabled"
        )
    backend(call.plane).delete_load_balancer(arn)
    for group in backend(call.plane).target_groups.values():
        group.load_balancer_arns = [a for a in group.load_balancer_arns if a != arn]
    balancer.subnets[0]._subnet_ips.pop(address_of(balancer), None)
    return EmptyResult()


@SERVICE.check("SetSecurityGroups")
def check_security_groups(call: Call) -> None:
    """Refuse groups that are not there."""
    _check_groups(call, call.params.get("SecurityGroups") or [])


@SERVICE.check("ModifyLoadBalancerAttributes")
def check_load_balancer_attributes(call: Call) -> None:
    """Refuse attributes that would be accepted and do nothing."""
    _check_attributes(call, _LOAD_BALANCER_ATTRIBUTES)


@SERVICE.check("ModifyTargetGroupAttributes")
def check_target_group_attributes(call: Call) -> None:
    """Refuse attributes that would be accepted and do nothing."""
    _check_attributes(call, _TARGET_GROUP_ATTRIBUTES)


@SERVICE.check("CreateTargetGroup")
def check_target_group(call: Call) -> None:
    """Refuse kinds that are not modelled."""
    params = call.params
    if params.get("TargetType") not in (None, "instance", "ip"):
        raise unsupported(f"target groups of {params['TargetType']} targets (TargetType)")
    if params.get("Protocol") not in (None, "HTTP"):
        raise unsupported(f"target groups that speak {params['Protocol']} (Protocol)")
    if params.get("HealthCheckProtocol") not in (None, "HTTP"):
        raise unsupported(f"health checks that speak {params['HealthCheckProtocol']} (HealthCheckProtocol)")
    if params.get("ProtocolVersion") not in (None, "HTTP1"):
        raise unsupported(f"{params['ProtocolVersion']} to targets (ProtocolVersion)")
    if params.get("HealthCheckEnabled") is False:
        raise AwsError(
            "ValidationError", "Health check enabled must be true for target groups with target type 'instance'"
        )
    _check_health_check(params, 30, 5)


@SERVICE.check("ModifyTargetGroup")
def check_target_group_change(call: Call) -> None:
    """Refuse health checks that AWS refuses."""
    group = _target_group(call)
    if call.params.get("HealthCheckProtocol") not in (None, "HTTP"):
        raise unsupported(f"health checks that speak {call.params['HealthCheckProtocol']} (HealthCheckProtocol)")
    _check_health_check(call.params, int(group.health_check_interval_seconds), int(group.health_check_timeout_seconds))


@SERVICE.check("DeleteTargetGroup")
def check_target_group_unused(call: Call) -> None:
    """Refuse while a listener forwards to it, in AWS's words (API Reference, "DeleteTargetGroup")."""
    group = _target_group(call)
    if backend(call.plane)._any_listener_using(group.arn):
        raise AwsError("ResourceInUse", f"Target group '{group.arn}' is currently in use by a listener or a rule")


@SERVICE.check("CreateListener", "ModifyListener")
def check_listener(call: Call) -> None:
    """Let through plain HTTP that forwards to one target group or answers a fixed response."""
    params = call.params
    call.refuse_parameters({"Certificates": "TLS on load balancers", "MutualAuthentication": "mutual TLS"})
    if params.get("Protocol") not in (None, "HTTP"):
        raise unsupported(f"{params['Protocol']} listeners (Protocol)")
    for action in params.get("DefaultActions") or []:
        if action.get("Type") == "forward":
            groups = (action.get("ForwardConfig") or {}).get("TargetGroups") or []
            arns = {g.get("TargetGroupArn") for g in groups} | {action.get("TargetGroupArn")} - {None}
            if len(arns - {None}) != 1:
                raise unsupported("forwarding to several target groups (ForwardConfig)")
            for arn in arns - {None}:
                if arn not in backend(call.plane).target_groups:
                    raise AwsError("TargetGroupNotFound", f"Target groups '{arn}' not found")
        elif action.get("Type") != "fixed-response":
            raise unsupported(f"the listener action {action.get('Type')!r} (DefaultActions)")
    if call.action == "CreateListener":
        arn, port = params.get("LoadBalancerArn"), int(params.get("Port") or 0)
        balancer = backend(call.plane).load_balancers.get(str(arn))
        if balancer is not None and any(int(listener.port) == port for listener in balancer.listeners.values()):
            raise AwsError(
                "DuplicateListener", f"A listener already exists on this port for this load balancer '{arn}'"
            )


@SERVICE.after("ModifyListener", "DeleteListener")
def follow_listeners(call: Call) -> None:
    """Show at the target groups which load balancers use them: moto forgets to when a listener changes."""
    records = backend(call.plane)
    for group in records.target_groups.values():
        group.load_balancer_arns = [
            balancer.arn
            for balancer in records.load_balancers.values()
            if any(forwards_to(listener.default_actions) == group.arn for listener in balancer.listeners.values())
        ]


@SERVICE.action("RegisterTargets")
def register_targets(call: Call) -> EmptyResult:
    """Register instances that run, or addresses of the VPC (API Reference, "RegisterTargets")."""
    group = _target_group(call)
    targets = call.params.get("Targets") or []
    for target in targets:
        target_id = str(target.get("Id"))
        if group.target_type == "instance":
            instance = ec2.backend(call.plane).get_instance_by_id(target_id)
            if instance is None:
                raise AwsError("InvalidTarget", f"The following targets are not valid instances: '{target_id}'")
            if instance.state != "running":
                raise AwsError(
                    "InvalidTarget",
                    f"The following targets are not in a running state and cannot be registered: '{target_id}'",
                )
        known = group.targets.get(target_id)
        if known and target.get("Port") and int(known["Port"]) != int(target["Port"]):
            raise unsupported("one target with several ports in a group (Port)")
    for target in targets:
        port = int(target["Port"]) if target.get("Port") else None
        register(group, str(target["Id"]), call.plane.clock(), port)
    return EmptyResult()


@SERVICE.action("DeregisterTargets")
def deregister_targets(call: Call) -> EmptyResult:
    """Begin to drain."""
    group = _target_group(call)
    for target in call.params.get("Targets") or []:
        deregister(group, str(target.get("Id")), call.plane.clock())
    return EmptyResult()


@SERVICE.action("DescribeTargetHealth")
def describe_target_health(call: Call) -> ActionResult:
    """Say what the probes saw (ELB User Guide, "Health checks for Application Load Balancer target groups")."""
    group = _target_group(call)
    listed = [(t["Id"], int(t["Port"])) for t in group.targets.values()]
    listed += [(key.rpartition(":")[0], int(key.rpartition(":")[2])) for key in draining(group, call.plane.clock())]
    if asked := call.params.get("Targets"):
        listed = [(str(t.get("Id")), int(t.get("Port") or group.port)) for t in asked]
    seen = call.plane.machine.target_health(group.arn)
    descriptions = []
    for target_id, port in listed:
        health = _health(call.plane, group, target_id, port, seen)
        check_port = port if group.health_check_port in (None, "traffic-port") else group.health_check_port
        descriptions.append(
            {
                "Target": {"Id": target_id, "Port": port},
                "HealthCheckPort": str(check_port),
                "TargetHealth": {
                    "State": health.state.value,
                    "Reason": health.reason,
                    "Description": health.description,
                },
            }
        )
    return ActionResult({"TargetHealthDescriptions": descriptions})


def address_of(balancer: FakeLoadBalancer) -> str:
    """Return the address the load balancer serves on."""
    return str(balancer.localcloud_address)  # type: ignore[attr-defined]


def forwards_to(actions: list[Any]) -> str | None:
    """Return the target group of a listener's default actions."""
    for action in actions:
        if action.type == "forward":
            groups = (action.data.get("ForwardConfig") or {}).get("TargetGroups") or []
            found = action.data.get("TargetGroupArn") or (groups[0].get("TargetGroupArn") if groups else None)
            return str(found) if found else None
    return None


def _health(
    plane: ControlPlane, group: FakeTargetGroup, target_id: str, port: int, seen: dict[str, TargetHealth]
) -> TargetHealth:
    key = f"{target_id}:{port}"
    if key in draining(group, plane.clock()):
        return TargetHealth(
            HealthState.DRAINING, "Target.DeregistrationInProgress", "Target deregistration is in progress"
        )
    known = group.targets.get(target_id)
    if known is None or int(known["Port"]) != port:
        return TargetHealth(HealthState.UNUSED, "Target.NotRegistered", "Target is not registered to the target group")
    if not group.load_balancer_arns:
        return TargetHealth(
            HealthState.UNUSED,
            "Target.NotInUse",
            "Target group is not configured to receive traffic from the load balancer",
        )
    instance = ec2.backend(plane).get_instance_by_id(target_id)
    if instance is not None:
        if instance.state != "running":
            return TargetHealth(HealthState.UNUSED, "Target.InvalidState", f"Target is in the {instance.state} state")
        balancers = (backend(plane).load_balancers.get(arn) for arn in group.load_balancer_arns)
        zones = {subnet.availability_zone for balancer in balancers if balancer for subnet in balancer.subnets}
        if instance.availability_zone not in zones:
            return TargetHealth(
                HealthState.UNUSED,
                "Target.NotInUse",
                "Target is in an Availability Zone that is not enabled for the load balancer",
            )
    return seen.get(key) or TargetHealth(
        HealthState.INITIAL, "Elb.RegistrationInProgress", "Target registration is in progress"
    )


def _target_group(call: Call) -> FakeTargetGroup:
    arn = str(call.params.get("TargetGroupArn") or "")
    group = backend(call.plane).target_groups.get(arn)
    if group is None:
        raise AwsError("TargetGroupNotFound", f"Target groups '{arn}' not found")
    return group


def _check_groups(call: Call, group_ids: list[str]) -> None:
    for group_id in group_ids:
        if ec2.backend(call.plane).get_security_group_from_id(group_id) is None:
            raise AwsError("InvalidSecurityGroup", f"Security group '{group_id}' does not exist")


def _check_attributes(call: Call, modelled: dict[str, str | None]) -> None:
    for attribute in call.params.get("Attributes") or []:
        key, value = str(attribute.get("Key")), str(attribute.get("Value") or "")
        if key not in modelled:
            raise unsupported(f"the attribute {key}")
        only = modelled[key]
        if only is not None and value.lower() != only:
            raise unsupported(f"{value!r} for the attribute {key}")


def _check_health_check(params: dict[str, Any], interval: int, timeout: int) -> None:
    interval = int(params.get("HealthCheckIntervalSeconds") or interval)
    timeout = int(params.get("HealthCheckTimeoutSeconds") or timeout)
    if not 5 <= interval <= 300:
        raise AwsError("ValidationError", f"Health check interval '{interval}' must be between 5 and 300 seconds")
    if not 2 <= timeout <= 120:
        raise AwsError("ValidationError", f"Health check timeout '{timeout}' must be between 2 and 120 seconds")
    if timeout >= interval:
        raise AwsError(
            "ValidationError", f"Health check interval '{interval}' must be greater than the timeout '{timeout}'."
        )
    for name in ("HealthyThresholdCount", "UnhealthyThresholdCount"):
        if params.get(name) is not None and not 2 <= int(params[name]) <= 10:
            raise AwsError("ValidationError", f"{name} '{params[name]}' must be between 2 and 10")
