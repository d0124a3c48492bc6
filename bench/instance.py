"""An instance for benchmarks: the web role's packages on the base image, with MySQL and Redis on its loopback.

The configuration is rendered from the roles' own templates with their own defaults, so that what is measured is what is
deployed. All of it is in containers without a network, and is removed at the end.
"""

from __future__ import annotations

import hashlib
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jinja2
import yaml
from ansible.plugins.filter.core import FilterModule as CoreFilters
from ansible.plugins.filter.mathstuff import FilterModule as SetFilters

from localcloud.database_images import MYSQL, REDIS, ensure_database_archives
from localcloud.engine import EngineError, podman, prepare
from localcloud.images import ensure_base

PROJECT = Path(__file__).resolve().parents[1]
PACKAGES = ("nginx-light", "uwsgi-core", "uwsgi-plugin-python3", "python3", "python3-venv", "wrk")
"""Those of the roles web and memo_app, and the load generator."""

_START_SECONDS = 180


def render(role: str, template: str, **variables: object) -> str:
    """One of the roles' templates.

    Args:
        role: its name.
        template: the file, without `.j2`.
        variables: what differs from the role's defaults.
    """
    folder = PROJECT / "roles" / role
    defaults: dict[str, Any] = yaml.safe_load((folder / "defaults" / "main.yml").read_text(encoding="utf-8"))
    internals = folder / "vars" / "main.yml"
    if internals.exists():
        found: dict[str, Any] = yaml.safe_load(internals.read_text(encoding="utf-8"))
        defaults |= {name: value for name, value in found.items() if "{{" not in str(value)}
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder / "templates"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - configuration files, not HTML
    )
    environment.filters |= CoreFilters().filters() | SetFilters().filters()
    return environment.get_template(f"{template}.j2").render(
        {"ansible_managed": "Made for a benchmark", **defaults, **variables}
    )


