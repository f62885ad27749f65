"""What the meta of a Durable Stream has beside that of every feed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from broadcaster.core.cursor import START, Cursor


class DurableMeta(NamedTuple):
    """``tail``: the last entry of content, START before the first. ``expires_at`` is as it was sent."""

    content_type: str
    media_type: str
    tail: Cursor = START
    ttl_s: int | None = None
    expires_at: str | None = None

    @classmethod
    def from_hash(cls, fields: Mapping[bytes, bytes]) -> DurableMeta | None:
        """Read the fields of the meta hash; None for any other stream."""
        if b"content_type" not in fields:
            return None
        tail = Cursor.parse(fields.get(b"durable_tail", b"0-0").decode())
        return cls(
            content_type=fields[b"content_type"].decode(),
            media_type=fields.get(b"media_type", b"").decode(),
            tail=tail if tail.seq else START,
            ttl_s=int(fields[b"ttl_s"]) if b"ttl_s" in fields else None,
            expires_at=fields[b"expires_at"].decode() if b"expires_at" in fields else None,
        )
