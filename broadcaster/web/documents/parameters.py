"""Parameters that several routes take."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import Header

from broadcaster.web.documents.schemas import IDEMPOTENCY_KEY, MAX_IDEMPOTENCY_KEY_CHARS

IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=MAX_IDEMPOTENCY_KEY_CHARS,
        pattern=IDEMPOTENCY_KEY,
        description="the same key and body return the same generation, for a day",
    ),
]

OnDisconnect = Annotated[
    Literal["stop", "wait"],
    Header(
        alias="Broadcaster-On-Disconnect",
        description="stop: when this client disconnects and no other viewer watches, the answer is stopped after "
        "`BROADCASTER_DISCONNECT_GRACE_S`; wait: after `BROADCASTER_ABANDON_GRACE_S`",
    ),
]
