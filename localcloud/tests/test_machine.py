"""Real instances: booted, reached, filtered, given disks, copied, and gone without a trace."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from localcloud import engine, images
from localcloud.api.access import Credentials
from localcloud.deaths import DeathWatch
from localcloud.hosts import Hosts
from localcloud.images import BaseImage
from localcloud.metadata import MetadataServer
from localcloud.model import DesiredInstance, Firewall, InstanceState, Rule
from localcloud.network import Network
from localcloud.settings import CloudSettings
from localcloud.volumes import Volumes

pytestmark = [pytest.mark.machine, pytest.mark.slow]

SETTINGS = CloudSettings(name="mach", cidr="10.211.0.0/16", api_port=4611, naver_port=8111, metadata_port=16911)
LONGEST_WAIT = 180.0
"""Seconds; for what never happens. The machine has other work too."""
EVERYTHING = Rule("all", None, None, ("0.0.0.0/0",))
SSH_FROM_HOST = Rule("tcp", 22, 22, (SETTINGS.gateway,))
OPEN = Firewall((EVERYTHING,), (EVERYTHING,))
USER_DATA = """#cloud-config
write_files:
- path: /etc/memo/instance.json
  permissions: "0644"
  content: '{"text": "안녕하세요"}'
"""


class Cloud:
    """A machine with its parts, and instances that are easy to talk to."""

    def __init__(self, base: BaseImage, key: Path) -> None:
        self.base = base
        self._key = key
        self.network = Network(SETTINGS)
        self.volumes = Volumes(SETTINGS)
        self.hosts = Hosts(SETTINGS, self.network, self.volumes)
        self.instances: dict[str, DesiredInstance] = {}
        self.metadata = MetadataServer(SETTINGS, self.by_ip, self.credentials)

    def by_ip(self, address: str) -> DesiredInstance | None:
        return next((found for found in self.instances.values() if found.private_ip == address), None)

    def credentials(self, _: DesiredInstance) -> Credentials | None:
        return None

    def launch(self, number: int, firewall: Firewall = OPEN, image_id: str | None = None) -> DesiredInstance:
        instance = DesiredInstance(
            instance_id=f"i-0000000000000{number:04x}",
            state=InstanceState.PENDING,
            image_id=image_id or self.base.ami_id,
            instance_type="t2.micro",
            private_ip=f"10.211.{number % 2 * 16}.{number}",
            mac=f"0a:6c:0a:d3:00:{number:02x}",
            subnet_id="subnet-1",
            availability_zone="ap-northeast-2a",
            key_name="test",
            public_key=self._key.with_suffix(".pub").read_text(encoding="utf-8"),
            user_data=USER_DATA.encode(),
            http_tokens="required",
        )
        self.instances[instance.instance_id] = instance
        self.hosts.launch(instance, firewall)
        return instance

    def wait(self, instance: DesiredInstance) -> None:
        wait_for(lambda: self.hosts.is_up(instance.instance_id), lambda: self.hosts.console(instance.instance_id))

    def ssh(self, instance: DesiredInstance, command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["ssh", "-i", str(self._key), "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
             "-o", "LogLevel=ERROR", "-o", "ConnectTimeout=60", "-o", "BatchMode=yes",
             f"admin@{instance.private_ip}", command],
            capture_output=True, text=True, check=False, timeout=180,
        )  # fmt: skip

    def read(self, instance: DesiredInstance, command: str) -> str:
        done = self.ssh(instance, command)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def reaches(self, instance: DesiredInstance, address: str, port: int, seconds: float = 60) -> bool:
        """Whether a TCP connection from an instance succeeds."""
        command = f"timeout {seconds} bash -c '</dev/tcp/{address}/{port}'"
        done = self.ssh(instance, command)
        # bash's own word, or that of timeout(1): an SSH connection that fails says nothing about the other one.
        assert done.returncode in (0, 1, 124), done.stderr
        return done.returncode == 0

    def is_kept_from(self, instance: DesiredInstance, address: str, port: int) -> bool:
        """Whether a TCP connection from an instance fails; packets that are dropped are not waited for any longer."""
        return not self.reaches(instance, address, port, 2)


def wait_for(condition: Callable[[], bool], describe: Callable[[], str] = str) -> None:
    deadline = time.monotonic() + LONGEST_WAIT
    while not condition():
        assert time.monotonic() < deadline, f"not within {LONGEST_WAIT:.0f} s: {describe()[-2000:]}"
        time.sleep(0.1)


def residue() -> dict[str, list[str]]:
    """What a cloud of this name has on the machine."""
    label = f"--filter=label=localcloud={SETTINGS.name}"
    found = {
        "containers": engine.podman("ps", "--all", "--quiet", label).stdout.split(),
        "volumes": engine.podman("volume", "ls", "--quiet", label).stdout.split(),
        "images": engine.podman("images", "--quiet", label).stdout.split(),
        "namespaces": [path.name for path in Path("/run/netns").glob(f"lc-{SETTINGS.name}-*")],
        "links": [path.name for path in Path("/sys/class/net").glob(SETTINGS.bridge)],
        "tables": [line for line in engine.run("nft", "list", "tables").stdout.split() if line == SETTINGS.nft_table],
        "loops": [
            line
            for line in engine.run("losetup", "--list", "--output", "BACK-FILE").stdout.splitlines()
            if line.startswith(str(SETTINGS.state_dir))
        ],
        "files": [str(path) for path in SETTINGS.state_dir.rglob("*")],
    }
    return {what: entries for what, entries in found.items() if entries}


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    engine.prepare()
    key = tmp_path_factory.mktemp("keys") / "key"
    engine.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key))
    made = Cloud(images.ensure_base(print), key)
    down(made)
    made.network.up()
    made.metadata.start()
    yield made
    made.metadata.stop()
    down(made)
    assert residue() == {}
    for folder in (SETTINGS.run_dir, SETTINGS.state_dir):
        if folder.exists():
            folder.rmdir()
    engine.release()


def down(cloud: Cloud) -> None:
    for part in (cloud.hosts, cloud.volumes, cloud.network):
        part.down()


@pytest.fixture(scope="module")
def first(cloud: Cloud) -> DesiredInstance:
    began = time.monotonic()
    instance = cloud.launch(10)
    cloud.wait(instance)
    print(f"up {time.monotonic() - began:.1f} s after launch")
    return instance


@pytest.fixture(scope="module")
def second(cloud: Cloud) -> DesiredInstance:
    instance = cloud.launch(11)
    cloud.wait(instance)
    return instance


def test_the_instance_is_what_the_api_says(cloud: Cloud, first: DesiredInstance) -> None:
    assert cloud.read(first, "hostname") == first.hostname
    assert cloud.read(first, "cat /sys/class/net/eth0/address") == first.mac
    assert first.private_ip in cloud.read(first, "ip -4 -brief address show dev eth0")
    assert json.loads(cloud.read(first, "cat /etc/memo/instance.json")) == {"text": "안녕하세요"}
    assert cloud.read(first, "cloud-init status --wait") == "status: done"
    # cloud-init is one of the last jobs of the boot, and done a moment before the boot is.
    assert cloud.read(first, "sudo systemctl is-system-running --wait") == "running"
    assert cloud.read(first, "cloud-id") == "aws"
    actual = cloud.hosts.actual()[first.instance_id]
    assert (actual.state, actual.image_id, actual.private_ip) == (
        InstanceState.RUNNING,
        first.image_id,
        first.private_ip,
    )
    assert actual.started_at is not None
    assert "cloud-init" in cloud.hosts.console(first.instance_id)


def test_the_cpu_time_of_an_instance_is_known(cloud: Cloud, first: DesiredInstance) -> None:
    """One busy process: what the instance's containers' group counts grows with what the process itself was given.

    It ends when it has used a second, however long it takes to get that. What else runs in the instance counts as well,
    so the upper bound is what the instance itself says of all its processes, asked before and afterwards.
    """

    def inside() -> float:
        used = re.findall(r"^usage_usec (\d+)$", cloud.read(first, "cat /sys/fs/cgroup/cpu.stat"), re.MULTILINE)
        return int(used[0]) / 1e6

    cloud.hosts.actual()
    earlier = inside()
    before = cloud.hosts.cpu_seconds(first.instance_id)
    told = cloud.read(first, "bash -c 'time sh -c \"ulimit -t 1; while :; do :; done\"' 2>&1 | grep -E 'user|sys'")
    after = cloud.hosts.cpu_seconds(first.instance_id)
    later = inside()
    assert before is not None
    assert after is not None
    used = sum(float(minutes) * 60 + float(seconds) for minutes, seconds in re.findall(r"(\d+)m([\d.]+)s", told))
    print(f"    CPU: {after - before:.2f} s seen from outside, {used:.2f} s by the process")
    assert used > 0.5
    assert used <= after - before <= later - earlier
    assert cloud.hosts.cpu_seconds("i-00000000000000000") is None


def test_the_hosts_disks_are_not_there(cloud: Cloud, first: DesiredInstance) -> None:
    assert cloud.read(first, "find /dev -type b") == ""


def test_the_way_out(cloud: Cloud, first: DesiredInstance) -> None:
    """Names are resolved and connections leave: the first needs the host's DNS servers, the second its routing."""
    assert cloud.read(first, "sudo apt-get update -qq --error-on=any && echo done") == "done"


