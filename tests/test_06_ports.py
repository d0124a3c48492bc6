"""Every TCP port of every host, tried from outside the groups and from a web host."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
import requests
from endtoend.people import TIMEOUT, Person
from endtoend.ports import scan
from endtoend.stack import NAME, Run, Stack
from endtoend.waiting import until

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import InstanceTypeDef

pytestmark = pytest.mark.e2e

FROM_OUTSIDE: dict[str, set[int]] = {"db": set(), "dev": set(), "fleet": set(), "load balancer": {80}}
FROM_WEB: dict[str, set[int]] = {"db": {3306, 6379}, "dev": set(), "load balancer": {80}}


@pytest.fixture(scope="module")
def outsider(cloud: Stack, deployed: Run) -> Iterator[InstanceTypeDef]:
    """An instance in the same network that is in none of the project's security groups."""
    neighbour = cloud.instance("db-server")
    group = cloud.ec2.create_security_group(
        GroupName="outsider", Description="Nobody's friend", VpcId=neighbour["VpcId"]
    )["GroupId"]
    cloud.ec2.authorize_security_group_ingress(
        GroupId=group, IpProtocol="tcp", FromPort=22, ToPort=22, CidrIp=f"{cloud.settings.gateway}/32"
    )
    reservation = cloud.ec2.run_instances(
        ImageId=neighbour["ImageId"],
        InstanceType="t2.micro",
        KeyName=neighbour["KeyName"],
        SubnetId=neighbour["SubnetId"],
        SecurityGroupIds=[group],
        MinCount=1,
        MaxCount=1,
    )
    instance = reservation["Instances"][0]
    cloud.ec2.get_waiter("instance_running").wait(InstanceIds=[instance["InstanceId"]], WaiterConfig={"Delay": 1})

    def answers() -> bool:
        try:
            socket.create_connection((instance["PrivateIpAddress"], 22), 1).close()
        except OSError:
            return False
        return True

    until(answers, "SSH on the outsider", timeout=60)
    cloud.ssh(instance, "cloud-init", "status", "--wait")
    yield instance
    cloud.ec2.terminate_instances(InstanceIds=[instance["InstanceId"]])
    cloud.ec2.get_waiter("instance_terminated").wait(
        InstanceIds=[instance["InstanceId"]], WaiterConfig={"Delay": 1, "MaxAttempts": 60}
    )
    cloud.ec2.delete_security_group(GroupId=group)


def try_every_port(stack: Stack, outsider: InstanceTypeDef, *names: str) -> None:
    """Scan some hosts from both places at once, and compare with what the security groups allow."""
    fleet = stack.instance("web-fleet")
    addresses = {
        "db": stack.instance("db-server")["PrivateIpAddress"],
        "dev": stack.instance("web-dev")["PrivateIpAddress"],
        "fleet": fleet["PrivateIpAddress"],
        "load balancer": socket.gethostbyname(stack.load_balancer),
    }
    expected = [{name: ports[name] for name in names if name in ports} for ports in (FROM_OUTSIDE, FROM_WEB)]
    with ThreadPoolExecutor(2) as pool:
        scans = [
            pool.submit(scan, stack, source, {name: addresses[name] for name in ports})
            for source, ports in zip((outsider, fleet), expected, strict=True)
        ]
        assert [one.result() for one in scans] == expected


def until_ready(stack: Stack) -> None:
    until(lambda: Person(stack.url).get("ready").status_code == 200, "MySQL and Redis again", timeout=180)


def test_only_what_the_groups_allow_answers(service: Stack, outsider: InstanceTypeDef) -> None:
    try_every_port(service, outsider, *FROM_OUTSIDE)


def test_same_after_docker_restarted(service: Stack, outsider: InstanceTypeDef) -> None:
    service.ssh(service.instance("db-server"), "sudo", "systemctl", "restart", "docker", timeout=180)
    until_ready(service)
    try_every_port(service, outsider, "db")


def test_same_after_the_host_restarted(service: Stack, outsider: InstanceTypeDef) -> None:
    database = service.instance("db-server")
    # An instance reports itself running all through a reboot; the kernel's boot id tells two boots apart only on
    # real hardware, so systemd's own start time is asked.
    question = "systemctl show --property=UserspaceTimestampMonotonic init.scope; stat -c %Y /proc/1"
    before = service.ssh(database, question)
    service.ec2.reboot_instances(InstanceIds=[database["InstanceId"]])

    def rebooted() -> bool:
        try:
            return service.ssh(database, question, timeout=15) != before
        except (AssertionError, subprocess.TimeoutExpired):
            return False

    until(rebooted, "DB-Server's reboot", timeout=120)
    until_ready(service)
    try_every_port(service, outsider, "db")


READ_METRICS = """
import urllib.request
print(urllib.request.urlopen("http://127.0.0.1:9180/metrics", timeout=10).read().decode())
"""


def test_metrics_are_on_the_host_and_not_behind_the_load_balancer(service: Stack, deployed: Run) -> None:
    balancer = socket.gethostbyname(service.load_balancer)
    for path in ("metrics", "memo/metrics"):
        answer = requests.get(f"http://{balancer}/{path}", headers={"MEMO-METRICS": "1"}, timeout=TIMEOUT)
        assert answer.status_code == 404, path
        assert "memo_responses" not in answer.text
    for instance in service.instances("web-fleet"):
        assert "memo_responses_total{" in service.ssh(instance, "python3", "-", script=READ_METRICS)
        # From the balancer's own address, as it connects to its targets: the packet filter lets it to one port only.
        address = instance["PrivateIpAddress"]
        socket.create_connection((address, 80), 5, source_address=(balancer, 0)).close()
        with pytest.raises(TimeoutError):
            socket.create_connection((address, 9180), 3, source_address=(balancer, 0))


def test_instances_carry_the_groups_they_should(service: Stack, deployed: Run) -> None:
    groups = {
        role: {group["GroupName"] for group in service.instance(role)["SecurityGroups"]}
        for role in ("db-server", "web-dev", "web-fleet")
    }
    assert groups["db-server"] == {f"{NAME}-db"}
    assert groups["web-fleet"] == {f"{NAME}-web"}
    assert f"{NAME}-web" in groups["web-dev"]
