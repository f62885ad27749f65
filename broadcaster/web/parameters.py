"""Parameters that several routes take."""

from __future__ import annotations

from typing import Annotated

from fastapi import Header

from broadcaster.web.schemas import IDEMPOTENCY_KEY, MAX_IDEMPOTENCY_KEY_CHARS

IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=MAX_IDEMPOTENCY_KEY_CHARS,
        pattern=IDEMPOTENCY_KEY,
        description="the same key and body again give the same generation, for a day",
    ),
]
