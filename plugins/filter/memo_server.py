"""Filters of the playbooks: each turns what a person wrote into what an API wants, and does nothing else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleFilterError

_IGNORED_FOLDERS = {"__pycache__", ".pytest_cache", ".mypy_cache", ".ruff_cache", "tests"}
_IGNORED_SUFFIXES = {".pyc"}
_IGNORED_NAMES = {"README.md"}


def public_keys(path: str) -> list[str]:
    """The public keys in a file.

    Args:
        path: an OpenSSH public key file on the controller.

    Returns:
        One line for each key; comments and empty lines are left out.
    """
    lines = (line.strip() for line in Path(path).read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def group_tags(tags: dict[str, str]) -> list[dict[str, Any]]:
    """Tags as `amazon.aws.autoscaling_group` takes them.

    Args:
        tags: a mapping.

    Returns:
        One mapping for each tag. They stay on the group: its instances get theirs from the launch template.
    """
    return [{key: value, "propagate_at_launch": False} for key, value in sorted(tags.items())]


def configure_failures(hosts: list[dict[str, Any]]) -> list[str]:
    """Say why hosts could not be configured.

    Args:
        hosts: the host variables of those that could not.

    Returns:
        A sentence for each. A host without a remembered failure could not be reached.
    """
    return [
        f"{host['ec2_tags']['Name']} could not be configured: "
        f"{str(host.get('memo_server_configure_failure', 'it could not be reached')).strip().rstrip('.')}."
        for host in hosts
    ]


def _files(folder: Path) -> Iterable[Path]:
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        if (
            path.is_file()
            and not _IGNORED_FOLDERS.intersection(relative.parts)
            and path.suffix not in _IGNORED_SUFFIXES
            and path.name not in _IGNORED_NAMES
        ):
            yield path


def content_hash(folders: list[str], data: object = None) -> str:
    """One hash of all that goes into an image.

    Args:
        folders: folders on the controller. Tests, caches and READMEs do not count. Names, contents and
            the executable bit do; owners and times do not, so that every checkout gives the same hash.
        data: settings that go in as well; anything JSON can hold.

    Returns:
        SHA-256 in hexadecimal.

    Raises:
        AnsibleFilterError: a folder does not exist.
    """
    digest = hashlib.sha256()
    for name in folders:
        folder = Path(name)
        if not folder.is_dir():
            raise AnsibleFilterError(f"content_hash: there is no folder {name}")
        for path in _files(folder):
            executable = bool(path.stat().st_mode & 0o100)
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            digest.update(f"{folder.name}/{path.relative_to(folder)}\0{executable}\0{content}\n".encode())
    digest.update(json.dumps(data, sort_keys=True, default=str).encode())
    return digest.hexdigest()


class FilterModule:
    """What Ansible looks for in a file of filters."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """The filters by the names that templates use."""
        return {
            "configure_failures": configure_failures,
            "content_hash": content_hash,
            "group_tags": group_tags,
            "public_keys": public_keys,
        }
