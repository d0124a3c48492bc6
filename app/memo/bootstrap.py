"""What an instance does once in every boot: learn its settings, fetch its secrets.

An image holds neither. The instance's user data writes `/etc/memo/instance.json`:

    {"region": "ap-northeast-2", "endpoint_url": "",
     "environment": {"MEMO_DATABASE_HOST": "10.0.0.5"},
     "secrets": {"MEMO_DATABASE_PASSWORD": "/memo-server/app/mysql-password"}}

`python -m memo.bootstrap` reads the secrets from SSM Parameter Store with the instance profile's credentials and
writes, for the service's unit, an environment file and one file a secret, which only the service's user can read.
"""

from __future__ import annotations

import argparse
import json
import os
import pwd
import re
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

INSTANCE_FILE = Path("/etc/memo/instance.json")
OUTPUT_DIR = Path("/run/memo")
SERVICE_USER = "memo"

_NAME = re.compile(r"MEMO_[A-Z0-9_]+")
_BATCH = 10
"""The most names one GetParameters takes (AWS Systems Manager API reference)."""

_METADATA_ATTEMPTS = 10
_METADATA_TIMEOUT_SECONDS = 3
_SSM_ATTEMPTS = 8


class BootstrapError(RuntimeError):
    """The instance cannot be set up; the text names the fix."""


@dataclass(frozen=True)
class InstanceFile:
    """What the user data says.

    Args:
        region: the AWS region of the parameters.
        endpoint_url: the AWS endpoint, None for AWS' own.
        environment: variables of the service.
        secrets: variables of the service → names of their parameters.
    """

    region: str
    endpoint_url: str | None
    environment: dict[str, str]
    secrets: dict[str, str]

    @classmethod
    def read(cls, path: Path) -> InstanceFile:
        """Read and check the file.

        Raises:
            BootstrapError: it is missing or not as documented.
        """
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise BootstrapError(f"{path}: {error.strerror}; the instance's user data has to write it") from None
        except ValueError as error:
            raise BootstrapError(f"{path} is not JSON: {error}; correct the launch template's user data") from None
        if not isinstance(data, dict) or not isinstance(data.get("region"), str) or not data["region"]:
            raise BootstrapError(f"{path}: 'region' is missing; correct the launch template's user data")
        endpoint = data.get("endpoint_url") or None
        if endpoint is not None and not isinstance(endpoint, str):
            raise BootstrapError(f"{path}: 'endpoint_url' must be a string, or empty for AWS")
        return cls(data["region"], endpoint, _mapping(path, data, "environment"), _mapping(path, data, "secrets"))


def _mapping(path: Path, data: dict[str, Any], key: str) -> dict[str, str]:
    value = data.get(key, {})
    if not isinstance(value, dict):
        raise BootstrapError(f"{path}: '{key}' must be an object of MEMO_… names")
    for name, text in value.items():
        if not _NAME.fullmatch(name):
            raise BootstrapError(f"{path}: {key}: {name!r} is no setting of the service; its settings are named MEMO_…")
        if not isinstance(text, str):
            raise BootstrapError(f"{path}: {key}: {name} must be a string")
        if any(ord(character) < 32 for character in text):
            raise BootstrapError(f"{path}: {key}: {name} must be one line")
    return value


def fetch_secrets(instance: InstanceFile) -> dict[str, str]:
    """Read the parameters.

    Returns:
        Variable → secret.

    Raises:
        BootstrapError: no credentials, no permission, a parameter missing, or no answer.
    """
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError
    from botocore.session import Session

    core = Session()
    # The metadata service of an instance that has just booted may need a moment.
    core.set_config_variable("metadata_service_num_attempts", _METADATA_ATTEMPTS)
    core.set_config_variable("metadata_service_timeout", _METADATA_TIMEOUT_SECONDS)
    config = Config(
        connect_timeout=3, read_timeout=10, retries={"mode": "standard", "total_max_attempts": _SSM_ATTEMPTS}
    )
    ssm = boto3.Session(botocore_session=core, region_name=instance.region).client(
        "ssm", endpoint_url=instance.endpoint_url, config=config
    )
    names = sorted(set(instance.secrets.values()))
    values: dict[str, str] = {}
    try:
        for start in range(0, len(names), _BATCH):
            answer = ssm.get_parameters(Names=names[start : start + _BATCH], WithDecryption=True)
            values |= {parameter["Name"]: parameter["Value"] for parameter in answer["Parameters"]}
    except NoCredentialsError:
        raise BootstrapError("no AWS credentials: give the instance an instance profile that may read them") from None
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "?")
        raise BootstrapError(
            f"SSM refused ({code}): allow ssm:GetParameters on {', '.join(names)} in the instance profile's role"
        ) from None
    except BotoCoreError as error:
        raise BootstrapError(f"SSM in {instance.region} does not answer: {error}") from None
    missing = [name for name in names if name not in values]
    if missing:
        raise BootstrapError(f"SSM has no parameter {', '.join(missing)}: run the playbook that makes the secrets")
    return {variable: values[name] for variable, name in instance.secrets.items()}


