"""Before anything exists: what a check says, and what wrong inputs get as an answer."""

from __future__ import annotations

import os
import re
import signal
import socket
import sys
from pathlib import Path

import pytest
from endtoend import machine
from endtoend.stack import PROJECT, Stack

from localcloud.settings import CloudSettings

pytestmark = [pytest.mark.e2e, pytest.mark.clean]

OTHER_CLOUD = CloudSettings(name="e2e-other", cidr="10.222.0.0/16")
OTHER = ("--name", OTHER_CLOUD.name, "--cidr", OTHER_CLOUD.cidr)


def everything(stack: Stack) -> dict[str, int]:
    """How much there is of what the playbooks make."""
    groups = stack.ec2.describe_security_groups(Filters=[{"Name": "tag:Project", "Values": ["memo-server"]}])
    return {
        "instances": len(stack.ec2.describe_instances()["Reservations"]),
        "images": len(stack.images()),
        "volumes": len(stack.ec2.describe_volumes()["Volumes"]),
        "security groups": len(groups["SecurityGroups"]),
        "key pairs": len(stack.ec2.describe_key_pairs()["KeyPairs"]),
        "load balancers": len(stack.elbv2.describe_load_balancers()["LoadBalancers"]),
        "groups": len(stack.autoscaling.describe_auto_scaling_groups()["AutoScalingGroups"]),
    }


def test_check_mode_says_what_it_would_do_and_does_nothing(cloud: Stack) -> None:
    before = everything(cloud)
    run = cloud.site("--check", timeout=300)
    assert run.status == 0, run.tail
    assert run.recap["localhost"]["failed"] == 0
    assert run.recap["localhost"]["changed"] > 0
    assert everything(cloud) == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-e", "memo_server_region=mars-north-1"], ["mars-north-1", "memo_server_region"]),
        (["-e", "memo_server_naver_client_secret="], ["NAVER_CLIENT_SECRET"]),
        (["-e", '{"memo_server_ssh_sources": []}'], ["memo_server_ssh_sources"]),
        (["-e", "memo_server_endpoint_url=http://127.0.0.1:9"], ["127.0.0.1:9"]),
    ],
    ids=["unknown region", "no Naver secret", "no SSH source", "nobody at the endpoint"],
)
def test_wrong_setting_is_refused_by_name(cloud: Stack, arguments: list[str], words: list[str]) -> None:
    before = everything(cloud)
    run = cloud.site(*arguments, timeout=120)
    assert run.status != 0
    for word in words:
        assert word in run.output, run.tail
    assert "Traceback" not in run.output
    assert everything(cloud) == before


def test_public_key_file_that_is_none(cloud: Stack, tmp_path: Path) -> None:
    (tmp_path / "somebody.pub").write_text("-----BEGIN OPENSSH PRIVATE KEY-----\n", encoding="utf-8")
    run = cloud.site("-e", f"memo_server_keys_folder={tmp_path}", timeout=120)
    assert run.status != 0
    assert "somebody.pub" in run.output, run.tail


def test_no_credentials_on_aws(cloud: Stack, tmp_path: Path) -> None:
    environment = cloud.environment | {"HOME": str(tmp_path), "AWS_EC2_METADATA_DISABLED": "true"}
    sources = '{"memo_server_ssh_sources": ["192.0.2.1/32"]}'
    run = cloud.run(
        *("ansible-playbook", "-i", "inventory/aws", "site.yml", "-e", sources), timeout=120, environment=environment
    )
    assert run.status != 0
    assert re.search("credentials", run.output, re.IGNORECASE), run.tail
    assert "AWS_PROFILE" in run.output or "AWS_ACCESS_KEY_ID" in run.output, run.tail


def test_second_cloud_beside_and_its_crash(cloud: Stack) -> None:
    """Two clouds run side by side; one whose daemon is killed is removed whole, and the other never notices."""
    other = Stack(OTHER_CLOUD, cloud.log)
    before = machine.snapshot()
    started = other.up()
    assert started.status == 0, started.tail
    image = other.ec2.describe_images(Filters=[{"Name": "name", "Values": ["debian-13-amd64-*"]}])["Images"][0][
        "ImageId"
    ]
    launched = other.ec2.run_instances(ImageId=image, InstanceType="t2.micro", MinCount=1, MaxCount=1)["Instances"][0]
    other.ec2.get_waiter("instance_running").wait(
        InstanceIds=[launched["InstanceId"]], WaiterConfig={"Delay": 1, "MaxAttempts": 60}
    )
    assert everything(cloud)["instances"] == 0
    daemons = [line for line in machine.snapshot()["processes"] if f"daemon --name {OTHER_CLOUD.name}" in line]
    assert len(daemons) == 1
    os.kill(int(daemons[0].split()[0]), signal.SIGKILL)
    removed = other.down()
    assert removed.status == 0, removed.tail
    assert machine.difference(before, machine.snapshot()) == ""
    assert everything(cloud)["instances"] == 0


def test_port_in_use_is_named_and_leaves_nothing(cloud: Stack) -> None:
    before = machine.snapshot()
    with socket.socket() as taken:
        # The bridge's own address does not exist yet; a listener on all addresses is in its way as well.
        taken.bind(("0.0.0.0", 0))  # noqa: S104  (taken for the moment of the test, and never accepted from)
        taken.listen()
        port = str(taken.getsockname()[1])
        run = cloud.localcloud("up", *OTHER, "--api-port", port, timeout=120)
    assert run.status != 0
    assert port in run.output, run.tail
    assert "Traceback" not in run.output
    cloud.localcloud("down", "--name", OTHER_CLOUD.name, timeout=120)
    assert machine.difference(before, machine.snapshot()) == ""


def test_missing_podman_names_the_package(cloud: Stack, tmp_path: Path) -> None:
    for folder in ("/usr/sbin", "/usr/bin", "/sbin", "/bin"):
        for program in Path(folder).iterdir():
            link = tmp_path / program.name
            if program.name != "podman" and not link.exists():
                link.symlink_to(program)
    environment = cloud.environment | {"PATH": str(tmp_path)}
    run = cloud.localcloud("up", *OTHER, timeout=120, environment=environment)
    assert run.status != 0
    assert "podman" in run.output
    assert "apt-get install" in run.output, run.tail


def test_full_disk_is_named(cloud: Stack) -> None:
    folder = "/var/lib/localcloud"
    command = [sys.executable, "-m", "localcloud", "up", *OTHER]
    script = f'mkdir -p {folder} && mount -t tmpfs -o size=1m tmpfs {folder} && exec "$@"'
    run = cloud.run("unshare", "--mount", "sh", "-c", script, "sh", *command, timeout=120)
    assert run.status != 0
    assert folder in run.output, run.tail
    assert re.search("space|free|GiB|MiB", run.output), run.tail
    assert "Traceback" not in run.output


def test_one_set_of_playbooks_and_roles() -> None:
    """Nothing in a role or playbook asks whether the cloud is the local one."""
    told = re.compile(
        r"localcloud|local_cloud|moto|podman|is_local|\b10\.\d+\.\d+\.\d+|when:.*endpoint_url", re.IGNORECASE
    )
    files = [PROJECT / "site.yml", *(PROJECT / "playbooks").glob("*.yml"), *(PROJECT / "roles").rglob("*")]
    found = [
        f"{path.relative_to(PROJECT)}:{number}: {line.strip()}"
        for path in files
        if path.is_file() and path.suffix in {".yml", ".yaml", ".j2", ".sh", ".py", ".cfg", ".conf", ".service"}
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if told.search(line.split("#")[0])
    ]
    assert found == []
