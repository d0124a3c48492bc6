"""Machine images: the base image, made from Debian's packages, and those committed from instances.

The base image is kept as a tar in the cache, named after the hash of its recipe. An image in podman's storage is
named after its AMI id: `localhost/localcloud/base:ami-…`, `localhost/localcloud/CLOUD:ami-…`.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from . import containers
from .build import Report, archive, debian_root, host_certificates, workshop
from .database_images import ensure_database_archives
from .engine import EngineError, podman, run_inside
from .settings import CACHE_DIR, CloudSettings
from .volumes import Volumes

__all__ = ["BaseImage", "commit", "ensure_base", "ensure_database_archives", "reference", "remove", "remove_all"]

IMAGES_DIR = CACHE_DIR / "images"
BASE_REPOSITORY = "localhost/localcloud/base"
DEFAULT_USER = "admin"
"""The base image's user, as on Debian's AMIs (Debian wiki, "Amazon EC2 Image")."""

_GUEST_FILES = Path(__file__).parent / "guest"
_DATA_SOURCE_DIR = "usr/lib/python3/dist-packages/localcloud_guest"
_SUITE = "trixie"
_PACKAGES = (
    "systemd", "systemd-sysv", "dbus", "openssh-server", "python3", "python3-apt", "sudo", "iproute2",
    "ca-certificates", "cloud-init", "netbase", "less", "procps", "e2fsprogs", "iputils-ping", "curl",
)  # fmt: skip
_MASKED = (
    # There is no terminal, no hardware, and the kernel is the host's: its settings are not the instance's business.
    "console-getty.service", "getty@.service", "systemd-udevd.service", "systemd-udev-trigger.service",
    "systemd-udev-settle.service", "systemd-modules-load.service", "systemd-sysctl.service", "systemd-pstore.service",
    "cloud-init-hotplugd.socket", "cloud-init-hotplugd.service", "fstrim.timer",
    # Every instance of a laptop's cloud would ask the mirror at the same time.
    "apt-daily.timer", "apt-daily-upgrade.timer",
)  # fmt: skip
_OPTIONS = (
    "--dpkgopt=path-exclude=/usr/share/man/*",
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
    "--customize-hook=tar-in {files} /",
    '--customize-hook=chroot "$1" update-ca-certificates',
    # cloud-init makes host keys and the name for each instance.
    '--customize-hook=rm -f "$1"/etc/ssh/ssh_host_* && for file in machine-id resolv.conf hostname; '
    'do : > "$1/etc/$file"; done',
    # ansible.builtin.apt takes the time of the lists' directory for that of the last update; mmdebstrap's own way of
    # emptying it comes after the hooks and would make that now.
    "--skip=cleanup/apt",
    '--customize-hook=rm -rf "$1"/var/lib/apt/lists/* "$1"/var/cache/apt/*.bin "$1"/var/cache/apt/archives/*.deb && '
    'touch -d @0 "$1/var/lib/apt/lists"',
)
_BUILD_SPACE_GIB = 2.0
_COMMIT_SPACE_GIB = 2.0

_UNSEALED = (
    "etc/ssh/ssh_host_*", "var/lib/cloud/*", "var/lib/dbus/machine-id", "var/lib/systemd/random-seed",
    "var/log/cloud-init*.log", "var/log/journal/*", "var/log/apt/*", "var/log/dpkg.log", "var/log/wtmp*",
    "var/log/btmp*", "var/log/lastlog", "run/*", "tmp/*", "var/tmp/*",
)  # fmt: skip
"""What an instance has of its own, and a copy of it must not have; patterns below the root."""


@dataclass(frozen=True)
class BaseImage:
    """The image that instances start from.

    Args:
        reference: its name in podman's storage.
        ami_id: its id, derived from its recipe.
        name: Debian's way of naming, `debian-13-amd64-YYYYMMDD-NNNN`.
        creation_date: ISO 8601, UTC.
    """

    reference: str
    ami_id: str
    name: str
    creation_date: str


def ensure_base(report: Report) -> BaseImage:
    """The base image, in podman's storage; built when its recipe has changed or the cache is empty.

    Args:
        report: told what is going on, with seconds.

    Raises:
        EngineError: it cannot be built; the text names the fix.
    """
    files = archive(_files())
    recipe = hashlib.sha256(repr((_SUITE, _PACKAGES, _OPTIONS)).encode() + files).hexdigest()
    tar = IMAGES_DIR / f"base-{recipe[:16]}.tar"
    description = tar.with_suffix(".json")
    IMAGES_DIR.mkdir(parents=True, exist_ok=True)
    if not (tar.is_file() and description.is_file()):
        with workshop("base-image", _BUILD_SPACE_GIB) as directory:
            if not (tar.is_file() and description.is_file()):
                _build_base(directory, files, recipe, tar, report)
    base = BaseImage(**json.loads(description.read_text(encoding="utf-8")))
    if not _exists(base.reference):
        began = time.monotonic()
        report("base image: unpacking …")
        podman(
            "import", "--quiet", "--change", "STOPSIGNAL SIGRTMIN+3", "--change", 'CMD ["/sbin/init"]',
            str(tar), base.reference, timeout=600,
        )  # fmt: skip
        report(f"base image: unpacked in {time.monotonic() - began:.0f} s")
        _remove_old_bases(base)
    return base


def _remove_old_bases(base: BaseImage) -> None:
    """Remove the images of former recipes, unless a cloud is up that may still launch from one."""
    if podman("ps", "--all", "--quiet").stdout.strip():
        return
    found = podman("images", "--format={{.Repository}}:{{.Tag}}", f"--filter=reference={BASE_REPOSITORY}").stdout
    old = [name for name in found.split() if name != base.reference]
    if old:
        podman("rmi", *old)


def _files() -> dict[str, bytes | str]:
    """What the image has besides its packages."""
    files: dict[str, bytes | str] = {
        str(path.relative_to(_GUEST_FILES)): path.read_bytes()
        for path in sorted(_GUEST_FILES.rglob("*"))
        if path.is_file() and path.relative_to(_GUEST_FILES).parts[0] in {"etc", "usr"} and path.suffix != ".pyc"
    }
    files |= {f"etc/systemd/system/{unit}": "/dev/null" for unit in _MASKED}
    # cloud-init wants a data source's module to be named like its class.
    files[f"{_DATA_SOURCE_DIR}/DataSourceEc2Localcloud.py"] = "datasource.py"
    files |= host_certificates()
    return files


def _build_base(directory: Path, files: bytes, recipe: str, tar: Path, report: Report) -> None:
    (directory / "files.tar").write_bytes(files)
    options = [option.format(files=directory / "files.tar") for option in _OPTIONS]
    built = directory / "base.tar"
    debian_root(built, _SUITE, _PACKAGES, options=options, report=report, what="base image (Debian 13)")
    now = datetime.now(UTC)
    base = BaseImage(
        reference=f"{BASE_REPOSITORY}:ami-{recipe[:17]}",
        ami_id=f"ami-{recipe[:17]}",
        name=f"debian-13-amd64-{now:%Y%m%d}-{int(recipe[:8], 16) % 10000:04d}",
        creation_date=f"{now:%Y-%m-%dT%H:%M:%S}.000Z",
    )
    for old in [*IMAGES_DIR.glob("base-*.tar"), *IMAGES_DIR.glob("base-*.json")]:
        old.unlink()
    built.rename(tar)
    description = directory / "base.json"
    description.write_text(json.dumps(asdict(base), indent=2) + "\n", encoding="utf-8")
    description.rename(tar.with_suffix(".json"))


def reference(settings: CloudSettings, image_id: str) -> str:
    """An image's name in podman's storage.

    Raises:
        EngineError: there is no such image.
    """
    for name in (_own(settings, image_id), f"{BASE_REPOSITORY}:{image_id}"):
        if _exists(name):
            return name
    raise EngineError(f"there is no image {image_id} in the storage of cloud {settings.name}")


def _own(settings: CloudSettings, image_id: str) -> str:
    return f"localhost/localcloud/{settings.name}:{image_id}"


def _exists(name: str) -> bool:
    return podman("image", "exists", name, check=False).returncode == 0


def seal(container: str, target: str) -> None:
    """Make an image of a container without what belongs to that one instance; the container is left as it is.

    Host keys, machine id and the state of cloud-init are missing from the image: each copy makes its own.

    Args:
        container: the container's name.
        target: the image's name.

    Raises:
        EngineError: nothing was kept.
    """
    draft = f"{target}-draft"
    try:
        podman("commit", "--quiet", "--format=docker", container, draft, timeout=900)
        podman("create", "--name", f"{container}-draft", "--network=none", draft)
        root = Path(podman("mount", f"{container}-draft").stdout.strip())
        _remove_traces(root)
        podman("unmount", f"{container}-draft")
        podman("commit", "--quiet", "--format=docker", f"{container}-draft", target, timeout=900)
    finally:
        podman("rm", "--force", "--ignore", f"{container}-draft")
        # Only its name: its layers are those of the image.
        podman("untag", draft, check=False)


def _remove_traces(root: Path) -> None:
    """Remove from a file system what `_UNSEALED` says; podman's mounts may be in a namespace of its own."""
    patterns = " ".join(f"./{pattern}" for pattern in _UNSEALED)
    run_inside("sh", "-c", f"cd '{root}' && rm -rf {patterns} && : > etc/machine-id && : > etc/hostname")


