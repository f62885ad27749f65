"""A generation's webhook as its meta has it: what the caller requested, and how the delivery goes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import msgspec

EVENTS: Final = ("finished", "failed", "aborted")
"""The ends that a caller may request a webhook for: the statuses of a generation that is over."""


class WebhookState(StrEnum):
    """How far the delivery is."""

    PENDING = "pending"
    DELIVERED = "delivered"
    GAVE_UP = "gave_up"
    SKIPPED = "skipped"  # the caller requested no webhook for this end


@dataclass(frozen=True, slots=True)
class WebhookMeta:
    """``last_status`` is the receiver's newest HTTP status, ``last_fault`` why there is none.

    ``requested_retention_ms`` counts once it is delivered: until then the log is kept for as long as that may take.
    """

    url: str
    events: tuple[str, ...] = EVENTS
    state: WebhookState = WebhookState.PENDING
    attempts: int = 0
    last_status: int | None = None
    last_fault: str | None = None
    requested_retention_ms: int | None = None

    @classmethod
    def from_hash(cls, fields: Mapping[bytes, bytes]) -> WebhookMeta | None:
        """Read the fields of the meta hash; None without a webhook."""
        value: Any = msgspec.json.decode(fields.get(b"webhook", b"null"))
        if value is None:
            return None
        status = fields.get(b"webhook_status", b"")
        return cls(
            url=value["url"],
            events=tuple(value.get("events") or EVENTS),
            state=WebhookState(fields.get(b"webhook_state", b"pending").decode()),
            attempts=int(fields.get(b"webhook_attempts", 0)),
            last_status=int(status) if status else None,
            last_fault=fields.get(b"webhook_fault", b"").decode() or None,
            requested_retention_ms=int(fields[b"asked_retention_ms"]) if b"asked_retention_ms" in fields else None,
        )
