"""A whole local cloud, from `up` to `down`, driven by boto3 as on AWS.

One cloud for the module; the tests build on one another in the order they stand, as a
deployment does. Seconds are printed (`pytest -s`).
"""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import boto3
import pytest
from botocore.exceptions import ClientError

from localcloud import process, view
from localcloud.settings import BASE_IMAGE_OWNER, CloudSettings

pytestmark = [pytest.mark.machine, pytest.mark.slow]

SETTINGS = CloudSettings("looptest", "10.217.0.0/16", api_port=4613, naver_port=8813, metadata_port=16926)
WEB = """#cloud-config
write_files:
  - path: /usr/local/bin/serve.py
    content: |
      import http.server, socket
      class Handler(http.server.BaseHTTPRequestHandler):
          def do_GET(self):
              body = (socket.gethostname() + "\\n" + str(self.headers)).encode()
              self.send_response(200)
              self.send_header("Content-Length", str(len(body)))
              self.end_headers()
              self.wfile.write(body)
      http.server.ThreadingHTTPServer(("", 80), Handler).serve_forever()
  - path: /etc/systemd/system/serve.service
    content: |
      [Service]
      ExecStart=/usr/bin/python3 /usr/local/bin/serve.py
      Restart=always
      [Install]
      WantedBy=multi-user.target
runcmd:
  - systemctl daemon-reload
  - systemctl enable --now serve.service
"""

LONGEST_WAIT = 180.0
"""Seconds; a bound for what never happens. How long it takes is printed, not judged: the machine has other work too."""

T = TypeVar("T")


def localcloud(*words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "localcloud", *words], capture_output=True, text=True, check=False, timeout=900
    )
    if check:
        assert done.returncode == 0, done.stdout + done.stderr
    return done


def up() -> None:
    localcloud(
        "up", "--name", SETTINGS.name, "--cidr", SETTINGS.cidr, "--api-port", str(SETTINGS.api_port),
        "--naver-port", str(SETTINGS.naver_port), "--metadata-port", str(SETTINGS.metadata_port),
    )  # fmt: skip


def wait(what: str, ask: Callable[[], T | None]) -> T:
    """The first true answer; prints how long it took."""
    began = time.monotonic()
    while time.monotonic() - began < LONGEST_WAIT:
        answer = ask()
        if answer:
            print(f"    {what}: {time.monotonic() - began:.1f} s")
            return answer
        time.sleep(0.2)
    raise AssertionError(
        f"{what} did not happen within {LONGEST_WAIT:.0f} s\n{localcloud('status', '--name', SETTINGS.name).stdout}"
    )


def traces() -> dict[str, str]:
    """What a cloud could leave on the machine."""

    def said(*command: str) -> str:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    mine = re.compile(r"looptest|10\.217\.|/localcloud/looptest")
    mounts = [
        line for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines() if mine.search(line)
    ]
    processes = [line for line in said("ps", "-eo", "args").splitlines() if "looptest" in line and "pytest" not in line]
    return {
        "links": "\n".join(line for line in said("ip", "-o", "link").splitlines() if mine.search(line)),
        "routes": "\n".join(line for line in said("ip", "route").splitlines() if mine.search(line)),
        "namespaces": "\n".join(line for line in said("ip", "netns").splitlines() if mine.search(line)),
        "tables": "\n".join(line for line in said("nft", "list", "tables").splitlines() if mine.search(line)),
        "loops": "\n".join(line for line in said("losetup", "--list").splitlines() if mine.search(line)),
        "containers": said(
            sys.executable, "-m", "localcloud.engine", "podman", "ps", "-a", "--filter", "name=looptest", "-q"
        ),
        "images": "\n".join(
            line
            for line in said(sys.executable, "-m", "localcloud.engine", "podman", "images").splitlines()
            if "looptest" in line
        ),
        "names": "\n".join(
            line for line in Path("/etc/hosts").read_text(encoding="utf-8").splitlines() if mine.search(line)
        ),
        "mounts": "\n".join(mounts),
        "processes": "\n".join(processes),
        "folders": "\n".join(str(path) for path in (SETTINGS.run_dir, SETTINGS.state_dir) if path.exists()),
    }