def commit(settings: CloudSettings, instance_id: str, image_id: str, *, stop: bool) -> None:
    """Make an image of an instance's root disk.

    Args:
        settings: the cloud's settings.
        instance_id: the instance.
        image_id: the new image.
        stop: whether the instance is stopped first and started afterwards, as CreateImage does by default.

    Raises:
        EngineError: nothing was kept; the instance runs again if it did.
    """
    free_gib = shutil.disk_usage(CACHE_DIR).free / 2**30
    if free_gib < _COMMIT_SPACE_GIB:
        raise EngineError(
            f"{CACHE_DIR} has {free_gib:.1f} GiB free, and an image needs {_COMMIT_SPACE_GIB:g} GiB; make room there"
        )
    container = containers.name(settings, instance_id)
    restart = stop and containers.running_pid(container) is not None
    if restart:
        containers.shut_down(container)
    try:
        seal(container, _own(settings, image_id))
    finally:
        if restart:
            containers.boot(container, Volumes(settings).nodes(instance_id))


def remove(settings: CloudSettings, image_id: str) -> None:
    """Forget a committed image; instances made of it keep running. No error when there is none."""
    name = _own(settings, image_id)
    if _exists(name) and podman("rmi", name, check=False).returncode != 0:
        # Something still stands on it: only its name goes, the rest with the cloud.
        podman("untag", name)


def remove_all(settings: CloudSettings) -> None:
    """Forget all images committed from the cloud's instances, after the instances are gone."""
    found = podman("images", "--quiet", "--no-trunc", f"--filter=label=localcloud={settings.name}").stdout.split()
    if found:
        # Some stand on others, so each once more than needed is cheaper than sorting them.
        podman("rmi", "--force", *dict.fromkeys(found))
