"""Instances: their states change when the machine has followed, not before."""

from __future__ import annotations

import base64
import copy
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from moto.core.responses import ActionResult, EmptyResult
from moto.core.utils import utcnow
from moto.ec2.models.instances import Instance, InstanceState, StateReason

from localcloud.api.ec2 import instance_types, launching, user_data
from localcloud.api.ec2.service import SERVICE, backend
from localcloud.api.ec2.states import set_state
from localcloud.api.registry import AwsError, Call, unsupported
from localcloud.model import InstanceState as State

if TYPE_CHECKING:
    from localcloud.api import ControlPlane


_REMEMBERED = timedelta(hours=1)


def settle(plane: ControlPlane, instance_id: str, state: State, reason: str | None = None) -> None:
    """Record that the machine has followed: `running`, `stopped` or `terminated`.

    Args:
        plane: the cloud, its lock held.
        instance_id: the instance.
        state: where the machine says it is.
        reason: for `terminated`, why, when nobody asked for it.
    """
    instance = backend(plane).get_instance_by_id(instance_id)
    if instance is None or instance.state == state:
        return
    if state is State.TERMINATED:
        _release(plane, instance)
        _forget_old(plane)
        instance.terminated_at = utcnow()  # type: ignore[attr-defined]
        if reason:
            instance.state_reason = StateReason(reason, reason.partition(":")[0])
            instance._reason = reason
    if state is State.RUNNING:
        instance._reason = ""
        instance.state_reason = StateReason()
    set_state(instance, state)


def request_termination(plane: ControlPlane, instance: Instance, reason: str = "Client.UserInitiatedShutdown") -> None:
    """Begin to terminate: the machine is told by the state, addresses and volumes are freed when it is gone."""
    if instance.state in (State.TERMINATED, State.SHUTTING_DOWN):
        return
    set_state(instance, State.SHUTTING_DOWN)
    instance._reason = f"User initiated ({utcnow():%Y-%m-%d %H:%M:%S} GMT)"
    instance.state_reason = StateReason(f"{reason}: instance termination requested", reason)
    plane.reboots.discard(instance.id)


@SERVICE.action("RunInstances")
def run_instances(call: Call) -> ActionResult:
    """Launch through the one way there is; the same client token gives the same instances."""
    token = call.params.get("ClientToken")
    for known in backend(call.plane).reservations.values():
        if token and any(i.client_token == token for i in known.instances):
            return ActionResult(known)
    spec = launching.resolve(call.plane, call.params)
    call.response.error_on_dryrun()
    return ActionResult(launching.launch(call.plane, spec))


@SERVICE.action("TerminateInstances")
def terminate_instances(call: Call) -> ActionResult:
    """Begin to terminate; all or none, as AWS checks the whole request first."""
    instances = _named(call)
    for instance in instances:
        if instance.disable_api_termination:
            raise AwsError(
                "OperationNotPermitted",
                f"The instance '{instance.id}' may not be terminated. "
                "Modify its 'disableApiTermination' instance attribute and try again.",
            )
    call.response.error_on_dryrun()
    changes = []
    for instance in instances:
        previous = copy.copy(instance._state)
        request_termination(call.plane, instance)
        changes.append(_change(instance, previous))
    return ActionResult({"TerminatingInstances": changes})


@SERVICE.action("StopInstances")
def stop_instances(call: Call) -> ActionResult:
    """Begin to stop."""
    instances = _named(call)
    if call.params.get("Hibernate"):
        raise unsupported("hibernation (Hibernate)")
    for instance in instances:
        _need(instance, (State.RUNNING, State.STOPPING, State.STOPPED), "stopped")
        if instance.disable_api_stop:
            raise AwsError("OperationNotPermitted", f"The instance '{instance.id}' may not be stopped.")
    call.response.error_on_dryrun()
    changes = []
    for instance in instances:
        previous = copy.copy(instance._state)
        if instance.state == State.RUNNING:
            set_state(instance, State.STOPPING)
            instance._reason = f"User initiated ({utcnow():%Y-%m-%d %H:%M:%S} GMT)"
            code = "Client.UserInitiatedShutdown"
            instance.state_reason = StateReason(f"{code}: User initiated shutdown", code)
        changes.append(_change(instance, previous))
    return ActionResult({"StoppingInstances": changes})


@SERVICE.action("StartInstances")
def start_instances(call: Call) -> ActionResult:
    """Begin to start."""
    instances = _named(call)
    for instance in instances:
        _need(instance, (State.STOPPED, State.PENDING, State.RUNNING), "started")
    call.response.error_on_dryrun()
    changes = []
    for instance in instances:
        previous = copy.copy(instance._state)
        if instance.state == State.STOPPED:
            set_state(instance, State.PENDING)
            instance.launch_time = utcnow()
        changes.append(_change(instance, previous))
    return ActionResult({"StartingInstances": changes})


@SERVICE.action("RebootInstances")
def reboot_instances(call: Call) -> EmptyResult:
    """Ask for a reboot; the instance stays `running` for the API, as on AWS."""
    instances = _named(call)
    for instance in instances:
        _need(instance, (State.RUNNING, State.PENDING), "rebooted")
    call.response.error_on_dryrun()
    call.plane.reboots.update(i.id for i in instances if i.state == State.RUNNING)
    return EmptyResult()


