"""The signature, against an independent verifier, and the secrets of a setting."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from broadcaster.webhooks.signature import MIN_SECRET_BYTES, read_secrets, sign
from tests.support.documents import marked_blocks

KEY = bytes(range(MIN_SECRET_BYTES))
ENCODED = f"whsec_{base64.b64encode(KEY).decode()}"
PLAIN = "a-plain-secret-without-a-prefix"
BODY = '{"type":"generation.finished","data":{"text":"café \N{GRINNING FACE}"}}'.encode()


def headers(
    secrets: tuple[bytes, ...], *, message_id: str = "msg_1", body: bytes = BODY, age_s: int = 0
) -> dict[str, str]:
    sent_s = int(time.time()) - age_s
    signature = sign(secrets, message_id=message_id, timestamp_s=sent_s, body=body)
    return {"webhook-id": message_id, "webhook-timestamp": str(sent_s), "webhook-signature": signature}


def documented(name: str, **names: Any) -> dict[str, Any]:
    """The names after this block of docs/webhooks.md, which begins with these."""
    exec(compile(marked_blocks("docs/webhooks.md")[name].text, "webhooks.md", "exec"), names)
    return names


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


@pytest.mark.parametrize("secret", [ENCODED, PLAIN])
def test_the_documented_receiver_accepts_what_we_sign_with_either_kind_of_secret(secret: str) -> None:
    signed = headers(read_secrets(secret))
    verified = documented("verify", secret=secret, request_body=BODY, request_headers=signed)
    assert verified["event"] == json.loads(BODY)
    with pytest.raises(WebhookVerificationError):
        documented("verify", secret=secret, request_body=BODY + b" ", request_headers=signed)


@pytest.mark.parametrize("secret", [ENCODED, PLAIN])
def test_the_documented_algorithm_accepts_what_we_sign_and_nothing_else(secret: str) -> None:
    is_ours = documented("verify-plain")["is_ours"]
    other = "whsec_" + base64.b64encode(b"x" * MIN_SECRET_BYTES).decode()
    assert is_ours(secret, BODY, headers(read_secrets(f"{other} {secret}")))
    signed = headers(read_secrets(secret))
    assert is_ours(secret, BODY, signed)
    assert not is_ours(other, BODY, signed)
    assert not is_ours(secret, BODY + b" ", signed)
    assert not is_ours(secret, BODY, {})
    for name, value in (("id", "msg_2"), ("timestamp", "soon"), ("signature", ""), ("signature", "v1,\xe9 v2 ,")):
        assert not is_ours(secret, BODY, signed | {f"webhook-{name}": value})
    for age_s in (600, -600):
        assert not is_ours(secret, BODY, headers(read_secrets(secret), age_s=age_s))
