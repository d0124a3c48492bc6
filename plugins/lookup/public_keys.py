"""Lookup plugin: the public keys of a folder and of a list, each checked."""

from __future__ import annotations

import base64
import binascii
import re
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase

DOCUMENTATION = """
name: public_keys
short_description: SSH public keys from a folder of .pub files and from a list, each checked
description:
  - Reads every C(*.pub) file of a folder on the controller, in the order of their names, then the inline keys.
  - A file or text that is not an OpenSSH public key is refused, naming it; its content is never shown, because it
    may be a private key that was put there by mistake.
options:
  _terms:
    description: The folder; empty for none.
    required: true
  inline:
    description: More keys, one each.
    type: list
    elements: str
    default: []
  required:
    description: Whether to refuse to return no key at all.
    type: bool
    default: false
"""

EXAMPLES = """
- ansible.posix.authorized_key:
    user: admin
    key: "{{ query('public_keys', 'keys') | join('\\n') }}"
"""

RETURN = """
_list:
  description: The keys, without duplicates.
  type: list
  elements: str
"""

_KEY = re.compile(
    r"(?P<type>ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(?:256|384|521)|sk-(?:ssh-ed25519|ecdsa-sha2-nistp256)@openssh\.com)"
    r"[ \t]+(?P<blob>[A-Za-z0-9+/]+={0,2})(?:[ \t]+(?P<comment>[^\r\n]*))?"
)
_MINIMUM_RSA_BITS = 2048


def _fields(blob: bytes) -> list[bytes]:
    """The length-prefixed fields of a public key (RFC 4253, section 6.6).

    Raises:
        ValueError: the blob ends before a field does.
    """
    fields = []
    while blob:
        length = int.from_bytes(blob[:4], "big")
        if len(blob) < 4 + length:
            raise ValueError("it is cut short")
        fields.append(blob[4 : 4 + length])
        blob = blob[4 + length :]
    return fields


def check_key(text: str, where: str) -> str:
    """One public key, as given.

    Args:
        text: a line of an authorized_keys file, without options.
        where: what to call it in an error, a file's path for instance.

    Returns:
        The key, stripped.

    Raises:
        AnsibleLookupError: it is not a public key that OpenSSH takes.
    """
    text = text.strip()
    if "PRIVATE KEY" in text:
        raise AnsibleLookupError(f"{where} holds a PRIVATE key: remove it and put its .pub file in its place")
    match = _KEY.fullmatch(text)
    if not match:
        raise AnsibleLookupError(
            f"{where} is not an SSH public key: expected a line such as 'ssh-ed25519 AAAA… name', "
            "which ssh-keygen writes to the .pub file"
        )
    try:
        fields = _fields(base64.b64decode(match["blob"], validate=True))
    except (binascii.Error, ValueError) as error:
        raise AnsibleLookupError(f"{where} is not an SSH public key: {error}; copy the .pub file again") from error
    if len(fields) < 2 or fields[0].decode("ascii", "replace") != match["type"]:
        raise AnsibleLookupError(f"{where} is not an SSH public key: its text is damaged; copy the .pub file again")
    if match["type"] == "ssh-rsa" and int.from_bytes(fields[-1], "big").bit_length() < _MINIMUM_RSA_BITS:
        raise AnsibleLookupError(
            f"{where} is an RSA key of less than {_MINIMUM_RSA_BITS} bits, which is too weak: use ssh-keygen -t ed25519"
        )
    return text


def read_folder(folder: str) -> list[str]:
    """The keys of every `.pub` file in a folder; empty lines and comments are passed over.

    Raises:
        AnsibleLookupError: the folder or a file in it cannot be used; the text names it.
    """
    path = Path(folder).expanduser()
    if not path.is_dir():
        raise AnsibleLookupError(
            f"the folder of public keys {folder!r} does not exist: create it or set authorized_keys_folder"
        )
    keys = []
    for file in sorted(path.glob("*.pub")):
        try:
            text = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise AnsibleLookupError(f"{file} cannot be read as text: {error}") from error
        if "PRIVATE KEY" in text:
            check_key(text, str(file))
        lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
        if not lines:
            raise AnsibleLookupError(f"{file} is not an SSH public key: it is empty")
        keys += [check_key(line, str(file)) for line in lines]
    return keys


class LookupModule(LookupBase):  # type: ignore[misc] # Ansible publishes no types
    """The `public_keys` lookup."""

    def run(self, terms: list[str], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[str]:  # noqa: ANN401 - Ansible's signature
        """Return the keys; see DOCUMENTATION.

        Raises:
            AnsibleLookupError: a key is not one, or none was given though one is required.
        """
        self.set_options(var_options=variables, direct=kwargs)
        keys = [key for folder in terms if folder for key in read_folder(folder)]
        inline = enumerate(self.get_option("inline"), 1)
        keys += [check_key(key, f"inline public key {number}") for number, key in inline]
        if self.get_option("required") and not keys:
            raise AnsibleLookupError(
                "no public key is given, and the keys are to be exclusive, which would lock everybody out: "
                "set authorized_keys_folder or authorized_keys_inline"
            )
        return list(dict.fromkeys(keys))
