"""The stack under test: a local cloud of its own, and the playbooks run against it.

Everything is asked of the cloud's API, as it would be of AWS: the load balancer's name, the instances, the images.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING

import boto3

from localcloud.settings import CloudSettings

if TYPE_CHECKING:
    from mypy_boto3_autoscaling.client import AutoScalingClient
    from mypy_boto3_ec2.client import EC2Client
    from mypy_boto3_ec2.type_defs import ImageTypeDef, InstanceTypeDef
    from mypy_boto3_elbv2.client import ElasticLoadBalancingv2Client

PROJECT = Path(__file__).resolve().parents[2]
WORK = PROJECT / ".memo-server"
ARTEFACTS = WORK / "artefacts"
NAME = "memo-server"
PREFIX = "/memo"

_RECAP = re.compile(
    r"^(?P<host>\S+)\s+: ok=(?P<ok>\d+)\s+changed=(?P<changed>\d+)\s+unreachable=(?P<unreachable>\d+)"
    r"\s+failed=(?P<failed>\d+)",
    re.MULTILINE,
)


@dataclass(frozen=True)
class Run:
    """A command that ended: its exit status, everything it printed, and how many seconds it took."""

    status: int
    output: str
    seconds: float

    @property
    def recap(self) -> dict[str, dict[str, int]]:
        """Ansible's closing lines: for each host its counts of ok, changed, unreachable and failed."""
        return {
            match["host"]: {key: int(match[key]) for key in ("ok", "changed", "unreachable", "failed")}
            for match in _RECAP.finditer(self.output)
        }

    @property
    def words(self) -> str:
        """The output as Ansible meant it before it broke the lines."""
        return " ".join(self.output.split())

    @property
    def tail(self) -> str:
        """The last lines, for a failure's text."""
        return "\n".join(self.output.splitlines()[-60:])


