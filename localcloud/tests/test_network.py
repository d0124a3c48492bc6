"""Security groups as packet filter rules, and a network that comes and goes in a namespace of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from localcloud import network
from localcloud.engine import EngineError
from localcloud.model import Rule
from localcloud.network import _statements, name_servers

ANYWHERE = ("0.0.0.0/0",)


@pytest.mark.parametrize(
    ("rule", "statement"),
    [
        (Rule("tcp", 80, 80, ANYWHERE), "ip saddr { 0.0.0.0/0 } tcp dport 80-80 accept"),
        (Rule("udp", 1, 9, ("10.0.0.1/32",)), "ip saddr { 10.0.0.1/32 } udp dport 1-9 accept"),
        (Rule("tcp", None, None, ("10.0.0.1",)), "ip saddr { 10.0.0.1/32 } meta l4proto tcp accept"),
        (Rule("icmp", None, None, ("10.0.0.0/8",)), "ip saddr { 10.0.0.0/8 } meta l4proto icmp accept"),
        (Rule("all", None, None, ("10.0.0.0/8", "10.1.0.0/16")), "ip saddr { 10.0.0.0/8 } accept"),
        (Rule("all", None, None, ("10.0.0.0/8", "::/0")), "ip saddr { 10.0.0.0/8 } accept"),
    ],
)
def test_statement(rule: Rule, statement: str) -> None:
    assert list(_statements([rule], "saddr")) == [statement]


@pytest.mark.parametrize("sources", [(), ("::/0",)])
def test_no_sources_match_nothing(sources: tuple[str, ...]) -> None:
    assert list(_statements([Rule("all", None, None, sources)], "saddr")) == []


def test_the_hosts_own_connections_are_judged_by_its_addresses() -> None:
    rules = [Rule("tcp", 80, 80, ("10.9.0.0/16",)), Rule("tcp", 81, 81, ("10.8.0.0/16",))]
    assert list(_statements(rules, None, host=("10.9.0.1",))) == ["tcp dport 80-80 accept"]


def test_resolvers_on_loopback_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "search a\nnameserver 127.0.0.53\nnameserver ::1\nnameserver 192.0.2.53\nnameserver nonsense\n"
    monkeypatch.setattr(Path, "is_file", lambda path: str(path) == "/etc/resolv.conf")
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: text)
    assert name_servers() == ("192.0.2.53",)
    text = "nameserver 127.0.0.53\n"
    with pytest.raises(EngineError, match="nameserver"):
        name_servers()


@pytest.mark.machine
@pytest.mark.parametrize("policy", ["ACCEPT", "DROP"])
def test_up_and_down_leave_the_machine_as_it_was(policy: str, tmp_path: Path) -> None:
    """In a network namespace of its own, where another firewall may drop everything, a router may be off, and so on."""
    script = f"""
import subprocess
from pathlib import Path
from localcloud import network as network_module, settings
from localcloud.network import Network
from localcloud.settings import CloudSettings
settings.RUN_ROOT = Path("{tmp_path}")
network_module._FORWARDING_WAS_OFF = Path("{tmp_path}/forwarding")
def show():
    ask = "nft list ruleset; ip -brief link; cat /proc/sys/net/ipv4/ip_forward; iptables -S"
    return subprocess.run(ask, shell=True, capture_output=True, text=True, check=True).stdout
for chain in ("INPUT", "FORWARD"):
    subprocess.run(["iptables", "-P", chain, "{policy}"], check=True)
before = show()
network = Network(CloudSettings(name="mach2", cidr="10.210.0.0/16"))
network.up()
network.up()
network.add_guest("i-0abc", "10.210.0.10", "0a:6c:0a:d2:00:0a")
network.add_address("10.210.0.20")
assert network.addresses() == {{"10.210.0.20"}}
assert set(network.namespaces()) == {{"i-0abc"}}
rules = subprocess.run(["iptables", "-S"], capture_output=True, text=True, check=True).stdout
assert rules.count("lc-mach2") == ({{"ACCEPT": 0, "DROP": 3}}["{policy}"]), rules
# Another object: nothing is remembered but what is in the machine.
Network(CloudSettings(name="mach2", cidr="10.210.0.0/16")).down()
assert show() == before, show()
assert not Path("/run/netns/lc-mach2-i-0abc").exists()
network.down()
"""
    _in_a_fresh_network(script)


@pytest.mark.machine
def test_a_network_in_use_is_refused() -> None:
    script = """
import subprocess
from localcloud.engine import EngineError
from localcloud.network import Network
from localcloud.settings import CloudSettings
subprocess.run("ip link add d0 type bridge && ip address add 10.210.7.1/24 dev d0", shell=True, check=True)
cloud = CloudSettings(name="mach2", cidr="10.210.0.0/16")
try:
    Network(cloud).up()
except EngineError as error:
    assert "overlaps 10.210.7.0/24 on d0" in str(error), error
else:
    raise SystemExit("not refused")
assert not cloud.run_dir.exists()
"""
    _in_a_fresh_network(script)


def _in_a_fresh_network(script: str) -> None:
    """Run a Python script where no network is but its own; /sys shows that of whoever mounts it."""
    done = subprocess.run(
        [
            "unshare",
            "--net",
            "--mount",
            "sh",
            "-c",
            'mount -t sysfs sysfs /sys && exec "$0" -c "$1"',
            sys.executable,
            script,
        ],
        cwd=Path(network.__file__).parent.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