def test_the_host_keeps_its_own_services_to_itself(cloud: Cloud, first: DesiredInstance) -> None:
    with socket.create_server(("", 4699)):
        assert cloud.is_kept_from(first, SETTINGS.gateway, 4699)
        assert cloud.is_kept_from(first, SETTINGS.gateway, SETTINGS.metadata_port)
        assert cloud.reaches(first, "169.254.169.254", 80)


def test_security_groups(cloud: Cloud, first: DesiredInstance, second: DesiredInstance) -> None:
    serve = "sudo systemd-run --quiet --unit=serve-{0} python3 -m http.server {0}"
    for port in (80, 81):
        cloud.read(second, serve.format(port))
    wait_for(lambda: cloud.reaches(first, second.private_ip, 81))
    wait_for(lambda: cloud.reaches(first, second.private_ip, 80))
    only_80 = Firewall((SSH_FROM_HOST, Rule("tcp", 80, 80, (first.private_ip,))), (EVERYTHING,))
    cloud.network.set_guest_firewall(second.instance_id, only_80)
    assert cloud.reaches(first, second.private_ip, 80)
    assert cloud.is_kept_from(first, second.private_ip, 81)
    with pytest.raises(engine.EngineError):
        engine.run("curl", "-sf", "-m", "2", f"http://{second.private_ip}/")
    no_way_out = Firewall((SSH_FROM_HOST,), (Rule("tcp", 81, 81, ("0.0.0.0/0",)),))
    cloud.network.set_guest_firewall(first.instance_id, no_way_out)
    assert cloud.is_kept_from(first, second.private_ip, 80)
    assert cloud.reaches(first, "169.254.169.254", 80)
    # Root of an instance cannot open it from inside.
    cloud.network.set_guest_firewall(first.instance_id, OPEN)
    cloud.read(second, "sudo ip link set eth0 promisc on")
    assert cloud.is_kept_from(first, second.private_ip, 81)
    cloud.network.set_guest_firewall(second.instance_id, OPEN)
    assert cloud.reaches(first, second.private_ip, 81)


