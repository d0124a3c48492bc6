#!/usr/bin/python
"""Check what the controller itself must have: programs, and operators' public key files that are ones."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: controller_check
short_description: Check the controller's programs and public key files
description:
  - Fails with one message that lists every program that is missing and every file that holds no public key.
options:
  programs:
    description: Programs that must be on PATH.
    type: list
    elements: str
    default: []
  public_key_files:
    description: Files that must each hold OpenSSH public keys.
    type: list
    elements: str
    default: []
author: memo-server
"""

EXAMPLES = r"""
- name: Check the controller
  controller_check:
    programs: [ssh]
    public_key_files: [keys/alice.pub]
"""

RETURN = r"""
keys:
  description: Number of public key files.
  type: int
  returned: success
"""


def missing_programs(programs: list[str]) -> list[str]:
    """Those of the programs that are not on PATH."""
    return [program for program in programs if shutil.which(program) is None]


def key_problem(path: Path) -> str | None:
    """What is wrong with a public key file.

    Args:
        path: the file.

    Returns:
        A sentence that names the file and the fix, or None when it holds public keys and nothing else.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        return f"{path} cannot be read as text: {error}. Replace it by a public key, or remove it."
    if "PRIVATE KEY" in text:
        return f"{path} is a PRIVATE key. Move it away, and put the .pub file that belongs to it there."
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if not lines:
        return f"{path} holds no key. Put a public key there (`ssh-keygen -y -f PRIVATE_KEY`), or remove the file."
    for line in lines:
        checked = subprocess.run(
            ["ssh-keygen", "-l", "-f", "-"], input=line + "\n", capture_output=True, text=True, check=False
        )
        if checked.returncode != 0:
            return f"{path} is not a public key file: {line[:40]!r}. Replace it by a public key, or remove it."
    return None


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "programs": {"type": "list", "elements": "str", "default": []},
            "public_key_files": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    missing = missing_programs(module.params["programs"])
    if missing:
        module.fail_json(
            msg=f"This machine lacks {', '.join(missing)}. Install it, for example: apt-get install openssh-client"
        )
    problems = [problem for path in module.params["public_key_files"] if (problem := key_problem(Path(path)))]
    if problems:
        module.fail_json(msg=" ".join(problems))
    module.exit_json(changed=False, keys=len(module.params["public_key_files"]))


if __name__ == "__main__":
    main()
