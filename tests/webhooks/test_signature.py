"""The signature, against an independent verifier, and the secrets of a setting."""

from __future__ import annotations

import base64
import time

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from broadcaster.webhooks.signature import MIN_SECRET_BYTES, read_secrets, sign

KEY = bytes(range(MIN_SECRET_BYTES))
ENCODED = f"whsec_{base64.b64encode(KEY).decode()}"
BODY = '{"type":"generation.finished","data":{"text":"café \N{GRINNING FACE}"}}'.encode()


def headers(secrets: tuple[bytes, ...], *, message_id: str = "msg_1", body: bytes = BODY) -> dict[str, str]:
    now_s = int(time.time())
    signature = sign(secrets, message_id=message_id, timestamp_s=now_s, body=body)
    return {"webhook-id": message_id, "webhook-timestamp": str(now_s), "webhook-signature": signature}


def test_the_published_verifier_accepts_what_we_sign() -> None:
    assert Webhook(ENCODED).verify(BODY, headers(read_secrets(ENCODED)))["type"] == "generation.finished"


@pytest.mark.parametrize("tampered", ["body", "id", "timestamp"])
def test_the_published_verifier_refuses_what_was_changed(tampered: str) -> None:
    signed, body = headers(read_secrets(ENCODED)), BODY
    if tampered == "body":
        body = BODY.replace(b"finished", b"failed")
    elif tampered == "id":
        signed["webhook-id"] = "msg_2"
    else:
        signed["webhook-timestamp"] = str(int(signed["webhook-timestamp"]) + 1)
    with pytest.raises(WebhookVerificationError):
        Webhook(ENCODED).verify(body, signed)


def test_while_a_secret_is_replaced_receivers_may_know_either() -> None:
    old, new = "o" * MIN_SECRET_BYTES, "n" * MIN_SECRET_BYTES
    signed = headers(read_secrets(f"{new} {old}"))
    for known in (old, new):
        Webhook(known.encode()).verify(BODY, signed)
    with pytest.raises(WebhookVerificationError):
        Webhook(b"x" * MIN_SECRET_BYTES).verify(BODY, signed)


@pytest.mark.parametrize(
    "text", ["short", f"whsec_{base64.b64encode(KEY[1:]).decode()}", "whsec_***", "whsec_", "é" * 2]
)
def test_a_bad_secret_is_refused_without_being_repeated(text: str) -> None:
    with pytest.raises(ValueError) as refused:
        read_secrets(f"{ENCODED} {text}")
    assert text not in str(refused.value).replace("whsec_ comes", "")


def test_a_secret_without_its_padding_is_the_same_secret() -> None:
    key = bytes(range(25))
    assert read_secrets("whsec_" + base64.b64encode(key).decode().rstrip("=")) == (key,)