def write(output: Path, environment: dict[str, str], secrets: dict[str, str], user: str | None) -> None:
    """Write what the service's unit reads.

    Args:
        output: the folder, made when missing: `environment`, and `secrets/NAME` with mode 0400.
        environment: the variables that are no secrets.
        secrets: the others; the environment gets `NAME_FILE` for each.
        user: who may read the files; None leaves them to whoever runs this.

    Raises:
        BootstrapError: the folder cannot be written, or there is no such user.
    """
    owner = None
    if user is not None:
        try:
            owner = pwd.getpwnam(user)
        except KeyError:
            raise BootstrapError(f"there is no user {user!r}: this host was not set up by the role memo_app") from None
    # The unit may run this as the service's own user, who owns what they write.
    ids = (owner.pw_uid, owner.pw_gid) if owner and owner.pw_uid != os.geteuid() else None
    folder = output / "secrets"
    try:
        output.mkdir(mode=0o755, parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        if ids:
            os.chown(folder, *ids)
        for name, value in secrets.items():
            _replace(folder / name, value, 0o400, ids)
        for stale in set(folder.iterdir()) - {folder / name for name in secrets}:
            stale.unlink()
        variables = environment | {f"{name}_FILE": str(folder / name) for name in secrets}
        lines = [f"{name}={_quote(value)}\n" for name, value in sorted(variables.items())]
        _replace(output / "environment", "".join(lines), 0o444, None)
    except OSError as error:
        raise BootstrapError(
            f"{error.filename or output}: {error.strerror}; run this as root or as the service's user"
        ) from None


def _replace(path: Path, text: str, mode: int, ids: tuple[int, int] | None) -> None:
    """Put a whole file in place at once, so that a service starting now reads the old or the new one."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".new-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            os.fchmod(file.fileno(), mode)
            if ids:
                os.fchown(file.fileno(), *ids)
        Path(temporary).replace(path)
    except OSError:
        Path(temporary).unlink(missing_ok=True)
        raise


def _quote(value: str) -> str:
    """A value as systemd.exec(5), EnvironmentFile=, reads it: in double quotes, with four characters escaped."""
    return '"' + re.sub(r'(["\\`$])', r"\\\1", value) + '"'


def main(arguments: list[str] | None = None) -> int:
    """The command.

    Returns:
        0, or 1 after saying on standard error what is wrong.
    """
    parser = argparse.ArgumentParser(prog="python -m memo.bootstrap", description="Set an instance's memo service up.")
    parser.add_argument("--file", type=Path, default=INSTANCE_FILE, help="what the user data wrote (%(default)s)")
    parser.add_argument("--output", type=Path, default=OUTPUT_DIR, help="where the unit looks (%(default)s)")
    parser.add_argument(
        "--user", default=SERVICE_USER, help="who may read the secrets (%(default)s); '' for the caller"
    )
    options = parser.parse_args(arguments)
    try:
        instance = InstanceFile.read(options.file)
        secrets = fetch_secrets(instance)
        write(options.output, instance.environment, secrets, options.user or None)
    except BootstrapError as error:
        sys.stderr.write(f"memo bootstrap: {error}\n")
        return 1
    print(f"memo bootstrap: {len(instance.environment)} settings and {len(secrets)} secrets in {options.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
