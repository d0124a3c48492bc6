"""`localcloud up | down | status | logs | ssh INSTANCE | images`."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from localcloud import containers, engine, preflight, process, teardown
from localcloud.settings import CloudSettings, SettingsError

DEFAULT_IDENTITY = Path(".memo-server/id_ed25519")
"""Where site.yml keeps the project's key pair, relative to the checkout."""

_DEFAULT_USER = "admin"
_KEPT_ENVIRONMENT = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE")


class CommandError(Exception):
    """A command cannot do what it is asked; the text names the fix."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: the command line; None for that of the process.

    Returns:
        The exit status.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    options = _parser().parse_args(words)
    if options.root and os.geteuid() != 0:
        return _as_root(words)
    for number in (signal.SIGTERM, signal.SIGHUP):
        # As Ctrl-C does: what was begun is removed. What nohup ignores stays ignored.
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)
    try:
        return int(options.run(options))
    except (CommandError, SettingsError, preflight.PreflightError, process.DaemonError, engine.EngineError) as error:
        print(f"localcloud: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nlocalcloud: interrupted; `localcloud down` removes what was begun", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="localcloud", description="AWS on one machine.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(
        name: str, run: Callable[[argparse.Namespace], int], text: str, root: bool = True
    ) -> argparse.ArgumentParser:
        one = commands.add_parser(name, help=text, description=text)
        one.add_argument("--name", default=CloudSettings.name, help="which cloud (default: %(default)s)")
        one.set_defaults(run=run, root=root)
        return one

    up = command("up", _up, "Start a cloud; does nothing when it is up already.")
    up.add_argument("--cidr", default=CloudSettings.cidr, help="its network, a private /16 (default: %(default)s)")
    up.add_argument("--region", default=CloudSettings.region, help="default: %(default)s")
    for port in ("api", "naver", "metadata"):
        default = getattr(CloudSettings, f"{port}_port")
        up.add_argument(f"--{port}-port", type=int, default=default, help="default: %(default)s")
    up.add_argument(
        "--metric-period",
        type=int,
        default=CloudSettings.metric_period,
        metavar="SECONDS",
        help="what stands for CloudWatch's minute; less makes scaling by load quicker (default: %(default)s)",
    )
    down = command("down", _down, "End a cloud and remove everything it has on this machine; the image caches stay.")
    down.add_argument("--all", action="store_true", help="every cloud")
    status = command("status", _status, "What there is and how it is.", root=False)
    status.add_argument("--json", action="store_true", help="as JSON")
    logs = command("logs", _logs, "The daemon's log.", root=False)
    logs.add_argument("--follow", "-f", action="store_true", help="go on until interrupted")
    logs.add_argument("--lines", "-n", type=int, default=200, help="how many (default: %(default)s)")
    ssh = command("ssh", _ssh, "A shell on an instance, or one command there.", root=False)
    ssh.add_argument("--identity", type=Path, help=f"private key (default: {DEFAULT_IDENTITY} of the checkout)")
    ssh.add_argument("--user", default=_DEFAULT_USER, help="default: %(default)s")
    ssh.add_argument("instance", metavar="INSTANCE", help="id, Name tag or private address")
    ssh.add_argument("command", nargs=argparse.REMAINDER, help="what to run there instead of a shell")
    command("images", _images, "Make the cached images (base image, MySQL, Redis) without starting a cloud.")
    daemon = commands.add_parser("daemon")
    daemon.add_argument("--name", required=True)
    daemon.set_defaults(run=_daemon, root=True)
    return parser


def _as_root(words: Sequence[str]) -> int:
    if shutil.which("sudo") is None:
        print("localcloud: this needs root and there is no sudo here; run it as root", file=sys.stderr)
        return 1
    print("localcloud needs root for containers and networks: running it through sudo", file=sys.stderr)
    kept = [f"{name}={os.environ[name]}" for name in _KEPT_ENVIRONMENT if name in os.environ]
    root = Path(__file__).resolve().parent.parent
    command = ["sudo", "env", *kept, f"PYTHONPATH={root}", sys.executable, "-m", "localcloud", *words]
    return subprocess.run(command, check=False).returncode


class _Progress:
    """Prints what is being done with the seconds since the command began."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def __call__(self, text: str) -> None:
        print(f"[{self.seconds:4.0f} s] {text}", flush=True)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began


def _up(options: argparse.Namespace) -> int:
    progress = _Progress()
    settings = CloudSettings(
        options.name,
        options.cidr,
        options.region,
        options.api_port,
        options.naver_port,
        options.metadata_port,
        options.metric_period,
    )
    if process.running_pid(settings) is not None:
        running = CloudSettings.load(settings.name)
        if running != settings:
            raise CommandError(
                f"the cloud {settings.name!r} is up with other settings ({running.cidr}, API port {running.api_port}, "
                f"Naver port {running.naver_port}, {running.region}, metrics every {running.metric_period} s); "
                "end it first (localcloud down --name "
                f"{settings.name}) or give this one another --name"
            )
        if process.is_stale(settings):
            raise CommandError(
                f"the cloud {settings.name!r} is up but its daemon hangs (see: localcloud logs); "
                "end it with localcloud down and start it again"
            )
        print(f"the cloud {settings.name!r} is up already: {settings.api_url}")
        return 0
    preflight.check_machine()
    with _alone(settings.name):
        for what in teardown.teardown(settings):
            progress(f"removed what an earlier run left behind: {what}")
        preflight.check_network(settings)
        _ensure_images(progress)
        progress("starting the daemon")
        with contextlib.ExitStack() as undo:
            undo.callback(teardown.teardown, settings)
            process.spawn(settings, progress)
            undo.pop_all()
    progress(f"the cloud {settings.name!r} is up: API {settings.api_url}, Naver stand-in {settings.naver_url}")
    return 0


