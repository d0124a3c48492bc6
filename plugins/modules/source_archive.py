#!/usr/bin/python
"""Ansible module: a deterministic archive of a source folder, and the hash of what is in it."""

from __future__ import annotations

import fnmatch
import gzip
import hashlib
import io
import os
import stat
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: source_archive
short_description: A deterministic tar.gz of a folder, and the hash of its content
description:
  - The same files give the same archive and the same hash, whoever makes it and when. Owners and times of the files do
    not count; their names, their content and whether they are executable do.
  - Meant to run on the controller, by C(delegate_to=localhost).
options:
  src:
    description: The folder.
    type: path
    required: true
  dest:
    description: The archive to write. Without it only the hash is returned.
    type: path
  exclude:
    description:
      - Shell patterns of names, or of paths relative to O(src), that are left out with all below them.
      - C(__pycache__), C(*.pyc) and names that begin with a dot are always left out.
    type: list
    elements: str
    default: []
attributes:
  check_mode:
    support: full
author:
  - memo-server
"""

EXAMPLES = """
- name: Pack the source
  source_archive:
    src: app
    dest: .memo-server/app.tar.gz
    exclude: [tests]
  delegate_to: localhost
"""

RETURN = """
sha256:
  description: The hash of the archive before compression, so of names, modes and content.
  type: str
  returned: always
path:
  description: The archive.
  type: str
  returned: when dest was given
files:
  description: The files in it, relative to src.
  type: list
  elements: str
  returned: always
"""

ALWAYS_EXCLUDED = ("__pycache__", "*.pyc", ".*")
_YEAR = 365 * 24 * 3600
_EARLIEST_TIME = 10 * _YEAR
_TIME_SPAN = 30 * _YEAR


class SourceArchiveError(Exception):
    """The folder cannot be packed; the text says why."""


def source_files(folder: Path, exclude: list[str]) -> list[Path]:
    """The files to pack.

    Args:
        folder: the source folder.
        exclude: shell patterns of names or relative paths; see DOCUMENTATION.

    Returns:
        Paths relative to the folder, sorted.

    Raises:
        SourceArchiveError: there is no such folder, or it holds what is neither file nor folder.
    """
    if not folder.is_dir():
        raise SourceArchiveError(f"{folder} is not a folder")
    patterns = [*ALWAYS_EXCLUDED, *exclude]

    def excluded(path: Path) -> bool:
        return any(fnmatch.fnmatch(path.name, pattern) or fnmatch.fnmatch(str(path), pattern) for pattern in patterns)

    files = []
    for root, directories, names in os.walk(folder):
        below = Path(root).relative_to(folder)
        directories[:] = [name for name in directories if not excluded(below / name)]
        for name in [*names, *(name for name in directories if (Path(root) / name).is_symlink())]:
            path = below / name
            if excluded(path):
                continue
            if not stat.S_ISREG((folder / path).lstat().st_mode):
                raise SourceArchiveError(f"{folder / path} is not an ordinary file: replace or exclude it")
            files.append(path)
    if not files:
        raise SourceArchiveError(f"{folder} holds no file to pack")
    return sorted(files, key=str)


def pack(folder: Path, files: list[Path]) -> bytes:
    """An uncompressed tar of the files.

    A file's time follows from its content: web servers take a file's time and size for its version,
    so a fixed time would let browsers keep a changed file of the same size.
    """
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path in files:
            content = (folder / path).read_bytes()
            member = tarfile.TarInfo(path.as_posix())
            member.size = len(content)
            member.mode = 0o755 if (folder / path).stat().st_mode & stat.S_IXUSR else 0o644
            member.mtime = _EARLIEST_TIME + int.from_bytes(hashlib.sha256(content).digest()[:8], "big") % _TIME_SPAN
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def write_atomically(dest: Path, content: bytes) -> None:
    """Replace a file in one step: several hosts' tasks may write the same one at once."""
    dest.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=dest.parent, prefix=dest.name, delete=False) as file:
        file.write(content)
    Path(file.name).replace(dest)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "src": {"type": "path", "required": True},
            "dest": {"type": "path"},
            "exclude": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    folder = Path(module.params["src"])
    try:
        files = source_files(folder, module.params["exclude"])
        content = pack(folder, files)
        result: dict[str, Any] = {
            "changed": False,
            "sha256": hashlib.sha256(content).hexdigest(),
            "files": [path.as_posix() for path in files],
        }
        if module.params["dest"]:
            dest = Path(module.params["dest"])
            compressed = gzip.compress(content, mtime=0)
            result["path"] = str(dest)
            result["changed"] = not dest.is_file() or dest.read_bytes() != compressed
            if result["changed"] and not module.check_mode:
                write_atomically(dest, compressed)
    except (SourceArchiveError, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