class Cloud:
    """Clients, and what the tests have made so far."""

    def __init__(self, folder: Path) -> None:
        how = view.connection(SETTINGS)
        self.ec2 = boto3.client("ec2", **how)
        self.elb = boto3.client("elbv2", **how)
        self.groups = boto3.client("autoscaling", **how)
        self.folder = folder
        self.key = folder / "id"
        self.ids: dict[str, str] = {}

    def state(self, instance_id: str) -> str:
        return self.describe(instance_id)["State"]["Name"]  # type: ignore[no-any-return]

    def describe(self, instance_id: str) -> Any:  # noqa: ANN401 - boto3's answer
        return self.ec2.describe_instances(InstanceIds=[instance_id])["Reservations"][0]["Instances"][0]

    def run(self, image: str, user_data: str = "", **more: Any) -> str:  # noqa: ANN401
        began = time.monotonic()
        made = self.ec2.run_instances(
            ImageId=image, InstanceType="t2.micro", MinCount=1, MaxCount=1, KeyName="loop",
            SecurityGroupIds=[self.ids["sg"]], SubnetId=self.subnets()[0], UserData=user_data, **more,
        )  # fmt: skip
        instance_id: str = made["Instances"][0]["InstanceId"]
        wait(f"{instance_id} running", lambda: self.state(instance_id) == "running")
        print(f"    RunInstances to running: {time.monotonic() - began:.1f} s")
        return instance_id

    def subnets(self) -> list[str]:
        found = self.ec2.describe_subnets(Filters=[{"Name": "default-for-az", "Values": ["true"]}])["Subnets"]
        return [
            one["SubnetId"]
            for one in sorted(found, key=lambda one: one["AvailabilityZone"])
            if one["AvailabilityZone"][-1] in "ac"
        ]

    def ssh(self, instance_id: str, command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        address = self.describe(instance_id)["PrivateIpAddress"]
        done = subprocess.run(
            [
                "ssh", "-i", str(self.key), "-o", "StrictHostKeyChecking=accept-new", "-o", "BatchMode=yes",
                "-o", f"UserKnownHostsFile={self.folder}/known_hosts", "-o", f"HostKeyAlias={instance_id}",
                "-o", "ConnectTimeout=5", f"admin@{address}", command,
            ],
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        if check:
            assert done.returncode == 0, done.stderr
        return done

    def get(self) -> tuple[int, str]:
        request = urllib.request.Request(f"http://{self.ids['dns']}/")
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def get_if_listening(self) -> tuple[int, str] | None:
        """As `get`; None while the balancer has its name but no listener yet: each comes in a pass of its own."""
        try:
            return self.get()
        except urllib.error.URLError:
            return None

    def health(self) -> dict[str, str]:
        answer = self.elb.describe_target_health(TargetGroupArn=self.ids["tg"])["TargetHealthDescriptions"]
        return {one["Target"]["Id"]: one["TargetHealth"]["State"] for one in answer}


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    localcloud("down", "--name", SETTINGS.name)
    before = traces()
    assert not any(before.values()), before
    began = time.monotonic()
    up()
    print(f"    up: {time.monotonic() - began:.1f} s")
    yield Cloud(tmp_path_factory.mktemp("cloud"))
    began = time.monotonic()
    localcloud("down", "--name", SETTINGS.name)
    print(f"    down: {time.monotonic() - began:.1f} s")
    after = traces()
    assert not any(after.values()), after


def test_up_again_does_nothing(cloud: Cloud) -> None:
    up()
    other = localcloud("up", "--name", "looptest2", "--cidr", SETTINGS.cidr, check=False)
    assert other.returncode == 1
    assert "already uses" in other.stderr


def test_an_instance_with_key_user_data_and_metadata(cloud: Cloud) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(cloud.key)], check=True)
    public = cloud.key.with_suffix(".pub").read_bytes()
    cloud.ec2.import_key_pair(KeyName="loop", PublicKeyMaterial=public)
    vpc = cloud.ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"][0]
    assert vpc["CidrBlock"] == SETTINGS.cidr
    cloud.ids["sg"] = cloud.ec2.create_security_group(GroupName="web", Description="web", VpcId=vpc["VpcId"])["GroupId"]
    cloud.ec2.authorize_security_group_ingress(
        GroupId=cloud.ids["sg"],
        IpPermissions=[
            {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": f"{SETTINGS.gateway}/32"}]}
        ],
    )
    found = cloud.ec2.describe_images(
        Owners=[BASE_IMAGE_OWNER], Filters=[{"Name": "name", "Values": ["debian-13-amd64-*"]}]
    )["Images"]
    base = max(found, key=lambda one: one["CreationDate"])["ImageId"]
    cloud.ids["builder"] = cloud.run(base, WEB)
    who = wait("ssh", lambda: cloud.ssh(cloud.ids["builder"], "id -un; hostname", check=False).stdout)
    address = cloud.describe(cloud.ids["builder"])["PrivateIpAddress"]
    assert who.split() == ["admin", "ip-" + address.replace(".", "-")]
    token = "curl -sf -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' http://169.254.169.254/latest/api/token"
    ask = (
        "python3 - <<'X'\nimport urllib.request as u\nb='http://169.254.169.254/latest/'\n"
        "t=u.urlopen(u.Request(b+'api/token',method='PUT',headers={'X-aws-ec2-metadata-token-ttl-seconds':'60'})).read()\n"
        "print(u.urlopen(u.Request(b+'meta-data/instance-id',headers={'X-aws-ec2-metadata-token':t.decode()})).read().decode())\nX"
    )
    assert token
    assert cloud.ssh(cloud.ids["builder"], ask).stdout.strip() == cloud.ids["builder"]
    wait(
        "user data has run",
        lambda: cloud.ssh(cloud.ids["builder"], "systemctl is-active serve", check=False).stdout == "active\n",
    )


def test_a_volume_outlives_its_instance(cloud: Cloud) -> None:
    zone = cloud.describe(cloud.ids["builder"])["Placement"]["AvailabilityZone"]
    volume = cloud.ec2.create_volume(AvailabilityZone=zone, Size=1, VolumeType="gp3")["VolumeId"]
    base = cloud.describe(cloud.ids["builder"])["ImageId"]
    commands = ("echo kept | sudo dd of=/dev/xvdf conv=fsync status=none && echo kept", "sudo head -c 4 /dev/xvdf")
    for number, command in enumerate(commands):
        instance_id = cloud.run(base)
        cloud.ec2.attach_volume(VolumeId=volume, InstanceId=instance_id, Device="/dev/sdf")
        wait("volume seen", lambda i=instance_id: cloud.ssh(i, "test -b /dev/xvdf", check=False).returncode == 0)  # type: ignore[misc]
        assert cloud.ssh(instance_id, command).stdout.strip() == "kept", number
        cloud.ec2.terminate_instances(InstanceIds=[instance_id])
        wait("terminated", lambda i=instance_id: cloud.state(i) == "terminated")  # type: ignore[misc]
    cloud.ec2.delete_volume(VolumeId=volume)


def test_security_groups_follow_changes(cloud: Cloud) -> None:
    address = cloud.describe(cloud.ids["builder"])["PrivateIpAddress"]

    def reaches() -> bool:
        command = ["curl", "-s", "-o", "/dev/null", "--noproxy", "*", "--max-time", "1", f"http://{address}/"]
        return subprocess.run(command, check=False).returncode == 0

    assert not reaches()
    permission = [
        {"IpProtocol": "tcp", "FromPort": 80, "ToPort": 80, "IpRanges": [{"CidrIp": f"{SETTINGS.gateway}/32"}]}
    ]
    cloud.ec2.authorize_security_group_ingress(GroupId=cloud.ids["sg"], IpPermissions=permission)  # type: ignore[arg-type]
    wait("port opened", reaches)
    cloud.ec2.revoke_security_group_ingress(GroupId=cloud.ids["sg"], IpPermissions=permission)  # type: ignore[arg-type]
    wait("port closed", lambda: not reaches())


def test_stop_start_and_reboot_keep_disk_and_address(cloud: Cloud) -> None:
    builder = cloud.ids["builder"]
    address = cloud.describe(builder)["PrivateIpAddress"]
    cloud.ssh(builder, "echo here > stays && sync")
    cloud.ec2.stop_instances(InstanceIds=[builder])
    wait("stopped", lambda: cloud.state(builder) == "stopped")
    cloud.ec2.start_instances(InstanceIds=[builder])
    wait("started", lambda: cloud.state(builder) == "running")
    assert cloud.describe(builder)["PrivateIpAddress"] == address
    boot = wait("ssh", lambda: cloud.ssh(builder, "cat stays; cut -d' ' -f22 /proc/1/stat", check=False).stdout)
    assert boot.startswith("here\n")
    cloud.ec2.reboot_instances(InstanceIds=[builder])
    wait(
        "rebooted",
        lambda: (
            (now := cloud.ssh(builder, "cat stays; cut -d' ' -f22 /proc/1/stat", check=False).stdout) not in ("", boot)
            and now
        ),
    )


def test_an_image_is_baked(cloud: Cloud) -> None:
    cloud.ssh(cloud.ids["builder"], "sudo cloud-init clean --logs --machine-id && sudo rm -f /etc/ssh/ssh_host_*")
    began = time.monotonic()
    cloud.ids["image"] = cloud.ec2.create_image(InstanceId=cloud.ids["builder"], Name="web-1")["ImageId"]
    image = cloud.ec2.describe_images(ImageIds=[cloud.ids["image"]])["Images"][0]
    print(f"    CreateImage: {time.monotonic() - began:.1f} s, {image['State']}")
    assert image["State"] == "available"
    with pytest.raises(ClientError, match="InvalidAMIName.Duplicate"):
        cloud.ec2.create_image(InstanceId=cloud.ids["builder"], Name="web-1")
    cloud.ec2.terminate_instances(InstanceIds=[cloud.ids["builder"]])


def test_a_group_behind_a_load_balancer(cloud: Cloud) -> None:
    vpc = cloud.ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
    front = cloud.ec2.create_security_group(GroupName="front", Description="front", VpcId=vpc)["GroupId"]
    anywhere: Any = [{"IpProtocol": "tcp", "FromPort": 80, "ToPort": 80, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}]
    cloud.ec2.authorize_security_group_ingress(GroupId=front, IpPermissions=anywhere)
    from_front: Any = [{"IpProtocol": "tcp", "FromPort": 80, "ToPort": 80, "UserIdGroupPairs": [{"GroupId": front}]}]
    cloud.ec2.authorize_security_group_ingress(GroupId=cloud.ids["sg"], IpPermissions=from_front)
    template = cloud.ec2.create_launch_template(
        LaunchTemplateName="web",
        LaunchTemplateData={
            "ImageId": cloud.ids["image"],
            "InstanceType": "t2.micro",
            "KeyName": "loop",
            "SecurityGroupIds": [cloud.ids["sg"]],
            "UserData": base64.b64encode(b"#cloud-config\n{}\n").decode(),
        },
    )["LaunchTemplate"]["LaunchTemplateId"]
    cloud.ids["template"] = template
    cloud.ids["tg"] = cloud.elb.create_target_group(
        Name="web", Protocol="HTTP", Port=80, VpcId=vpc, HealthCheckPath="/", HealthCheckIntervalSeconds=5,
        HealthCheckTimeoutSeconds=2, HealthyThresholdCount=2, UnhealthyThresholdCount=2,
    )["TargetGroups"][0]["TargetGroupArn"]  # fmt: skip
    balancer = cloud.elb.create_load_balancer(Name="front", Subnets=cloud.subnets(), SecurityGroups=[front])
    cloud.ids["dns"] = balancer["LoadBalancers"][0]["DNSName"]
    cloud.elb.create_listener(
        LoadBalancerArn=balancer["LoadBalancers"][0]["LoadBalancerArn"], Protocol="HTTP", Port=80,
        DefaultActions=[{"Type": "forward", "TargetGroupArn": cloud.ids["tg"]}],
    )  # fmt: skip

    def name_resolves() -> bool:
        return subprocess.run(["getent", "hosts", cloud.ids["dns"]], capture_output=True, check=False).returncode == 0

    wait("name resolves", name_resolves)
    status, body = wait("balancer answers", cloud.get_if_listening)
    assert (status, "503 Service Temporarily Unavailable" in body) == (503, True)
    cloud.groups.create_auto_scaling_group(
        AutoScalingGroupName="web", MinSize=1, MaxSize=2, DesiredCapacity=1,
        LaunchTemplate={"LaunchTemplateId": template, "Version": "1"}, TargetGroupARNs=[cloud.ids["tg"]],
        VPCZoneIdentifier=",".join(cloud.subnets()), HealthCheckType="ELB", HealthCheckGracePeriod=300,
    )  # fmt: skip
    wait("group serves", lambda: cloud.get()[0] == 200)
    body = cloud.get()[1]
    assert "x-forwarded-for:" in body.lower()
    assert list(cloud.health().values()) == ["healthy"]


def test_what_dies_is_replaced(cloud: Cloud) -> None:
    first = next(iter(cloud.health()))
    cloud.ec2.terminate_instances(InstanceIds=[first])
    wait("the dead one is gone from the targets", lambda: first not in cloud.health())
    wait("replaced and serving", lambda: cloud.get()[0] == 200 and first not in cloud.health())


def test_the_group_grows_and_drains(cloud: Cloud) -> None:
    cloud.groups.set_desired_capacity(AutoScalingGroupName="web", DesiredCapacity=2)
    wait("two healthy", lambda: list(cloud.health().values()) == ["healthy", "healthy"])
    wait("both serve", lambda: len({cloud.get()[1].splitlines()[0] for _ in range(6)}) == 2)
    zones = {cloud.describe(one)["Placement"]["AvailabilityZone"] for one in cloud.health()}
    assert len(zones) == 2
    cloud.elb.modify_target_group_attributes(
        TargetGroupArn=cloud.ids["tg"], Attributes=[{"Key": "deregistration_delay.timeout_seconds", "Value": "5"}]
    )
    cloud.groups.set_desired_capacity(AutoScalingGroupName="web", DesiredCapacity=1)

    def one_left() -> bool:
        assert cloud.get()[0] == 200
        return len(cloud.health()) == 1

    wait("one left, no failed request", one_left)


def test_status_shows_it_all(cloud: Cloud) -> None:
    shown = json.loads(localcloud("status", "--name", SETTINGS.name, "--json").stdout)
    assert [one["group"] for one in shown["instances"] if one["state"] == "running"] == ["web"]
    assert shown["urls"] == [f"http://{cloud.ids['dns']}/"]
    assert shown["target_groups"][0]["targets"][0]["state"] == "healthy"
    assert shown["daemon"]["troubles"] == []
    print(localcloud("status", "--name", SETTINGS.name).stdout)


def kill_the_daemon() -> None:
    pid = process.running_pid(SETTINGS)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    wait("daemon gone", lambda: process.running_pid(SETTINGS) is None)


def test_after_a_crash_up_cleans_up_first_and_down_leaves_nothing(cloud: Cloud) -> None:
    kill_the_daemon()
    crashed = localcloud("status", "--name", SETTINGS.name, check=False)
    assert crashed.returncode == 1
    assert "has crashed" in crashed.stderr
    up()
    assert cloud.ec2.describe_instances()["Reservations"] == []
    assert not traces()["containers"]
    cloud.ids["sg"] = cloud.ec2.describe_security_groups()["SecurityGroups"][0]["GroupId"]
    cloud.ec2.import_key_pair(KeyName="loop", PublicKeyMaterial=cloud.key.with_suffix(".pub").read_bytes())
    base = cloud.ec2.describe_images(Owners=[BASE_IMAGE_OWNER])["Images"][0]["ImageId"]
    cloud.run(base)
    kill_the_daemon()
    localcloud("down", "--name", SETTINGS.name)
    assert not any(traces().values()), traces()
