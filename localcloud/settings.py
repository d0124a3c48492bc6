"""The settings of one local cloud, and every path, port and name that follows from them.

Several clouds run side by side when their name and their network differ; all of
them share the caches of images, which are the same for every cloud.
"""

from __future__ import annotations

import ipaddress
import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path

CACHE_DIR = Path("/var/cache/localcloud")
STATE_ROOT = Path("/var/lib/localcloud")
RUN_ROOT = Path("/run/localcloud")

METADATA_ADDRESS = "169.254.169.254"
ACCOUNT_ID = "123456789012"
BASE_IMAGE_OWNER = "136693071363"
"""Debian's own AWS account (Debian wiki, "Amazon EC2 Image"), so that one look-up finds the image in both worlds."""

_NAME = re.compile(r"[a-z][a-z0-9-]{0,9}")


class SettingsError(ValueError):
    """A setting that cannot work; the text names the fix."""


@dataclass(frozen=True)
class CloudSettings:
    """One local cloud.

    Args:
        name: letters, digits and hyphens, at most 10, so that the bridge's name fits in 15.
        cidr: the network of the default VPC, a /16.
        region: the AWS region the cloud answers for.
        api_port: TCP port of the AWS API, on the bridge's own address.
        naver_port: TCP port of the Naver stand-in, on the bridge's own address.
        metadata_port: TCP port behind 169.254.169.254:80, on the bridge's own address.
        metric_period: seconds between two data points of a metric, and the period of the alarms that Auto Scaling
            makes: AWS's minute. Less makes scaling by load quicker to watch and to test; AWS itself has 60.

    Raises:
        SettingsError: a value that cannot work.
    """

    name: str = "memo"
    cidr: str = "10.201.0.0/16"
    region: str = "ap-northeast-2"
    api_port: int = 4566
    naver_port: int = 8088
    metadata_port: int = 16925
    metric_period: int = 60

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise SettingsError(
                f"the cloud's name {self.name!r} will not do: use 1 to 10 lower-case letters, digits or hyphens"
            )
        try:
            network = ipaddress.IPv4Network(self.cidr)
        except ValueError as error:
            raise SettingsError(f"--cidr {self.cidr}: {error}; use something like 10.201.0.0/16") from error
        if network.prefixlen != 16 or not network.is_private:
            raise SettingsError(f"--cidr {self.cidr}: use a private /16 network such as 10.201.0.0/16")
        if self.metric_period < 1:
            raise SettingsError(f"--metric-period {self.metric_period}: use whole seconds, 1 or more (AWS has 60)")

    @property
    def network(self) -> ipaddress.IPv4Network:
        """The VPC's network."""
        return ipaddress.IPv4Network(self.cidr)

    @property
    def gateway(self) -> str:
        """The bridge's address: the guests' router, and where API and Naver stand-in listen."""
        return str(self.network.network_address + 1)

    @property
    def bridge(self) -> str:
        """The bridge's interface name (≤ 15 characters)."""
        return f"lc-{self.name}"

    @property
    def nft_table(self) -> str:
        """The name of the cloud's own nftables table on the host."""
        return f"localcloud_{self.name.replace('-', '_')}"

    @property
    def api_url(self) -> str:
        """The AWS endpoint, for the host and for the guests."""
        return f"http://{self.gateway}:{self.api_port}"

    @property
    def naver_url(self) -> str:
        """The Naver stand-in, for the browser and for the guests."""
        return f"http://{self.gateway}:{self.naver_port}"

    @property
    def domain(self) -> str:
        """The domain of load balancers' names (`.internal` is reserved for private use by ICANN)."""
        return f"elb.{self.name}.internal"

    @property
    def state_dir(self) -> Path:
        """What must outlive the daemon: volumes, snapshots. Gone after `down`."""
        return STATE_ROOT / self.name

    @property
    def run_dir(self) -> Path:
        """Pid file, log, HAProxy's files. Gone after `down`."""
        return RUN_ROOT / self.name

    def save(self) -> None:
        """Write the settings where later commands find them."""
        self.run_dir.mkdir(parents=True, exist_ok=True)
        (self.run_dir / "settings.json").write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, name: str) -> CloudSettings:
        """The settings of the cloud that runs (or crashed) under this name.

        Raises:
            SettingsError: there is no such cloud.
        """
        path = RUN_ROOT / name / "settings.json"
        if not path.is_file():
            raise SettingsError(f"no local cloud named {name!r} is up; start it with: localcloud up --name {name}")
        return cls(**json.loads(path.read_text(encoding="utf-8")))
