"""Which TCP ports of a host answer, seen from inside an instance.

The scanner is sent to the instance's own Python over SSH. It opens plain connections, so that it needs no
privileges and sees what a client sees; a port that is filtered shows as a connection that never comes about.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import InstanceTypeDef

    from endtoend.stack import Stack

SCANNER = r"""
import errno, json, random, resource, selectors, socket, sys, time

hosts, ports = json.loads(sys.argv[1]), range(1, 65536)
PATIENCE = 1.3  # a SYN that got lost is sent again after a second
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
WINDOW = min(12000, hard - 100)
todo = [(host, port) for host in hosts for port in ports]
random.shuffle(todo)
found = {host: [] for host in hosts}
failures = {}
selector = selectors.EpollSelector()
waiting = {}

def begin(target):
    connection = socket.socket()
    connection.setblocking(False)
    status = connection.connect_ex(target)
    if status == 0:
        found[target[0]].append(target[1])
        connection.close()
    elif status == errno.EINPROGRESS:
        selector.register(connection, selectors.EVENT_WRITE)
        waiting[connection] = (target, time.monotonic() + PATIENCE)
    else:
        failures[errno.errorcode.get(status, status)] = failures.get(errno.errorcode.get(status, status), 0) + 1
        connection.close()

def end(connection, target, happened):
    status = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) if happened else errno.ETIMEDOUT
    if status == 0:
        found[target[0]].append(target[1])
    else:
        name = errno.errorcode.get(status, str(status))
        failures[name] = failures.get(name, 0) + 1
    selector.unregister(connection)
    connection.close()
    del waiting[connection]

while todo or waiting:
    while todo and len(waiting) < WINDOW:
        begin(todo.pop())
    for key, _ in selector.select(0.05):
        end(key.fileobj, waiting[key.fileobj][0], True)
    now = time.monotonic()
    # Insertion order is the order of the deadlines.
    for connection, (target, deadline) in list(waiting.items()):
        if deadline > now:
            break
        end(connection, target, False)
print(json.dumps({"open": {host: sorted(set(open_ports)) for host, open_ports in found.items()}, "failures": failures}))
"""


def scan(stack: Stack, source: InstanceTypeDef, targets: dict[str, str]) -> dict[str, set[int]]:
    """Try every TCP port of some hosts from one instance.

    Args:
        stack: the stack.
        source: the instance to try from.
        targets: names of hosts and their addresses.

    Returns:
        The ports that accepted a connection, for each name.
    """
    argument = json.dumps(list(targets.values()))
    output = stack.ssh(source, "python3", "-", f"'{argument}'", script=SCANNER, timeout=300)
    answer = json.loads(output)
    return {name: set(answer["open"][address]) for name, address in targets.items()}
