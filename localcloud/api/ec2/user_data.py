"""User data: what an instance is told at its first boot."""

from __future__ import annotations

import base64
import binascii

from localcloud.api.registry import AwsError

LARGEST = 16384
"""Bytes before base64 (EC2 User Guide, "Run commands when you launch an EC2 instance with user data input")."""


def check(encoded: object) -> str | None:
    """Return user data as it was sent, in base64.

    Raises:
        AwsError: it is not base64, or larger than AWS takes.
    """
    if not encoded:
        return None
    try:
        size = len(base64.b64decode(str(encoded), validate=True))
    except (binascii.Error, ValueError) as error:
        raise AwsError("InvalidUserData.Malformed", "Invalid BASE64 encoding of user data.") from error
    if size > LARGEST:
        raise AwsError("InvalidParameterValue", f"User data is limited to {LARGEST} bytes")
    return str(encoded)
