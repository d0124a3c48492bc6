"""The public keys' lookup: what sshd takes is returned, anything else is refused by its name and never shown."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from ansible.errors import AnsibleLookupError
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

from plugins.lookup.public_keys import check_key, read_folder

_OPENSSH = (serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)


def ed25519_key() -> str:
    return ed25519.Ed25519PrivateKey.generate().public_key().public_bytes(*_OPENSSH).decode()


def rsa_key(bits: int) -> str:
    return rsa.generate_private_key(65537, bits).public_key().public_bytes(*_OPENSSH).decode()


def test_reads_every_key_of_every_file_in_order(tmp_path: Path) -> None:
    keys = [ed25519_key(), rsa_key(2048), ed25519_key() + " someone@somewhere"]
    (tmp_path / "b.pub").write_text(f"# two\n\n{keys[1]}\n{keys[2]}\n", encoding="utf-8")
    (tmp_path / "a.pub").write_text(keys[0] + "\n", encoding="utf-8")
    (tmp_path / "notes.txt").write_text("no key", encoding="utf-8")
    assert read_folder(str(tmp_path)) == keys


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "it is empty"),
        ("hello", "is not an SSH public key"),
        ("ssh-ed25519 !!!!", "is not an SSH public key"),
        ("ssh-ed25519 " + base64.b64encode(b"\0\0\0\x20cut").decode(), "cut short"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----\nsecret\n", "PRIVATE key"),
    ],
)
def test_a_file_that_is_no_key_is_refused_by_its_name(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "wrong.pub").write_text(text, encoding="utf-8")
    with pytest.raises(AnsibleLookupError, match=reason) as refusal:
        read_folder(str(tmp_path))
    assert "wrong.pub" in str(refusal.value)
    assert "secret" not in str(refusal.value)


def test_a_key_of_another_type_than_it_says_is_refused() -> None:
    with pytest.raises(AnsibleLookupError, match="damaged"):
        check_key(ed25519_key().replace("ssh-ed25519", "ssh-rsa", 1), "here")


def test_a_short_rsa_key_is_refused() -> None:
    with pytest.raises(AnsibleLookupError, match="1024|2048 bits"):
        check_key(rsa_key(1024), "here")


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AnsibleLookupError, match="does not exist"):
        read_folder(str(tmp_path / "none"))
