"""EC2's instance states, as moto keeps them."""

from __future__ import annotations

import copy

from moto.ec2.models.instances import Instance
from moto.ec2.models.instances import InstanceState as Recorded

from localcloud.model import InstanceState

CODES = {
    InstanceState.PENDING: 0,
    InstanceState.RUNNING: 16,
    InstanceState.SHUTTING_DOWN: 32,
    InstanceState.TERMINATED: 48,
    InstanceState.STOPPING: 64,
    InstanceState.STOPPED: 80,
}
"""EC2 API Reference, "InstanceState"."""


def set_state(instance: Instance, state: InstanceState) -> Recorded:
    """Record a state.

    Returns:
        The one before it, as moto has it.
    """
    previous = copy.copy(instance._state)
    instance._state.name = state.value
    instance._state.code = CODES[state]
    return previous