@SERVICE.action("ModifyInstanceAttribute")
def modify_instance_attribute(call: Call) -> object:
    """Let through what has an effect; groups replace the interface's old ones as well."""
    params = call.params
    instance = _find(call.plane, params.get("InstanceId"))
    if params.get("SourceDestCheck") is not None or "sourceDestCheck" in str(params.get("Attribute")):
        raise unsupported("routing through instances (SourceDestCheck)")
    kind = (params.get("InstanceType") or {}).get("Value")
    if kind:
        instance_types.check(kind, instance.availability_zone)
    if (kind or params.get("UserData")) and instance.state != State.STOPPED:
        raise AwsError("IncorrectInstanceState", f"The instance '{instance.id}' is not in the 'stopped' state.")
    if value := (params.get("UserData") or {}).get("Value"):
        encoded = value.decode() if isinstance(value, bytes) else str(value)
        user_data.check(encoded)
    groups = params.get("Groups") or []
    records = backend(call.plane)
    for group_id in groups:
        if records.get_security_group_from_id(group_id) is None:
            raise AwsError("InvalidGroup.NotFound", f"The security group '{group_id}' does not exist")
    result = call.forward()
    if groups:
        instance.nics[0]._group_set = list(instance.security_groups)
    return result


@SERVICE.action("ModifyInstanceMetadataOptions")
def modify_metadata_options(call: Call) -> ActionResult:
    """Change what is given and leave the rest as it is: moto forgets the rest."""
    params = call.params
    call.refuse_parameters({"HttpProtocolIpv6": "IPv6"} if params.get("HttpProtocolIpv6") == "enabled" else {})
    instance = _find(call.plane, params.get("InstanceId"))
    options = instance.metadata_options
    for name, field in (
        ("HttpTokens", "http_tokens"),
        ("HttpPutResponseHopLimit", "http_put_response_hop_limit"),
        ("HttpEndpoint", "http_endpoint"),
        ("InstanceMetadataTags", "instance_metadata_tags"),
    ):
        if params.get(name) is not None:
            setattr(options, field, params[name])
    return ActionResult({"InstanceId": instance.id, "InstanceMetadataOptions": options})


@SERVICE.action("GetConsoleOutput")
def get_console_output(call: Call) -> ActionResult:
    """Return what the container's PID 1 wrote."""
    instance = _find(call.plane, call.params.get("InstanceId"))
    with call.plane.unlocked():
        text = call.plane.machine.console(instance.id)
    return ActionResult(
        {
            "InstanceId": instance.id,
            "Output": base64.b64encode(text[-65536:].encode()).decode(),
            "Timestamp": utcnow(),
        }
    )


@SERVICE.after("AssociateIamInstanceProfile", "ReplaceIamInstanceProfileAssociation")
def keep_profile_on_instance(call: Call) -> None:
    """Show the profile on the instance: moto forgets to when an association is replaced."""
    for instance_id, association in backend(call.plane).iam_instance_profile_associations.items():
        instance = backend(call.plane).get_instance_by_id(instance_id)
        if instance is not None:
            profile = association.iam_instance_profile
            instance.iam_instance_profile = {"Arn": profile.arn, "Id": profile.id}


def _find(plane: ControlPlane, instance_id: object) -> Instance:
    instance = backend(plane).get_instance_by_id(str(instance_id))
    if instance is None:
        raise AwsError("InvalidInstanceID.NotFound", f"The instance ID '{instance_id}' does not exist")
    return instance


def _named(call: Call) -> list[Instance]:
    ids = call.params.get("InstanceIds") or []
    if not ids:
        raise AwsError("MissingParameter", "The request must contain the parameter InstanceId")
    return [_find(call.plane, i) for i in ids]


def _need(instance: Instance, states: tuple[State, ...], verb: str) -> None:
    if instance.state not in states:
        raise AwsError(
            "IncorrectInstanceState",
            f"The instance '{instance.id}' is not in a state from which it can be {verb}.",
        )


def _change(instance: Instance, previous: InstanceState) -> dict[str, Any]:
    return {
        "InstanceId": instance.id,
        "CurrentState": {"Code": instance._state.code, "Name": instance._state.name},
        "PreviousState": {"Code": previous.code, "Name": previous.name},
    }


def _release(plane: ControlPlane, instance: Instance) -> None:
    """Free what a terminated instance held: interfaces with their addresses, volumes, the profile association."""
    records = backend(plane)
    for nic in instance.nics.values():
        records.enis.pop(nic.id, None)
        # Not `del_subnet_ip`, which would hand the address out again at once.
        nic.subnet._subnet_ips.pop(nic.private_ip_address, None)
    for device, block in list(instance.block_device_mapping.items()):
        records.detach_volume(block.volume_id, instance.id, device)
        if block.delete_on_termination:
            records.delete_volume(block.volume_id)
    association = records.iam_instance_profile_associations.pop(instance.id, None)
    if association is not None:
        instance.iam_instance_profile = None
    # Or else moto would free the address a second time when it forgets the instance.
    instance._private_ips.clear()


def _forget_old(plane: ControlPlane) -> None:
    """Drop what was terminated an hour ago (EC2 User Guide, "Terminate Amazon EC2 instances")."""
    records = backend(plane)
    for reservation in list(records.reservations.values()):
        reservation.instances = [
            i for i in reservation.instances if getattr(i, "terminated_at", utcnow()) > utcnow() - _REMEMBERED
        ]
        if not reservation.instances:
            del records.reservations[reservation.id]
