"""The one background process of a local cloud: it holds the API, the loop and everything the loop drives.

Its state is in memory (moto's); what lies on the machine is removed by `teardown`.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import logging.handlers
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from localcloud import balancer, engine, images
from localcloud.api import ControlPlane, MachineError
from localcloud.deaths import DeathWatch
from localcloud.groups import Groups
from localcloud.hosts import Hosts
from localcloud.hosts_file import HostsFile
from localcloud.jobs import Jobs
from localcloud.metadata import MetadataServer
from localcloud.model import TargetHealth
from localcloud.monitoring import Monitor
from localcloud.naver import NaverStandIn
from localcloud.network import Network
from localcloud.process import DaemonError, Files
from localcloud.reconcile import Parts, Reconciler
from localcloud.settings import CloudSettings
from localcloud.state import State
from localcloud.volumes import Volumes

logger = logging.getLogger(__name__)

LOG_BYTES = 4 * 1024 * 1024
LOG_FILES = 3

_BEAT_EVERY = 2.0


def serve(settings: CloudSettings) -> int:
    """Be the daemon until SIGTERM or SIGINT.

    Returns:
        The exit status.
    """
    files = Files.of(settings)
    with files.pid.open("a+", encoding="ascii") as pid_file:
        try:
            fcntl.flock(pid_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DaemonError(f"the cloud {settings.name!r} has a daemon already") from None
        pid_file.truncate(0)
        pid_file.write(f"{os.getpid()}\n")
        pid_file.flush()
        _log_to(files.log)
        stopping = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stopping.set())
        logger.info("cloud %s starts: %s, API %s", settings.name, settings.cidr, settings.api_url)
        try:
            with Cloud(settings, files):
                while not stopping.wait(60):
                    _bound(files.output)
        except Exception as error:  # the end of the process: said in the log and to whoever waits for it
            logger.exception("the daemon cannot go on")
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
            return 1
        logger.info("cloud %s has stopped", settings.name)
    return 0


class Cloud:
    """All parts of a running cloud, as a context: started in order, stopped in the opposite one.

    Args:
        settings: of the cloud.
        files: where the status goes.
    """

    def __init__(self, settings: CloudSettings, files: Files) -> None:
        self._settings = settings
        self._files = files
        self._stack = contextlib.ExitStack()
        self._last_beat = 0.0
        self._started = time.time()
        self._reconciler: Reconciler | None = None
        self._balancer: balancer.Balancer | None = None

    def __enter__(self) -> Cloud:
        """Start everything."""
        settings = self._settings
        with contextlib.ExitStack() as stack:
            engine.prepare()
            base = images.ensure_base(logger.info)
            network = Network(settings)
            network.up()
            volumes = Volumes(settings)
            wake = threading.Event()
            balancer_ = balancer.Balancer(settings, network, changed=wake.set)
            deaths = DeathWatch(self._died, balancer_.restore)
            hosts = Hosts(settings, network, volumes, deaths.keep)
            machine = LocalMachine(settings, hosts, volumes, balancer_)
            plane = ControlPlane(settings, base, machine)
            state = State(plane)
            groups = Groups(plane, state, balancer_.health)
            monitor = Monitor(plane, hosts.cpu_seconds)
            parts = Parts(state, groups, hosts, network, volumes, balancer_, HostsFile(settings), monitor)
            reconciler = Reconciler(plane.lock, parts, beat=self._beat, wake=wake)
            machine.jobs = reconciler.jobs
            self._reconciler, self._balancer = reconciler, balancer_
            metadata = MetadataServer(settings, state.by_ip, state.instance_credentials)
            naver = NaverStandIn(settings.gateway, settings.naver_port)
            for part in (balancer_, deaths, metadata, naver, plane, reconciler):
                part.start()
                stack.callback(part.stop)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop everything; containers and networks are left to `teardown`."""
        self._stack.close()

    def _died(self, instance_id: str) -> None:
        """Act on a death: first so that nobody is sent there any more, then so that it is looked at."""
        logger.info("%s has died", instance_id)
        try:
            if self._balancer is not None:
                self._balancer.withdraw(instance_id)
        finally:
            if self._reconciler is not None:
                self._reconciler.look_now()

    def _beat(self) -> None:
        """Write the status file, at most every two seconds."""
        reconciler = self._reconciler
        now = time.monotonic()
        if reconciler is None or (now - self._last_beat < _BEAT_EVERY and reconciler.passes > 1):
            return
        self._last_beat = now
        status = {
            "pid": os.getpid(),
            "started": self._started,
            "beat": time.time(),
            "passes": max(reconciler.passes, 1),
            "slowest_pass_seconds": round(reconciler.slowest, 3),
            "busy": sorted(reconciler.jobs.busy),
            "troubles": [
                {"at": trouble.at.isoformat(timespec="seconds"), "where": trouble.where, "text": trouble.text}
                for trouble in reconciler.troubles
            ],
        }
        written = self._files.status.with_suffix(".new")
        written.write_text(json.dumps(status) + "\n", encoding="utf-8")
        written.replace(self._files.status)


class LocalMachine:
    """What API calls wait for, made of the machine's parts.

    Args:
        settings: of the cloud.
        hosts: the containers.
        volumes: the block devices.
        balancer_: knows the targets' health.
    """

    def __init__(self, settings: CloudSettings, hosts: Hosts, volumes: Volumes, balancer_: balancer.Balancer) -> None:
        self._settings = settings
        self._hosts = hosts
        self._volumes = volumes
        self._balancer = balancer_
        self.jobs: Jobs | None = None

    def commit_image(self, instance_id: str, image_id: str, *, stop: bool) -> None:
        """Make an image of an instance's root disk."""
        with _as_machine_error(), self._alone(instance_id):
            images.commit(self._settings, instance_id, image_id, stop=stop)

    def remove_image(self, image_id: str) -> None:
        """Forget a committed image."""
        with _as_machine_error():
            images.remove(self._settings, image_id)

    def create_snapshot(self, snapshot_id: str, volume_id: str) -> None:
        """Copy a volume's content."""
        with _as_machine_error():
            self._volumes.snapshot(snapshot_id, volume_id)

    def remove_snapshot(self, snapshot_id: str) -> None:
        """Forget a snapshot's content."""
        with _as_machine_error():
            self._volumes.delete_snapshot(snapshot_id)

    def target_health(self, target_group_arn: str) -> dict[str, TargetHealth]:
        """What the probes saw."""
        return self._balancer.health(target_group_arn)

    def console(self, instance_id: str) -> str:
        """What the instance wrote to its console."""
        with _as_machine_error():
            return self._hosts.console(instance_id)

    def _alone(self, instance_id: str) -> contextlib.AbstractContextManager[None]:
        return self.jobs.exclusive(instance_id) if self.jobs else contextlib.nullcontext()


@contextlib.contextmanager
def _as_machine_error() -> Iterator[None]:
    try:
        yield
    except (engine.EngineError, OSError) as error:
        raise MachineError(str(error)) from error


def _log_to(path: Path) -> None:
    handler = logging.handlers.RotatingFileHandler(
        path, maxBytes=LOG_BYTES, backupCount=LOG_FILES - 1, encoding="utf-8"
    )
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    for chatty in ("botocore", "werkzeug", "urllib3"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def _bound(path: Path) -> None:
    """Keep a file that programs append to from growing without end."""
    if path.stat().st_size > LOG_BYTES:
        os.truncate(path, 0)