def test_load_balancer_address(cloud: Cloud, first: DesiredInstance) -> None:
    address = "10.211.0.200"
    cloud.network.add_address(address)
    server = subprocess.Popen(
        ["python3", "-m", "http.server", "--bind", address, "80"], stderr=subprocess.DEVNULL, cwd="/usr/share"
    )
    try:
        wait_for(lambda: address in engine.run("ss", "-Hltn").stdout)
        assert cloud.is_kept_from(first, address, 80)
        cloud.network.set_address_firewall(address, Firewall((Rule("tcp", 80, 80, ("0.0.0.0/0",)),), ()))
        assert cloud.reaches(first, address, 80)
        assert "<html" in engine.run("curl", "-sf", "-m", "50", f"http://{address}/").stdout.lower()
        # It may not send to instances: it has no rule for that.
        with pytest.raises(engine.EngineError):
            engine.run("curl", "-sf", "-m", "2", "--interface", address, f"http://{first.private_ip}:22/")
    finally:
        server.kill()
        server.wait()
        cloud.network.remove_address(address)
    assert address not in cloud.network.addresses()


def test_a_volume_moves_and_survives(cloud: Cloud, first: DesiredInstance, second: DesiredInstance) -> None:
    volumes = cloud.volumes
    volumes.create("vol-01", 1)
    volumes.attach(first.instance_id, "vol-01", "/dev/sdf")
    cloud.read(
        first, "sudo mkfs.ext4 -q /dev/xvdf && sudo mount /dev/xvdf /mnt && echo kept | sudo tee /mnt/file && sync"
    )
    with pytest.raises(engine.EngineError, match="still mounted"):
        volumes.detach(first.instance_id, "vol-01")
    with pytest.raises(engine.EngineError, match="detach it first"):
        volumes.attach(second.instance_id, "vol-01", "/dev/sdf")

    cloud.hosts.stop(first.instance_id)
    assert cloud.hosts.actual()[first.instance_id].state is InstanceState.STOPPED
    assert volumes.attached(first.instance_id) == {"/dev/sdf": "vol-01"}
    cloud.hosts.start(first.instance_id)
    cloud.wait(first)
    assert cloud.read(first, "sudo mount /dev/xvdf /mnt && cat /mnt/file") == "kept"

    volumes.snapshot("snap-01", "vol-01")
    cloud.read(first, "sudo umount /mnt")
    volumes.detach(first.instance_id, "vol-01")
    assert cloud.ssh(first, "test -e /dev/xvdf").returncode != 0
    volumes.attach(second.instance_id, "vol-01", "/dev/xvdf")
    volumes.create("vol-02", 2, "snap-01")
    volumes.attach(second.instance_id, "vol-02", "/dev/sdg")
    cloud.read(second, "sudo mount /dev/xvdf /mnt && sudo mount /dev/xvdg /srv")
    assert cloud.read(second, "cat /mnt/file /srv/file") == "kept\nkept"
    assert cloud.read(second, "lsblk -bndo SIZE /dev/xvdg") == str(2 * 2**30)
    cloud.read(second, "sudo umount /mnt /srv")
    for volume_id in ("vol-01", "vol-02"):
        volumes.delete(volume_id)
    volumes.delete_snapshot("snap-01")
    assert volumes.known() == set()


