"""A native client that holds its stream to the promises: ids rise, nothing is missing untold, the terminal is last."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from broadcaster.core.cursor import START, Cursor
from broadcaster.core.sse import SseDecoder, SseMessage
from broadcaster.hub.viewer import Viewer

TERMINALS = ("finish", "error", "abort")


@dataclass
class Witness:
    """What one connection brought; every message is checked when it comes. ``after``: where the client resumes."""

    after: Cursor = START
    entries: dict[int, tuple[str, str]] = field(default_factory=dict)  # seq → id, data; void ones are dropped
    notices: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    gap_ids: list[str] = field(default_factory=list)
    retries_ms: list[int] = field(default_factory=list)
    has_ended: bool = False
    decoder: SseDecoder = field(default_factory=SseDecoder)

    @property
    def last_seq(self) -> int:
        return self.after.seq

    @property
    def gaps(self) -> list[tuple[str, int, int]]:
        return [(each["reason"], each["from"], each["to"]) for name, each in self.notices if name == "hub.gap"]

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.notices]

    def feed(self, chunk: bytes) -> None:
        before = self.decoder.retry_ms
        for message in self.decoder.decode(chunk):
            assert not self.has_ended, f"{message} after the terminal"
            if message.event == "message":
                self._take_entry(message)
            else:
                self._take_notice(message)
        if self.decoder.retry_ms is not None and self.decoder.retry_ms != before:
            self.retries_ms.append(self.decoder.retry_ms)

    def _take_entry(self, message: SseMessage) -> None:
        cursor = Cursor.parse(message.id)
        assert self.names[:1] == ["hub.hello"], "entries before hub.hello"
        assert cursor.seq == self.after.seq + 1, f"{cursor} after {self.after}"
        assert cursor.epoch >= self.after.epoch, f"the epoch fell: {cursor} after {self.after}"
        self.entries[cursor.seq] = (message.id, message.data)
        self.after = cursor
        self.has_ended = json.loads(message.data)["type"] in TERMINALS

    def _take_notice(self, message: SseMessage) -> None:
        fields = json.loads(message.data)
        self.notices.append((message.event, fields))
        if message.event == "hub.hello":
            assert len(self.notices) == 1, "hub.hello is the first and comes once"
        elif message.event == "hub.live":
            assert self.names.count("hub.live") == 1, "hub.live comes once"
        elif message.event == "hub.gap":
            self._take_gap(fields, Cursor.parse(message.id))

    def _take_gap(self, fields: dict[str, Any], at: Cursor) -> None:
        self.gap_ids.append(str(at))
        if fields["reason"] in ("trimmed", "expired"):
            assert fields["from"] == self.after.seq + 1, f"{fields} after {self.after}"
            assert fields["to"] == at.seq >= fields["from"]
        elif fields["to"]:
            assert (fields["from"], fields["to"]) == (at.seq + 1, self.after.seq), (
                f"{fields} at {at} after {self.after}"
            )
        self.entries = {seq: entry for seq, entry in self.entries.items() if seq <= at.seq}
        self.after = at


def drain_nowait(viewer: Viewer, witness: Witness, *, max_bytes: int = 2**16) -> list[bytes]:
    """Pull all there is now."""
    chunks = []
    while chunk := viewer.pull(max_bytes):
        assert len(chunk) <= max_bytes
        witness.feed(chunk)
        chunks.append(chunk)
    return chunks
