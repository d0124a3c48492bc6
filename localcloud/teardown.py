"""Removes everything a cloud has on this machine, from its name alone, so that it works after any crash."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from localcloud import balancer, engine, process
from localcloud.hosts import Hosts
from localcloud.hosts_file import HostsFile
from localcloud.network import Network
from localcloud.settings import RUN_ROOT, STATE_ROOT, CloudSettings
from localcloud.volumes import Volumes


def known_names() -> list[str]:
    """The clouds that have anything on this machine, running or left behind."""
    names = {path.name for root in (RUN_ROOT, STATE_ROOT) for path in root.glob("[a-z]*") if path.is_dir()}
    names |= {path.name.removeprefix("lc-") for path in Path("/sys/class/net").glob("lc-*")}
    return sorted(names)


def teardown(settings: CloudSettings) -> list[str]:
    """Remove everything a cloud has on this machine, from its name alone; nothing left is no error.

    Returns:
        What was removed, in words.

    Raises:
        EngineError: something would not go; the rest has been removed.
    """
    removed: list[str] = []
    problems: list[str] = []
    removed += [f"daemon {pid}" for pid in process.stop(settings)]

    @contextlib.contextmanager
    def guarded() -> Iterator[None]:
        try:
            yield
        except (engine.EngineError, OSError) as error:
            problems.append(str(error))

    with guarded():
        removed += balancer.remove_leftovers(settings)
    network = Network(settings)
    volumes = Volumes(settings)
    hosts = Hosts(settings, network, volumes)
    found: dict[str, Callable[[], int]] = {
        "instance(s)": lambda: len(hosts.actual()),
        "volume(s)": lambda: len(volumes.known()),
        "network namespace(s)": lambda: len(network.namespaces()),
        "bridge": lambda: int((Path("/sys/class/net") / settings.bridge).exists()),
    }
    for what, count in found.items():
        with guarded():
            removed += [f"{number} {what}"] if (number := count()) else []
    for part in (hosts, volumes, network):
        with guarded():
            part.down()
    with guarded():
        lines = HostsFile(settings).remove()
        removed += [f"{lines} line(s) of /etc/hosts"] if lines else []
    for directory in (settings.state_dir, settings.run_dir):
        with guarded():
            if directory.exists():
                shutil.rmtree(directory)
                removed.append(str(directory))
    with guarded():
        engine.release()
    if problems:
        raise engine.EngineError("not everything could be removed:\n" + "\n".join(problems))
    for root in (STATE_ROOT, RUN_ROOT):
        with contextlib.suppress(OSError):
            root.rmdir()
    return removed