def test_a_reboot_from_inside(cloud: Cloud, first: DesiredInstance) -> None:
    cloud.ssh(first, "sudo systemctl reboot")
    wait_for(lambda: cloud.hosts.actual()[first.instance_id].needs_boot)
    cloud.hosts.start(first.instance_id)
    cloud.wait(first)
    assert not cloud.hosts.actual()[first.instance_id].needs_boot


def test_a_boot_that_broke_off_is_seen_and_goes_on(cloud: Cloud, first: DesiredInstance) -> None:
    name = cloud.hosts.container_name(first.instance_id)
    cloud.hosts.stop(first.instance_id)
    assert cloud.hosts.actual()[first.instance_id].state == InstanceState.STOPPED
    for broken_off in (["init", name], ["container", "cleanup", name]):
        engine.podman(*broken_off)
        assert cloud.hosts.actual()[first.instance_id].needs_boot, broken_off
    engine.podman("init", name)
    cloud.hosts.start(first.instance_id)
    cloud.wait(first)
    assert cloud.read(first, "find /dev -type b") == ""


def test_a_death_is_told_when_it_happens(cloud: Cloud, first: DesiredInstance) -> None:
    told: list[str] = []
    watch = DeathWatch(told.append, lambda _: None)
    hosts = Hosts(SETTINGS, cloud.network, cloud.volumes, watch.keep)
    watch.start()
    try:
        assert hosts.actual()[first.instance_id].state == InstanceState.RUNNING
        engine.podman("kill", "--signal=KILL", hosts.container_name(first.instance_id))
        # Nobody looks at the machine meanwhile: the kernel's word must be enough.
        wait_for(lambda: first.instance_id in told)
        wait_for(lambda: hosts.actual()[first.instance_id].state == InstanceState.STOPPED)
        hosts.start(first.instance_id)
        cloud.wait(first)
        assert told == [first.instance_id]
    finally:
        watch.stop()


