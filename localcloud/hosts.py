"""Instances as system containers: Debian with systemd, sshd and cloud-init, started like virtual machines."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from . import containers, images
from .engine import podman, prepare
from .model import ActualInstance, DesiredInstance, Firewall, InstanceState
from .network import Network, name_servers
from .settings import CloudSettings
from .volumes import Volumes

_INSTANCE_LABEL = "localcloud.instance"
_IMAGE_LABEL = "localcloud.image"
_ADDRESS_LABEL = "localcloud.address"
_REBOOT_EXIT = 129
"""The exit status of a container whose system called for a reboot: killed by SIGHUP (reboot(2), PID namespaces)."""

_ENDED = {"exited", "stopped"}
_NOT_YET_STARTED = {"created", "initialized"}
_TERMINATE_SECONDS = 30
_SSH_PORT = 22
_TCP_LISTEN = "0A"
_CONSOLE_BYTES = 64 * 1024
"""What GetConsoleOutput returns at most (EC2 API Reference)."""
_CONSOLES_KEPT = 50
"""Of how many instances that are gone. EC2 keeps them for an hour; the control plane forgets the instances then."""


class Hosts:
    """The instances of one cloud.

    Args:
        settings: the cloud's settings.
        network: its network, up.
        volumes: its volumes.
        running: told, after each look, the process id of every instance that runs, by its id.
    """

    def __init__(
        self,
        settings: CloudSettings,
        network: Network,
        volumes: Volumes,
        running: Callable[[dict[str, int]], None] = lambda _: None,
    ) -> None:
        self._settings = settings
        self._network = network
        self._volumes = volumes
        self._running = running
        self._processes: dict[str, int] = {}
        self._consoles: dict[str, str] = {}

    def container_name(self, instance_id: str) -> str:
        """The name of an instance's container."""
        return containers.name(self._settings, instance_id)

    def launch(self, instance: DesiredInstance, firewall: Firewall) -> None:
        """Make an instance and start it; its rules hold before its first packet.

        Args:
            instance: as the API describes it; volumes in it are not attached here.
            firewall: what it may receive and send.

        Raises:
            EngineError: it cannot be made; what there is of it goes with `terminate`.
        """
        prepare()
        instance_id = instance.instance_id
        image = images.reference(self._settings, instance.image_id)
        namespace = self._network.add_guest(instance_id, instance.private_ip, instance.mac)
        self._network.set_guest_firewall(instance_id, firewall)
        labels = {
            containers.CLOUD_LABEL: self._settings.name,
            _INSTANCE_LABEL: instance_id,
            _IMAGE_LABEL: instance.image_id,
            _ADDRESS_LABEL: instance.private_ip,
        }
        docker = self._docker_volume(instance_id)
        podman("volume", "create", f"--label={containers.CLOUD_LABEL}={self._settings.name}", docker)
        podman(
            "create",
            f"--name={self.container_name(instance_id)}",
            f"--hostname={instance.hostname}",
            f"--network=ns:{namespace}",
            *(f"--label={key}={value}" for key, value in labels.items()),
            "--privileged", "--systemd=always", "--tty", "--no-hosts",
            *(f"--dns={server}" for server in name_servers()),
            # Docker inside needs a real file system below its layers; images leave it out.
            f"--volume={docker}:/var/lib/docker",
            image,
        )  # fmt: skip
        containers.boot(self.container_name(instance_id), self._volumes.nodes(instance_id))

    def start(self, instance_id: str) -> None:
        """Start a stopped instance."""
        containers.boot(self.container_name(instance_id), self._volumes.nodes(instance_id))

    def stop(self, instance_id: str) -> None:
        """Shut an instance down; its disk, address and attachments stay."""
        containers.shut_down(self.container_name(instance_id))

    def reboot(self, instance_id: str) -> None:
        """Shut an instance down and start it."""
        self.stop(instance_id)
        self.start(instance_id)

    def terminate(self, instance_id: str) -> None:
        """Remove an instance with its disk and network, as far as they exist; its volumes are detached."""
        # As on EC2 it is told to shut down first: what it writes to its volumes then is kept, and its console's output.
        podman("stop", "--ignore", f"--time={_TERMINATE_SECONDS}", self.container_name(instance_id))
        self._keep_console(instance_id)
        podman("rm", "--force", "--ignore", "--time=0", self.container_name(instance_id))
        podman("volume", "rm", "--force", self._docker_volume(instance_id), check=False)
        self._volumes.release(instance_id)
        self._network.remove_guest(instance_id)
        self._processes.pop(instance_id, None)

    def actual(self) -> dict[str, ActualInstance]:
        """The instances there are, by id."""
        found = {}
        running = {}
        for entry in self._containers():
            labels = entry["Labels"]
            instance_id = labels[_INSTANCE_LABEL]
            if self.container_name(instance_id) not in entry["Names"]:
                # A container that an image is being made with has its instance's labels.
                continue
            state = entry["State"]
            if state == "running":
                self._processes[instance_id] = running[instance_id] = entry["Pid"]
            asks_for_reboot = state in _ENDED and entry["ExitCode"] == _REBOOT_EXIT
            found[instance_id] = ActualInstance(
                instance_id=instance_id,
                state=InstanceState.STOPPED if state in _ENDED and not asks_for_reboot else InstanceState.RUNNING,
                image_id=labels[_IMAGE_LABEL],
                private_ip=labels[_ADDRESS_LABEL],
                started_at=datetime.fromtimestamp(entry["StartedAt"], UTC) if state == "running" else None,
                devices=tuple(sorted(self._volumes.attached(instance_id))),
                needs_boot=asks_for_reboot or state in _NOT_YET_STARTED,
            )
        self._running(running)
        return found

    def is_up(self, instance_id: str) -> bool:
        """Whether an instance has booted far enough to take SSH connections."""
        process = self._processes.get(instance_id)
        if process is None or not Path(f"/proc/{process}").exists():
            process = containers.running_pid(self.container_name(instance_id))
            if process is None:
                return False
            self._processes[instance_id] = process
        return _listens(process, _SSH_PORT)

    def cpu_seconds(self, instance_id: str) -> float | None:
        """The CPU time an instance has used since it was started last, in seconds; None unless it runs."""
        process = self._processes.get(instance_id)
        return None if process is None else containers.cpu_seconds(process)

    def console(self, instance_id: str) -> str:
        """The last of what an instance wrote to its console, for a while also of one that is gone."""
        result = podman("logs", self.container_name(instance_id), check=False)
        return result.stdout[-_CONSOLE_BYTES:] if result.returncode == 0 else self._consoles.get(instance_id, "")

    def _keep_console(self, instance_id: str) -> None:
        text = self.console(instance_id)
        if text:
            self._consoles[instance_id] = text
        while len(self._consoles) > _CONSOLES_KEPT:
            del self._consoles[next(iter(self._consoles))]

    def down(self) -> None:
        """Remove all instances and the images made of them, found by their label, so after a crash as well."""
        label = f"--filter=label={containers.CLOUD_LABEL}={self._settings.name}"
        found = podman("ps", "--all", "--quiet", "--no-trunc", label).stdout.split()
        if found:
            podman("rm", "--force", "--time=0", *found)
        images.remove_all(self._settings)
        kept = podman("volume", "ls", "--quiet", label).stdout.split()
        if kept:
            podman("volume", "rm", "--force", *kept)

    def _docker_volume(self, instance_id: str) -> str:
        return f"{self.container_name(instance_id)}-docker"

    def _containers(self) -> list[dict[str, Any]]:
        label = f"--filter=label={containers.CLOUD_LABEL}={self._settings.name}"
        listed = podman("ps", "--all", "--format=json", label, f"--filter=label={_INSTANCE_LABEL}")
        return list(json.loads(listed.stdout or "[]"))


def _listens(process: int, port: int) -> bool:
    """Whether something listens on a TCP port in a process' network namespace (proc_pid_net(5))."""
    for table in ("tcp", "tcp6"):
        try:
            lines = Path(f"/proc/{process}/net/{table}").read_text(encoding="ascii").splitlines()[1:]
        except (FileNotFoundError, ProcessLookupError):
            return False
        for line in lines:
            _, local, _, state, *_ = line.split()
            if state == _TCP_LISTEN and int(local.rpartition(":")[2], 16) == port:
                return True
    return False