class Instance:
    """The running containers.

    Args:
        tag: tells them from others.
        folder: for their files.
    """

    def __init__(self, tag: str, folder: Path) -> None:
        self.web, self.mysql, self.redis = (f"memo-bench-{part}-{tag}" for part in ("web", "mysql", "redis"))
        self._folder = folder
        self.passwords = {name: secrets.token_urlsafe(18) for name in ("root", "owner", "app", "redis", "key")}

    def start(self) -> None:
        """Start all three, and wait until they answer."""
        image = _image()
        _run(self.web, "--systemd=always", "--network", "none", image, "/sbin/init")
        network = ("--network", f"container:{self.web}")
        words = self.passwords
        config = {
            "memo.cnf": render("mysql", "memo.cnf"),
            "users.sql": render(
                "mysql", "users.sql", mysql_owner_password=words["owner"], mysql_app_password=words["app"]
            ),
            "root-password": words["root"],
            "redis.conf": render("redis", "redis.conf", redis_password=words["redis"]),
        }
        for name, content in config.items():
            (self._folder / name).write_text(content, encoding="utf-8")
        self._folder.chmod(0o755)
        _run(
            self.mysql,
            *network,
            *("--env", "MYSQL_ROOT_PASSWORD_FILE=/run/secrets/root-password", "--env", "MYSQL_ROOT_HOST=localhost"),
            *("--volume", f"{self._folder}/memo.cnf:/etc/mysql/conf.d/memo.cnf:ro"),
            *("--volume", f"{self._folder}/users.sql:/docker-entrypoint-initdb.d/users.sql:ro"),
            *("--volume", f"{self._folder}/root-password:/run/secrets/root-password:ro"),
            MYSQL.tag,
        )
        _run(
            self.redis,
            *network,
            *("--volume", f"{self._folder}/redis.conf:/usr/local/etc/redis/redis.conf:ro"),
            *(REDIS.tag, "redis-server", "/usr/local/etc/redis/redis.conf"),
        )
        self._install()
        self._wait("systemctl is-active systemd-journald.service")
        self._wait("cd /opt/memo/app && . /run/memo/shell && /opt/memo/venv/bin/flask --app memo.wsgi check --connect")

    def stop(self) -> None:
        """Remove all of it."""
        for name in (self.mysql, self.redis, self.web):
            podman("stop", "--ignore", "--time", "30", name)
            podman("rm", "--force", "--volumes", "--ignore", name)

    def run(self, script: str, *, timeout: float = 60) -> str:
        """Run a shell script in the instance, as root; what it prints."""
        return podman("exec", self.web, "sh", "-euc", script, timeout=timeout).stdout

    def write(self, path: str, content: str) -> None:
        """Write a file of the instance."""
        source = self._folder / "copied"
        source.write_text(content, encoding="utf-8")
        podman("cp", str(source), f"{self.web}:{path}")

    def cpu_seconds(self, container: str) -> float:
        """What the main process of a container has used."""
        pid = podman("inspect", "--format={{.State.Pid}}", container).stdout.strip()
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / 100

    def serve(self, name: str, wsgi: str) -> None:
        """Run an application under uWSGI, as `memo_app` does, and write an nginx configuration for it."""
        runtime = f"/run/memo-{name}"
        metrics = f"{runtime}/metrics"
        ini = render(
            "memo_app", "uwsgi.ini", memo_app_wsgi=wsgi, __memo_app_runtime=runtime, __memo_app_metrics=metrics
        )
        self.write(f"/etc/memo/{name}.ini", ini)
        self.write(
            f"/etc/memo/{name}.nginx.conf", render("web", "nginx.conf", web_uwsgi_socket=f"{runtime}/uwsgi.sock")
        )
        self.run(
            f"install -d -o memo -g www-data -m 0755 {runtime}; install -d -o memo -m 0700 {metrics};"
            f" systemd-run --quiet --unit=memo-{name} --property=Type=notify --property=NotifyAccess=all"
            " --property=User=memo --property=SupplementaryGroups=www-data --property=WorkingDirectory=/opt/memo/app"
            " --property=EnvironmentFile=/run/memo/environment --property=UMask=0077"
            f" /usr/bin/uwsgi-core --ini /etc/memo/{name}.ini",
            timeout=90,
        )

    def _install(self) -> None:
        """Copy the service and the contestants; settings as an instance of the fleet has them."""
        words = self.passwords
        app = self._folder / "app"
        shutil.copytree(PROJECT / "app" / "memo", app / "memo", ignore=shutil.ignore_patterns("__pycache__"))
        for path in (PROJECT / "bench" / "contestants").glob("*.py"):
            shutil.copy(path, app / f"contestant_{path.name}")
        for name in ("seed.py", "slot.py"):
            shutil.copy(PROJECT / "bench" / name, app / name)
        self.run("install -d /opt/memo/app /run/memo /etc/memo")
        podman("cp", f"{app}/.", f"{self.web}:/opt/memo/app")
        environment = {
            "MEMO_DATABASE_HOST": "127.0.0.1",
            "MEMO_DATABASE_NAME": "memo",
            "MEMO_DATABASE_USER": "memo",
            "MEMO_REDIS_HOST": "127.0.0.1",
            "MEMO_NAVER_CLIENT_ID": "bench",
            "MEMO_TRUSTED_PROXIES": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        files = {
            "DATABASE_PASSWORD": "app",
            "REDIS_PASSWORD": "redis",
            "SECRET_KEY": "key",
            "NAVER_CLIENT_SECRET": "key",
        }
        for name, word in files.items():
            environment[f"MEMO_{name}_FILE"] = f"/run/memo/{name}"
            self.write(f"/run/memo/{name}", words[word] * 2 if word == "key" else words[word])
        self.write("/run/memo/owner", words["owner"])
        self.write("/run/memo/environment", "".join(f"{name}={value}\n" for name, value in environment.items()))
        self.write("/run/memo/shell", "".join(f"export {name}={value}\n" for name, value in environment.items()))
        self.run("chmod -R a+rX /opt/memo/app /etc/memo /run/memo")

    def _wait(self, command: str) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                self.run(command)
            except EngineError as error:
                if time.monotonic() > deadline:
                    raise EngineError(f"not ready after {_START_SECONDS} s: {error}") from error
                time.sleep(0.5)
            else:
                return


@contextmanager
def instance() -> Iterator[Instance]:
    """An instance with its databases, removed afterwards."""
    prepare()
    ensure_database_archives(print)
    with tempfile.TemporaryDirectory(prefix="memo-bench-") as folder:
        made = Instance(secrets.token_hex(3), Path(folder))
        try:
            made.start()
            yield made
        finally:
            made.stop()


def _run(name: str, *arguments: str) -> None:
    podman("run", "--detach", "--privileged", "--name", name, *arguments)


def _image() -> str:
    """The base image with packages and virtual environment; kept for the next time."""
    base = ensure_base(print).reference
    lock = PROJECT / "app" / "requirements.txt"
    recipe = hashlib.sha256(repr((base, PACKAGES)).encode() + lock.read_bytes()).hexdigest()[:12]
    image = f"localhost/memo-bench:{recipe}"
    if podman("image", "exists", image, check=False).returncode == 0:
        return image
    print("building the instance's image (two minutes) …", flush=True)
    builder = f"memo-bench-build-{recipe}"
    try:
        podman("run", "--detach", "--privileged", "--network", "host", "--name", builder, base, "sleep", "infinity")
        podman("cp", str(lock), f"{builder}:/root/requirements.txt")
        script = f"""
            apt-get -q update
            DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends {" ".join(PACKAGES)}
            systemctl disable nginx.service
            touch /etc/cloud/cloud-init.disabled
            useradd --system memo
            python3 -m venv /opt/memo/venv
            pip="/opt/memo/venv/bin/pip install --quiet --no-cache-dir --only-binary :all: --require-hashes"
            $pip --requirement /root/requirements.txt
        """
        podman("exec", builder, "sh", "-euc", script, timeout=900)
        podman("commit", "--quiet", builder, image)
    finally:
        podman("rm", "--force", "--ignore", "--time", "1", builder)
    return image
