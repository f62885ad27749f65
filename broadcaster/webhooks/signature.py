"""The signature of a webhook by Standard Webhooks: a receiver with the secret can verify who sent it, and when.

Source: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
Signed is ``<id>.<timestamp>.<body>`` with HMAC-SHA256; several secrets give several signatures, so that one can be
replaced by another while receivers know either.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence
from typing import Final

PREFIX: Final = "whsec_"
# The specification requires 24 to 64 random bytes.
MIN_SECRET_BYTES: Final = 24


def read_secrets(text: str) -> tuple[bytes, ...]:
    """The keys in a setting: one or more, parted by spaces, each ``whsec_<base64>`` or plain.

    Raises ValueError, whose text repeats nothing of the secret.
    """
    return tuple(_read_secret(each) for each in text.split())


def sign(secrets: Sequence[bytes], *, message_id: str, timestamp_s: int, body: bytes) -> str:
    """The header ``webhook-signature``: one ``v1,<base64>`` for each secret, parted by spaces."""
    signed = f"{message_id}.{timestamp_s}.".encode() + body
    digests = (hmac.digest(secret, signed, hashlib.sha256) for secret in secrets)
    return " ".join(f"v1,{base64.b64encode(digest).decode()}" for digest in digests)


def _read_secret(text: str) -> bytes:
    secret = text.encode()
    if text.startswith(PREFIX):
        encoded = text.removeprefix(PREFIX)
        try:
            secret = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
        except binascii.Error:
            raise ValueError(f"after {PREFIX} comes base64") from None
    if len(secret) < MIN_SECRET_BYTES:
        raise ValueError(f"a webhook secret has at least {MIN_SECRET_BYTES} bytes")
    return secret