def _ensure_images(progress: Callable[[str], None]) -> None:
    from localcloud import images

    base = images.ensure_base(progress)
    progress(f"base image {base.name} ({base.ami_id})")
    for archive in images.ensure_database_archives(progress):
        progress(f"database image {archive}")


def _down(options: argparse.Namespace) -> int:
    names = teardown.known_names() if options.all else [options.name]
    for name in names:
        with _alone(name):
            removed = teardown.teardown(_settings_of(name))
        print(f"cloud {name}: " + ("removed " + ", ".join(removed) if removed else "there was nothing to remove"))
    if not names:
        print("there is no cloud")
    return 0


@contextlib.contextmanager
def _alone(name: str) -> Iterator[None]:
    """Hold the right to start or end a cloud; given back by the kernel, however the command ends.

    Args:
        name: of the cloud.

    Raises:
        CommandError: another command has it.
    """
    # An abstract socket leaves nothing behind (unix(7)).
    with socket.socket(socket.AF_UNIX) as held:
        try:
            held.bind(f"\0localcloud-{name}")
        except OSError as error:
            raise CommandError(
                f"another command is starting or ending the cloud {name!r} right now; wait until it is done"
            ) from error
        yield


def _settings_of(name: str) -> CloudSettings:
    """The saved settings, or the defaults: what is on the machine is named after the cloud alone."""
    try:
        return CloudSettings.load(name)
    except (SettingsError, ValueError, TypeError):
        return CloudSettings(name=name)


def _status(options: argparse.Namespace) -> int:
    from botocore.exceptions import BotoCoreError, ClientError

    from localcloud import view

    settings = CloudSettings.load(options.name)
    try:
        data = view.collect(settings)
    except (BotoCoreError, ClientError) as error:
        if process.running_pid(settings) is None:
            raise CommandError(
                f"the cloud {settings.name!r} has crashed (see: localcloud logs); "
                "localcloud up cleans up and starts anew, localcloud down only cleans up"
            ) from error
        raise CommandError(f"the API at {settings.api_url} does not answer: {error}; see: localcloud logs") from error
    print(json.dumps(data, indent=2, ensure_ascii=False) if options.json else view.table(data))
    return 0 if data["daemon"]["running"] and not data["daemon"]["stale"] else 1


def _logs(options: argparse.Namespace) -> int:
    log = process.Files.of(CloudSettings.load(options.name)).log
    if not log.exists():
        raise CommandError(f"the cloud {options.name!r} has no log yet")
    command = ["tail", f"--lines={options.lines}", *(["--follow=name", "--retry"] if options.follow else []), str(log)]
    return subprocess.run(command, check=False).returncode


def _ssh(options: argparse.Namespace) -> int:
    from localcloud import view

    settings = CloudSettings.load(options.name)
    instance = _find_instance(view.collect(settings)["instances"], options.instance)
    checkout = Path(__file__).resolve().parent.parent
    identity = options.identity or checkout / DEFAULT_IDENTITY
    if not identity.is_file():
        if options.identity is not None:
            raise CommandError(f"there is no key {identity}; without --identity the console is used")
        print(f"no key at {identity}: using the instance's console as root instead of SSH", file=sys.stderr)
        if os.geteuid() != 0:
            return _as_root(["ssh", "--name", settings.name, instance["id"], *options.command])
        return _console(settings, instance["id"], options.command)
    known_hosts = identity.parent / "known_hosts"
    command = ["ssh", "-i", str(identity), "-o", "IdentitiesOnly=yes", "-o", "StrictHostKeyChecking=accept-new"]
    command += ["-o", f"UserKnownHostsFile={known_hosts}", "-o", f"HostKeyAlias={instance['id']}"]
    command += [f"{options.user}@{instance['ip']}", *options.command]
    return subprocess.run(command, check=False).returncode


def _console(settings: CloudSettings, instance_id: str, command: list[str]) -> int:
    terminal = ["--interactive", *(["--tty"] if sys.stdin.isatty() else [])]
    shell = command or ["su", "--login"]
    return engine.main(["podman", "exec", *terminal, containers.name(settings, instance_id), *shell])


def _find_instance(instances: list[dict[str, str]], wanted: str) -> dict[str, str]:
    alive = [one for one in instances if one["state"] == "running"]
    found = [one for one in alive if wanted in (one["id"], one["name"], one["ip"])]
    if not found and re.fullmatch(r"i-[0-9a-f]+", wanted):
        found = [one for one in alive if one["id"].startswith(wanted)]
    if len(found) == 1:
        return found[0]
    known = ", ".join(f"{one['id']} ({one['name'] or 'no name'})" for one in (found or alive)) or "none"
    problem = "is not one of the running instances" if not found else "means more than one instance"
    raise CommandError(f"{wanted!r} {problem}: {known}")


def _images(options: argparse.Namespace) -> int:
    preflight.check_machine()
    _ensure_images(_Progress())
    return 0


def _daemon(options: argparse.Namespace) -> int:
    from localcloud import daemon

    return daemon.serve(CloudSettings.load(options.name))
