"""MySQL and Redis as Docker images, made from Debian packages: a registry may be out of reach.

Both are tagged with the names of the official images and honour their documented variables, so that a role
uses either without knowing which. The archives are for `docker load`; the same images stay in localcloud's own
storage, for tests that need a real database.

Measured: mmdebstrap 167 s for MySQL and 74 s for Redis, 155 MB and 36 MB compressed; both are built at once.
"""

from __future__ import annotations

import gzip
import hashlib
import shutil
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from .engine import EngineError, podman, prepare, run
from .settings import CACHE_DIR

Report = Callable[[str], None]

_GUEST_DIR = Path(__file__).with_name("guest")
_NEEDED_BYTES = 4 << 30
_BUILD_SECONDS = 1500
_EXCLUDED = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*")


@dataclass(frozen=True)
class DatabaseImage:
    """How one database image is made.

    Args:
        name: of the archive.
        tag: the official image's name, with a registry: Docker asks its hub for a bare `localhost/` tag.
        suite: Debian's suite that has the server.
        packages: what is installed in it.
        entrypoint: a file of `guest/`, installed as `docker-entrypoint.sh`.
        user: the server's own user; the packages' scripts do not make it.
        changes: the image's configuration, in the words of `podman import --change`.
    """

    name: str
    tag: str
    suite: str
    packages: tuple[str, ...]
    entrypoint: str
    user: str
    changes: tuple[str, ...]

    @property
    def archive(self) -> Path:
        """The Docker archive."""
        return CACHE_DIR / "images" / f"{self.name}.tar.gz"

    def recipe(self) -> str:
        """A hash of all that goes into the image; a cached archive of another recipe is built anew."""
        text = repr(self) + (_GUEST_DIR / self.entrypoint).read_text(encoding="utf-8")
        return hashlib.sha256(text.encode()).hexdigest()


MYSQL = DatabaseImage(
    name="mysql",
    tag="docker.io/library/mysql:9.7",
    # Debian's stable releases have no MySQL; sid has.
    suite="sid",
    packages=("mysql-server-core", "mysql-client-core", "passwd", "openssl"),
    entrypoint="mysql-entrypoint.sh",
    user="mysql",
    changes=(
        'ENTRYPOINT ["docker-entrypoint.sh"]',
        'CMD ["mysqld"]',
        "VOLUME /var/lib/mysql",
        "EXPOSE 3306",
        "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    ),
)
REDIS = DatabaseImage(
    name="redis",
    tag="docker.io/library/redis:8",
    suite="trixie",
    packages=("redis-server", "redis-tools"),
    entrypoint="redis-entrypoint.sh",
    user="redis",
    changes=(
        'ENTRYPOINT ["docker-entrypoint.sh"]',
        'CMD ["redis-server"]',
        "VOLUME /data",
        "WORKDIR /data",
        "EXPOSE 6379",
        "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    ),
)


def ensure_database_archives(report: Report) -> tuple[Path, Path]:
    """Build what the cache does not hold, both at once.

    Args:
        report: told what is going on, a line at a time.

    Returns:
        The archives of MySQL and Redis, for `docker load`.

    Raises:
        EngineError: a build failed or the disk is too full; nothing half-made is left.
    """
    prepare()
    with ThreadPoolExecutor(max_workers=2) as pool:
        futures = [pool.submit(_ensure, image, report) for image in (MYSQL, REDIS)]
        mysql, redis = [future.result() for future in futures]
    return mysql, redis


def _ensure(image: DatabaseImage, report: Report) -> Path:
    stamp = image.archive.with_name(f"{image.name}.recipe")
    built = image.archive.is_file() and stamp.is_file() and stamp.read_text(encoding="utf-8") == image.recipe()
    if built and podman("image", "exists", image.tag, check=False).returncode == 0:
        return image.archive
    image.archive.parent.mkdir(parents=True, exist_ok=True)
    _check_disk(image)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix=f".{image.name}-", dir=image.archive.parent) as folder:
        if built:
            report(f"{image.name}: loading the cached archive")
            _load(image.archive, Path(folder) / "image.tar")
            return image.archive
        report(f"{image.name}: building from Debian {image.suite} (2 to 4 minutes, once)")
        _build(image, Path(folder))
        (Path(folder) / "image.tar.gz").replace(image.archive)
    stamp.write_text(image.recipe(), encoding="utf-8")
    size = image.archive.stat().st_size / 1e6
    report(f"{image.name}: {image.archive} ({size:.0f} MB) after {time.monotonic() - started:.0f} s")
    return image.archive


def _check_disk(image: DatabaseImage) -> None:
    free = shutil.disk_usage(image.archive.parent).free
    if free < _NEEDED_BYTES:
        raise EngineError(
            f"{image.name}: {image.archive.parent} has {free / 1e9:.1f} GB free, "
            f"a build needs {_NEEDED_BYTES / 1e9:.0f}; free some space and run this again"
        )


def _load(archive: Path, unpacked: Path) -> None:
    # Not every podman reads a compressed archive (measured: 4.3 does not).
    with gzip.open(archive, "rb") as source, unpacked.open("wb") as target:
        shutil.copyfileobj(source, target)
    podman("load", "--input", str(unpacked))


def _build(image: DatabaseImage, folder: Path) -> None:
    root = folder / "root.tar"
    user = image.user
    run(
        "mmdebstrap",
        "--quiet",
        "--variant=minbase",
        f"--include={','.join(image.packages)}",
        # sid's Release file on a mirror can be past its date; its signature is checked all the same.
        '--aptopt=Acquire::Check-Valid-Until "false"',
        *(f"--dpkgopt=path-exclude={pattern}" for pattern in _EXCLUDED),
        f"--customize-hook=copy-in {_GUEST_DIR / image.entrypoint} /usr/local/bin",
        f'--customize-hook=chroot "$1" sh -c "cd /usr/local/bin && mv {image.entrypoint} docker-entrypoint.sh'
        ' && chmod 755 docker-entrypoint.sh"',
        f'--customize-hook=chroot "$1" sh -c "getent passwd {user} >/dev/null'
        f' || useradd --system --user-group --home-dir /nonexistent --shell /usr/sbin/nologin {user}"',
        '--customize-hook=mkdir -p "$1"/docker-entrypoint-initdb.d "$1"/data "$1"/etc/mysql/conf.d',
        f'--customize-hook=if [ {user} = mysql ]; then mkdir -p "$1"/etc/mysql'
        ' && printf "!includedir /etc/mysql/conf.d/\\n" > "$1"/etc/mysql/my.cnf; fi',
        image.suite,
        str(root),
        timeout=_BUILD_SECONDS,
    )
    changes = [word for change in image.changes for word in ("--change", change)]
    podman("import", "--quiet", *changes, str(root), image.tag)
    root.unlink()
    saved = folder / "image.tar"
    podman("save", "--quiet", "--format", "docker-archive", "--output", str(saved), image.tag)
    # The quickest level: the archive crosses one bridge, once.
    with saved.open("rb") as source, gzip.open(folder / "image.tar.gz", "wb", compresslevel=1) as target:
        shutil.copyfileobj(source, target, 1 << 20)
    saved.unlink()