def test_copies_have_keys_of_their_own(cloud: Cloud, second: DesiredInstance) -> None:
    cloud.read(second, "echo baked | sudo tee /opt/baked; sudo mkdir -p /var/lib/docker/x")
    own = "cat /etc/ssh/ssh_host_ed25519_key.pub /etc/machine-id"
    before = cloud.read(second, own)
    began = time.monotonic()
    images.commit(SETTINGS, second.instance_id, "ami-0c", stop=True)
    print(f"committed in {time.monotonic() - began:.1f} s")
    cloud.wait(second)
    assert cloud.read(second, own) == before
    copies = [cloud.launch(number, image_id="ami-0c") for number in (20, 21)]
    images.remove(SETTINGS, "ami-0c")
    seen = {before}
    for copy in copies:
        cloud.wait(copy)
        assert cloud.read(copy, "cat /opt/baked; ls /var/lib/docker") == "baked"
        assert cloud.read(copy, "hostname; sudo ls /var/lib/cloud/instances") == f"{copy.hostname}\n{copy.instance_id}"
        seen.add(cloud.read(copy, own))
    assert len(seen) == 3
    assert set(cloud.hosts.actual()) == set(cloud.instances)
    for copy in copies:
        cloud.hosts.terminate(copy.instance_id)
        del cloud.instances[copy.instance_id]
    with pytest.raises(engine.EngineError, match="no image ami-0c"):
        images.reference(SETTINGS, "ami-0c")


def test_unknown_image_leaves_nothing(cloud: Cloud) -> None:
    with pytest.raises(engine.EngineError, match="no image ami-none"):
        cloud.launch(30, image_id="ami-none")
    gone = next(found for found in cloud.instances.values() if found.image_id == "ami-none")
    cloud.hosts.terminate(gone.instance_id)
    del cloud.instances[gone.instance_id]
    assert gone.instance_id not in cloud.network.namespaces()


def test_what_docker_publishes_is_filtered_too(cloud: Cloud, first: DesiredInstance, second: DesiredInstance) -> None:
    archive = images.IMAGES_DIR / "redis.tar.gz"
    if not archive.is_file():
        images.ensure_database_archives(print)
    packages = "docker.io docker-cli iptables"
    install = f"sudo DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends {packages}"
    cloud.read(second, f"sudo apt-get update -qq && {install} >/dev/null 2>&1")
    assert cloud.read(second, "sudo docker info -f '{{.Driver}}'") == "overlay2"
    root = engine.podman("container", "inspect", "-f={{.State.Pid}}", cloud.hosts.container_name(second.instance_id))
    (Path(f"/proc/{root.stdout.strip()}/root/root/redis.tar.gz")).write_bytes(archive.read_bytes())
    cloud.read(second, "sudo docker load -qi /root/redis.tar.gz")
    publish = f"--name published -p {second.private_ip}:6379:6379"
    cloud.read(second, f"sudo docker run -d {publish} docker.io/library/redis:8 redis-server --protected-mode no")
    wait_for(lambda: cloud.reaches(first, second.private_ip, 6379))
    cloud.network.set_guest_firewall(second.instance_id, Firewall((SSH_FROM_HOST,), (EVERYTHING,)))
    assert cloud.is_kept_from(first, second.private_ip, 6379)
    cloud.network.set_guest_firewall(
        second.instance_id, Firewall((SSH_FROM_HOST, Rule("tcp", 6379, 6379, (first.private_ip,))), (EVERYTHING,))
    )
    assert cloud.reaches(first, second.private_ip, 6379)

    # A hop limit of 1 keeps tokens from Docker's containers; 2 lets them through.
    ask = (
        "sudo nsenter -t $(sudo docker inspect -f '{{.State.Pid}}' published) -n "
        "curl -s -m SECONDS -o /dev/null -w '%{http_code}' "
        "-X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' http://169.254.169.254/latest/api/token"
    )
    assert cloud.ssh(second, ask.replace("SECONDS", "3")).stdout == "000"
    cloud.instances[second.instance_id] = replace(second, http_put_response_hop_limit=2)
    assert cloud.ssh(second, ask.replace("SECONDS", "60")).stdout == "200"


def test_a_crash_leaves_nothing_after_down(cloud: Cloud, second: DesiredInstance) -> None:
    """The parts are thrown away without a word, as a killed process does; new ones clean up by name alone."""
    cloud.volumes.create("vol-09", 1)
    cloud.volumes.attach(second.instance_id, "vol-09", "/dev/sdf")
    cloud.read(second, "sudo mkfs.ext4 -q /dev/xvdf && sudo mount /dev/xvdf /mnt")
    network, volumes = Network(SETTINGS), Volumes(SETTINGS)
    for part in (Hosts(SETTINGS, network, volumes), volumes, network):
        part.down()
    assert residue() == {}
    cloud.instances.clear()