@dataclass
class Stack:
    """One local cloud and what the playbooks made in it.

    Args:
        settings: the cloud; it need not be up.
        log: the file that gets the output of every command.
    """

    settings: CloudSettings
    log: Path
    _clients: dict[str, object] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        """The environment of commands: this one's, with the tools of our interpreter and the cloud under test."""
        tools = str(Path(sys.executable).parent)
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "NAVER_", "ANSIBLE_"))
        }
        return kept | {
            "PATH": f"{tools}:{kept.get('PATH', os.defpath)}",
            "LOCALCLOUD_API_URL": self.settings.api_url,
            "LOCALCLOUD_NAVER_URL": self.settings.naver_url,
            "ANSIBLE_FORCE_COLOR": "0",
            "ANSIBLE_NOCOLOR": "1",
        }

    def start(self, *command: str, environment: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Start a command in a process group of its own, its output into the log."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            log.write(f"\n$ {' '.join(command)}\n".encode())
            log.flush()
            return self._popen(command, log, environment)

    def _popen(
        self, command: tuple[str, ...], output: IO[bytes], environment: dict[str, str] | None
    ) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command,
            cwd=PROJECT,
            env=self.environment if environment is None else environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def run(self, *command: str, timeout: float, environment: dict[str, str] | None = None) -> Run:
        """Run a command to its end.

        Args:
            command: the command.
            timeout: seconds after which it and its children are killed.
            environment: instead of `self.environment`.

        Returns:
            How it ended. The output goes to the log as well.
        """
        started = time.monotonic()
        position = self.log.stat().st_size if self.log.exists() else 0
        process = self.start(*command, environment=environment)
        try:
            status = process.wait(timeout)
        except subprocess.TimeoutExpired:
            kill(process)
            status = 124
        with self.log.open("rb") as log:
            log.seek(position)
            output = log.read().decode(errors="replace")
        return Run(status, output, time.monotonic() - started)

    def localcloud(self, *arguments: str, timeout: float = 900, environment: dict[str, str] | None = None) -> Run:
        """Run the local cloud's command."""
        return self.run(sys.executable, "-m", "localcloud", *arguments, timeout=timeout, environment=environment)

    def up(self) -> Run:
        """Start the cloud."""
        return self.localcloud("up", "--name", self.settings.name, "--cidr", self.settings.cidr)

    def down(self) -> Run:
        """Remove the cloud."""
        return self.localcloud("down", "--name", self.settings.name, timeout=300)

    def site(self, *arguments: str, timeout: float = 1200) -> Run:
        """Run site.yml against the cloud."""
        return self.run("ansible-playbook", "site.yml", *arguments, timeout=timeout)

    @cached_property
    def session(self) -> boto3.Session:
        """A boto3 session with the access key that `inventory/local` uses."""
        text = (PROJECT / "inventory/local/group_vars/account.yml").read_text(encoding="utf-8")
        found = dict(re.findall(r"^memo_server_aws_(access|secret)_key: *(\S+)", text, re.MULTILINE))
        return boto3.Session(found["access"], found["secret"], region_name=self.settings.region)

    @cached_property
    def ec2(self) -> EC2Client:
        """EC2."""
        return self.session.client("ec2", endpoint_url=self.settings.api_url)

    @cached_property
    def elbv2(self) -> ElasticLoadBalancingv2Client:
        """Load balancers."""
        return self.session.client("elbv2", endpoint_url=self.settings.api_url)

    @cached_property
    def autoscaling(self) -> AutoScalingClient:
        """Auto Scaling."""
        return self.session.client("autoscaling", endpoint_url=self.settings.api_url)

    def instances(self, role: str, *states: str) -> list[InstanceTypeDef]:
        """The project's instances of a role, in these states (default: running), oldest first."""
        pages = self.ec2.get_paginator("describe_instances").paginate(
            Filters=[
                {"Name": "tag:Project", "Values": [NAME]},
                {"Name": "tag:Role", "Values": [role]},
                {"Name": "instance-state-name", "Values": list(states) or ["running"]},
            ]
        )
        found = [
            instance for page in pages for reservation in page["Reservations"] for instance in reservation["Instances"]
        ]
        return sorted(found, key=lambda instance: instance["LaunchTime"])

    def instance(self, role: str) -> InstanceTypeDef:
        """The one running instance of a role."""
        found = self.instances(role)
        assert len(found) == 1, f"{len(found)} running instances have the role {role}"
        return found[0]

    def images(self) -> list[ImageTypeDef]:
        """The AMIs that the playbooks baked."""
        found = self.ec2.describe_images(Owners=["self"], Filters=[{"Name": "tag:Project", "Values": [NAME]}])
        return found["Images"]

    def in_service(self) -> set[str]:
        """The ids of the group's instances that are InService."""
        groups = self.autoscaling.describe_auto_scaling_groups()["AutoScalingGroups"]
        return {
            instance["InstanceId"]
            for group in groups
            for instance in group["Instances"]
            if instance["LifecycleState"] == "InService"
        }

    @property
    def load_balancer(self) -> str:
        """The load balancer's DNS name."""
        answer = self.elbv2.describe_load_balancers(Names=[f"{NAME}-load-balancer"])
        return answer["LoadBalancers"][0]["DNSName"]

    @property
    def url(self) -> str:
        """What a person opens, with the slash at the end."""
        return f"http://{self.load_balancer}{PREFIX}/"

    def ssh(self, instance: InstanceTypeDef, *command: str, script: str = "", timeout: float = 120) -> str:
        """Run a command on an instance as its default user.

        Args:
            instance: the instance.
            command: the command; it passes through the guest's shell.
            script: its standard input.
            timeout: seconds.

        Returns:
            What it printed.

        Raises:
            AssertionError: it failed.
        """
        done = subprocess.run(
            [
                "ssh",
                *("-i", str(WORK / "id_ed25519"), "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes"),
                *("-o", f"HostKeyAlias={instance['InstanceId']}", "-o", f"UserKnownHostsFile={WORK / 'known_hosts'}"),
                *("-o", "StrictHostKeyChecking=accept-new", "-o", "ConnectTimeout=10", "-o", "LogLevel=ERROR"),
                f"admin@{instance['PrivateIpAddress']}",
                *command,
            ],
            input=script,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert done.returncode == 0, f"{' '.join(command)} on {instance['InstanceId']}: {done.stderr or done.stdout}"
        return done.stdout


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a command with all its children, as a power cut would."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(10)
