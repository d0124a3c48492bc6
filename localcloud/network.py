"""The cloud's network: a bridge, a namespace per instance, and security groups on the wire.

The bridge's ports are isolated from one another, and the host answers ARP for everybody (`proxy_arp_pvlan`).
So every packet between two instances is routed by the host and passes its packet filter, with
connection tracking. That puts the filter outside of the instances: neither what Docker publishes in one nor its
root can slip past it.

One nftables table per cloud on the host has it all: two chains per address, chosen by verdict maps, so that
a change of one address' rules is one atomic transaction.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import re
from collections.abc import Iterable
from pathlib import Path

from .engine import EngineError, run
from .model import Firewall, Rule
from .settings import METADATA_ADDRESS, RUN_ROOT, CloudSettings

_FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")
_FORWARDING_WAS_OFF = RUN_ROOT / ".ip_forward-was-off"
_NETNS_DIR = Path("/run/netns")
_IPTABLES_CHAINS = {"INPUT": ("-i",), "FORWARD": ("-i", "-o")}


def name_servers() -> tuple[str, ...]:
    """The host's DNS servers that its instances can reach as well, so without those on loopback.

    Returns:
        IPv4 addresses, at most three (resolv.conf(5)).

    Raises:
        EngineError: there is none.
    """
    # systemd-resolved listens on 127.0.0.53 and keeps the real ones in a file of its own (systemd-resolved(8)).
    for path in (Path("/run/systemd/resolve/resolv.conf"), Path("/etc/resolv.conf")):
        if not path.is_file():
            continue
        found = []
        for line in path.read_text(encoding="utf-8").splitlines():
            words = line.split()
            if len(words) < 2 or words[0] != "nameserver":
                continue
            try:
                address = ipaddress.ip_address(words[1])
            except ValueError:
                continue
            if address.version == 4 and not address.is_loopback:
                found.append(words[1])
        if found:
            return tuple(found[:3])
    raise EngineError(
        "no DNS server that instances could use: all in /etc/resolv.conf are on loopback or IPv6. "
        "Add a line such as `nameserver 192.0.2.53` with the address of your network's server."
    )


class Network:
    """The network of one cloud.

    Args:
        settings: the cloud's settings.
    """

    def __init__(self, settings: CloudSettings) -> None:
        self._settings = settings
        self._bridge = settings.bridge
        self._table = settings.nft_table
        self._guests = settings.run_dir / "guests"

    def up(self) -> None:
        """Make the bridge, the packet filter and the way out; does nothing where they exist.

        Raises:
            EngineError: the machine cannot; the text names the fix.
        """
        self._check_free()
        self._guests.mkdir(parents=True, exist_ok=True)
        if not self._link_exists(self._bridge):
            # An address of its own; otherwise a bridge takes the lowest of its ports', and instances would lose
            # their router whenever that changes.
            mac = "02:00:" + ":".join(f"{byte:02x}" for byte in ipaddress.IPv4Address(self._settings.gateway).packed)
            run("ip", "link", "add", self._bridge, "address", mac, "type", "bridge")
        prefix = self._settings.network.prefixlen
        run("ip", "address", "replace", f"{self._settings.gateway}/{prefix}", "dev", self._bridge)
        run("ip", "link", "set", self._bridge, "mtu", str(self._mtu()), "up")
        sysctl = Path("/proc/sys/net/ipv4/conf") / self._bridge
        (sysctl / "proxy_arp_pvlan").write_text("1", encoding="ascii")
        self._forward()
        self._nft(self._ruleset())
        self._open_iptables()

    def down(self) -> None:
        """Remove all that `up` and the other methods made, found by its name, so after a crash as well."""
        for port in self._ports():
            run("ip", "link", "delete", port)
        for namespace in self.namespaces().values():
            run("ip", "netns", "delete", namespace)
        if self._link_exists(self._bridge):
            run("ip", "link", "delete", self._bridge)
        if self._table_exists():
            run("nft", "delete", "table", "inet", self._table)
        self._close_iptables()
        for record in self._guests.glob("*.json"):
            record.unlink()
        if self._guests.exists():
            self._guests.rmdir()
        if _FORWARDING_WAS_OFF.exists() and not self._other_clouds():
            _FORWARDING.write_text("0", encoding="ascii")
            _FORWARDING_WAS_OFF.unlink()

    def add_guest(self, instance_id: str, ip: str, mac: str) -> Path:
        """Make an instance's network namespace with its interface; closed to everybody until rules are set.

        Args:
            instance_id: the instance.
            ip: its private address.
            mac: its MAC address. Fixed, because a host remembers an old one for up to a minute.

        Returns:
            The namespace's path.
        """
        namespace = self._namespace(instance_id)
        path = _NETNS_DIR / namespace
        if namespace in self.namespaces().values():
            return path
        self._guests.mkdir(parents=True, exist_ok=True)
        self._record(instance_id).write_text(json.dumps({"ip": ip, "mac": mac}), encoding="utf-8")
        run("ip", "netns", "add", namespace)
        port = self._port(instance_id)
        if self._link_exists(port):
            run("ip", "link", "delete", port)
        mtu = str(self._mtu())
        run("ip", "link", "add", port, "mtu", mtu, "type", "veth",
            "peer", "name", "eth0", "address", mac, "mtu", mtu, "netns", namespace)  # fmt: skip
        run("ip", "link", "set", port, "master", self._bridge, "up")
        run("ip", "link", "set", port, "type", "bridge_slave", "isolated", "on")
        commands = (
            "link set lo up",
            "link set eth0 up",
            f"address add {ip}/{self._settings.network.prefixlen} dev eth0",
            f"route add default via {self._settings.gateway}",
        )
        run("ip", "-netns", namespace, "-batch", "-", input="\n".join(commands).encode())
        # As systemd has it on a machine of its own, so that everybody can ping (systemd's 50-default.conf).
        run("ip", "netns", "exec", namespace, "sysctl", "-qw", "net.ipv4.ping_group_range=0 2147483647")
        return path

    def remove_guest(self, instance_id: str) -> None:
        """Remove an instance's namespace, interface and rules, as far as they exist."""
        record = self._record(instance_id)
        if record.is_file():
            self._drop_chains(json.loads(record.read_text(encoding="utf-8"))["ip"], "guest")
        # The cable first: the kernel takes its time to remove what is left in a namespace.
        port = self._port(instance_id)
        if self._link_exists(port):
            run("ip", "link", "delete", port)
        namespace = self._namespace(instance_id)
        if namespace in self.namespaces().values():
            run("ip", "netns", "delete", namespace)
        record.unlink(missing_ok=True)

    def set_guest_firewall(self, instance_id: str, firewall: Firewall) -> None:
        """Replace what an instance may receive and send, at once.

        Raises:
            EngineError: the instance has no namespace.
        """
        record = self._record(instance_id)
        if not record.is_file():
            raise EngineError(f"{instance_id} has no network; add it before its rules")
        self._set_chains(json.loads(record.read_text(encoding="utf-8"))["ip"], "guest", firewall)

    def add_address(self, ip: str) -> None:
        """Put a load balancer's address on the bridge; closed to everybody until rules are set."""
        run("ip", "address", "replace", f"{ip}/32", "dev", self._bridge)

    def remove_address(self, ip: str) -> None:
        """Take a load balancer's address away with its rules, as far as they exist."""
        self._drop_chains(ip, "address")
        if ip in self.addresses():
            run("ip", "address", "delete", f"{ip}/32", "dev", self._bridge)

    def set_address_firewall(self, ip: str, firewall: Firewall) -> None:
        """Replace what a load balancer's address may receive and send, at once."""
        self._set_chains(ip, "address", firewall)

    def addresses(self) -> set[str]:
        """The load balancers' addresses that are on the bridge."""
        if not self._link_exists(self._bridge):
            return set()
        shown = json.loads(run("ip", "-json", "-4", "address", "show", "dev", self._bridge).stdout)
        found = {entry["local"] for link in shown for entry in link.get("addr_info", ())}
        return found - {self._settings.gateway}

    def namespaces(self) -> dict[str, str]:
        """The network namespaces of this cloud's instances, by instance id."""
        pattern = re.compile(rf"lc-{re.escape(self._settings.name)}-(i-[0-9a-z]+)")
        names = (path.name for path in _NETNS_DIR.iterdir()) if _NETNS_DIR.is_dir() else iter(())
        return {match[1]: match[0] for name in names if (match := pattern.fullmatch(name))}

    def _check_free(self) -> None:
        """Refuse a network that something else on this machine uses already."""
        shown = json.loads(run("ip", "-json", "-4", "address", "show").stdout)
        for link in shown:
            for entry in link.get("addr_info", ()):
                other = ipaddress.IPv4Interface(f"{entry['local']}/{entry['prefixlen']}").network
                if link["ifname"] != self._bridge and other.overlaps(self._settings.network):
                    raise EngineError(
                        f"{self._settings.cidr} overlaps {other} on {link['ifname']}; choose another with --cidr"
                    )

    def _mtu(self) -> int:
        """The MTU of the way out, so that answers from outside are never too large for the instances."""
        routes = json.loads(run("ip", "-json", "-4", "route", "show", "default").stdout or "[]")
        if not routes:
            return 1500
        link = json.loads(run("ip", "-json", "link", "show", "dev", routes[0]["dev"]).stdout)[0]
        return min(int(link["mtu"]), 1500)

    def _forward(self) -> None:
        if _FORWARDING.read_text(encoding="ascii").strip() == "0":
            _FORWARDING_WAS_OFF.touch()
            _FORWARDING.write_text("1", encoding="ascii")

    def _other_clouds(self) -> bool:
        tables = json.loads(run("nft", "--json", "list", "tables").stdout)["nftables"]
        return any(entry.get("table", {}).get("name", "").startswith("localcloud_") for entry in tables)

    def _record(self, instance_id: str) -> Path:
        return self._guests / f"{instance_id}.json"

    def _namespace(self, instance_id: str) -> str:
        return f"lc-{self._settings.name}-{instance_id}"

    def _port(self, instance_id: str) -> str:
        """The host's end of an instance's cable; 15 characters are all a name can have."""
        return "lv" + hashlib.sha256(self._namespace(instance_id).encode()).hexdigest()[:12]

    def _ports(self) -> list[str]:
        if not self._link_exists(self._bridge):
            return []
        return [
            link["ifname"] for link in json.loads(run("ip", "-json", "link", "show", "master", self._bridge).stdout)
        ]

    @staticmethod
    def _link_exists(name: str) -> bool:
        return (Path("/sys/class/net") / name).exists()

    # The packet filter.

    def _nft(self, script: str) -> None:
        """Apply a script as one transaction (nft(8), "Atomic rule replacement")."""
        run("nft", "-f", "-", input=script.encode())

    def _table_exists(self) -> bool:
        return run("nft", "list", "table", "inet", self._table, check=False).returncode == 0

    def _ruleset(self) -> str:
        """The table without its per-address chains and elements; applying it again leaves those alone."""
        gateway, bridge, cidr = self._settings.gateway, self._bridge, self._settings.cidr
        services = f"{{ {self._settings.api_port}, {self._settings.naver_port} }}"
        resolvers = f"{{ {', '.join(name_servers())} }}"
        base_chains = {
            # What instances send. After connection tracking (-200), before the metadata service's DNAT (-100).
            # Security groups filter neither the metadata service nor the VPC's resolver (Amazon VPC User
            # Guide, "Security groups"); this cloud's API is let through like them.
            "from_guests": (
                "type filter hook prerouting priority -150; policy accept;",
                f'iifname != "{bridge}" accept',
                "meta nfproto ipv6 drop",
                "ct state established,related accept",
                f"ip daddr {METADATA_ADDRESS} tcp dport 80 accept",
                f"ip daddr {resolvers} meta l4proto {{ tcp, udp }} th dport 53 accept",
                f"ip daddr {gateway} tcp dport {services} accept",
                f"ip daddr {gateway} icmp type echo-request accept",
                "ip saddr vmap @guest_egress",
                "drop",
            ),
            # What the host receives from instances: nothing but the cloud's own services.
            "to_host": (
                "type filter hook input priority 0; policy accept;",
                'iifname "lo" ct state new ip daddr vmap @address_local',
                f'iifname != "{bridge}" accept',
                "ct state established,related accept",
                "ct status dnat accept",
                f"ip daddr {resolvers} meta l4proto {{ tcp, udp }} th dport 53 accept",
                f"ip daddr {gateway} tcp dport {services} accept",
                f"ip daddr {gateway} icmp type echo-request accept",
                "ip daddr vmap @address_ingress",
                "drop",
            ),
            # The machine has become a router: nobody outside may use it to reach an instance.
            "from_outside": (
                "type filter hook forward priority 0; policy accept;",
                f'iifname != "{bridge}" oifname "{bridge}" ct state new drop',
            ),
            # What load balancers send.
            "from_host": (
                "type filter hook output priority 0; policy accept;",
                f'oifname "{bridge}" icmp type redirect drop',
                f'oifname "{bridge}" ct state new ip saddr vmap @address_egress',
            ),
            # What instances receive, from each other and from the host.
            "to_guests": (
                "type filter hook postrouting priority -150; policy accept;",
                f'oifname != "{bridge}" accept',
                "ct state established,related accept",
                "ip daddr vmap @guest_ingress",
                "drop",
            ),
            "metadata": (
                "type nat hook prerouting priority dstnat; policy accept;",
                f'iifname "{bridge}" ip daddr {METADATA_ADDRESS} tcp dport 80 '
                f"dnat ip to {gateway}:{self._settings.metadata_port}",
            ),
            "way_out": (
                "type nat hook postrouting priority srcnat; policy accept;",
                f"ip saddr {cidr} ip daddr != {cidr} masquerade",
            ),
        }
        lines = [f"table inet {self._table} {{"]
        for name in ("guest_egress", "guest_ingress", "address_egress", "address_ingress", "address_local"):
            lines.append(f"  map {name} {{ type ipv4_addr : verdict; }}")
        lines += [f"  chain {name} {{ {rules[0]} }}" for name, rules in base_chains.items()]
        lines.append("}")
        for name, rules in base_chains.items():
            lines.append(f"flush chain inet {self._table} {name}")
            lines += [f"add rule inet {self._table} {name} {rule}" for rule in rules[1:]]
        return "\n".join(lines) + "\n"

    def _set_chains(self, ip: str, kind: str, firewall: Firewall) -> None:
        suffix = ip.replace(".", "_")
        chains = {
            "ingress": list(_statements(firewall.ingress, "saddr")),
            "egress": list(_statements(firewall.egress, "daddr")),
        }
        if kind == "address":
            # A connection from the host to its own address arrives on loopback, from that very address:
            # it is judged as if it came from the bridge's.
            chains["local"] = list(_statements(firewall.ingress, None, host=(self._settings.gateway, ip)))
        script = []
        for direction, statements in chains.items():
            chain = f"inet {self._table} {direction}_{suffix}"
            script += [f"add chain {chain}", f"flush chain {chain}"]
            script += [f"add rule {chain} {statement}" for statement in (*statements, "drop")]
            script.append(f"add element inet {self._table} {kind}_{direction} {{ {ip} : goto {direction}_{suffix} }}")
        self._nft("\n".join(script) + "\n")

    def _drop_chains(self, ip: str, kind: str) -> None:
        suffix = ip.replace(".", "_")
        for direction in ("ingress", "egress", "local"):
            chain = f"{direction}_{suffix}"
            if run("nft", "list", "chain", "inet", self._table, chain, check=False).returncode == 0:
                self._nft(
                    f"delete element inet {self._table} {kind}_{direction} {{ {ip} }}\n"
                    f"flush chain inet {self._table} {chain}\ndelete chain inet {self._table} {chain}\n"
                )

    # Another firewall on this machine (Docker, ufw) may drop by default what it does not know.

    def _iptables_rules(self) -> Iterable[tuple[str, ...]]:
        for chain, directions in _IPTABLES_CHAINS.items():
            for direction in directions:
                yield (chain, direction, self._bridge, "-m", "comment", "--comment", self._table, "-j", "ACCEPT")

    def _open_iptables(self) -> None:
        for rule in self._iptables_rules():
            policy = run_iptables("-S", rule[0])
            if policy is None or f"-P {rule[0]} DROP" not in policy:
                continue
            if run_iptables("-C", *rule) is None:
                run("iptables", "-w", "-I", *rule)

    def _close_iptables(self) -> None:
        for rule in self._iptables_rules():
            while run_iptables("-C", *rule) is not None:
                run("iptables", "-w", "-D", *rule)


def run_iptables(*arguments: str) -> str | None:
    """What iptables answers, or None when it says no or is not installed (then nobody else uses it either)."""
    if not any((Path(folder) / "iptables").exists() for folder in ("/usr/sbin", "/sbin", "/usr/bin")):
        return None
    result = run("iptables", "-w", *arguments, check=False)
    return result.stdout if result.returncode == 0 else None


def _statements(rules: Iterable[Rule], side: str | None, *, host: tuple[str, ...] = ()) -> Iterable[str]:
    """A security group's permissions as nft statements.

    Args:
        rules: the permissions.
        side: `saddr` or `daddr`, what their sources are compared with; None to take only the rules that hold
            for one of `host`, without comparing.
        host: addresses of the host.
    """
    for rule in rules:
        networks = [network for source in rule.sources if (network := _network(source)) is not None]
        if not networks:
            continue
        if side is None:
            if not any(ipaddress.IPv4Address(address) in network for address in host for network in networks):
                continue
            where = ""
        else:
            where = f"ip {side} {{ {', '.join(str(network) for network in ipaddress.collapse_addresses(networks))} }} "
        if rule.protocol == "all":
            yield f"{where}accept"
        elif rule.protocol == "icmp":
            yield f"{where}meta l4proto icmp accept"
        elif rule.from_port is None or rule.to_port is None:
            yield f"{where}meta l4proto {rule.protocol} accept"
        else:
            yield f"{where}{rule.protocol} dport {rule.from_port}-{rule.to_port} accept"


def _network(source: str) -> ipaddress.IPv4Network | None:
    """A rule's source as a network; None for IPv6, which this cloud does not have."""
    network = ipaddress.ip_network(source, strict=False)
    return network if isinstance(network, ipaddress.IPv4Network) else None
