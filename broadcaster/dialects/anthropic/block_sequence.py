"""The content blocks of one message on their way out: one at a time, numbered from 0 without a hole.

Rules
1. The wire has one open block at a time. Blocks queue in the order in which they opened: the first is on the wire, the
   others collect their deltas until it is over, and are then sent with one delta each.
2. A tool call whose arguments are already a whole JSON object ends as soon as another block queues behind it: some
   providers end all calls of an answer together. Only blanks can still follow.
3. A start under a key that is open ends the open block: providers number their parts from 0 in every step.
4. A block that is over is stored as the bytes that a late joiner receives.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, TypeAlias

import msgspec

from broadcaster.core.forking import Forkable, Pieces
from broadcaster.dialects.anthropic.blocks import CALL_TYPES
from broadcaster.dialects.reading import Json
from broadcaster.dialects.writing import block

Key: TypeAlias = tuple[str, str]
"""The kind of a part and its id."""

_GROWING: Final = {
    "text": ("text_delta", "text"),
    "thinking": ("thinking_delta", "thinking"),
    **dict.fromkeys(CALL_TYPES, ("input_json_delta", "partial_json")),
}
"""Type of a block → the type of the deltas that can be joined into one, and the field that grows."""

_NOT_GROWING: Final = ("", "")
_DELTA_HEAD: Final = b"event: content_block_delta\ndata: "

_encoder: Final = msgspec.json.Encoder()


class _AnyObject(msgspec.Struct):
    """A JSON object, whose members are skipped: no value is built."""


_object_decoder: Final = msgspec.json.Decoder(_AnyObject)


def framed(event: Json) -> bytes:
    """A wire event as an SSE block: clients ignore a block whose ``event`` does not name its type."""
    if event["type"] == "content_block_delta":
        return _DELTA_HEAD + _encoder.encode(event) + b"\n\n"  # most of a stream: its name is known to be harmless
    return block(event, event=event["type"])


@dataclass(slots=True)
class EncodedBlock(Forkable):
    """One block: its start, its text so far, and the deltas that cannot be joined (citations, signatures, new ones).

    ``holds_text``: its deltas are no JSON, so its input is sent when it is whole.
    """

    key: Key
    start: Json
    holds_text: bool = False
    is_over: bool = False
    has_text: bool = False
    _text: Pieces = field(default_factory=Pieces)
    _kept: list[Json] = field(default_factory=list)
    _grown: int = 0
    _checked: int = 0

    def take(self, delta: Json) -> None:
        """Remember a delta."""
        type, name = _GROWING.get(self.start["type"], _NOT_GROWING)
        if delta["type"] == type and len(delta) == 2 and isinstance(piece := delta.get(name), str):
            self._text.append(piece)
            self._grown += 1
            self.has_text = self.has_text or bool(piece.strip())
        else:
            self._kept.append(delta)

    def count(self, type: str) -> int:
        """How many deltas of this type were kept."""
        return sum(delta.get("type") == type for delta in self._kept)

    @property
    def is_whole_call(self) -> bool:
        """Whether it is a call whose arguments are a whole object already (rule 2)."""
        if self.start["type"] != "tool_use" or self._checked == self._grown:
            return False
        self._checked = self._grown
        text = self._text.text
        if not text.rstrip().endswith("}"):
            return False
        try:
            _object_decoder.decode(text)
        except (msgspec.DecodeError, RecursionError):
            return False
        return True

    def deltas(self) -> list[Json]:
        """The fewest deltas that hold all of it."""
        type, name = _GROWING.get(self.start["type"], _NOT_GROWING)
        text = self._text.text
        return [{"type": type, name: text}, *self._kept] if text else list(self._kept)


@dataclass(slots=True)
class BlockSequence(Forkable):
    """The blocks of one message; every method appends the wire events to send now to ``out``."""

    _over: list[bytes] = field(default_factory=list)
    _count: int = 0
    _standing: list[EncodedBlock] = field(default_factory=list)
    _parts: dict[Key, EncodedBlock] = field(default_factory=dict)

    def find(self, key: Key) -> EncodedBlock | None:
        """The open part of this key."""
        return self._parts.get(key)

    def open(self, part: EncodedBlock, out: list[Json]) -> EncodedBlock:
        """A part begins (rules 1, 3)."""
        self.end(part.key, out)
        self._parts[part.key] = part
        self._standing.append(part)
        if len(self._standing) == 1:
            self._open(part, out)
        else:
            self._hurry(out)
        return part

    def grow(self, part: EncodedBlock, delta: Json, out: list[Json]) -> None:
        """The next delta of an open part."""
        if part.is_over:
            return  # rule 2
        part.take(delta)
        if self._standing[0] is part:
            out.append(self._delta(delta))
        else:
            self._hurry(out)

    def grow_last(self, delta: Json, out: list[Json]) -> None:
        """A delta that names no part: it belongs to the last that opened, if that is open."""
        if self._standing:
            self.grow(self._standing[-1], delta, out)

    def end(self, key: Key, out: list[Json]) -> None:
        """The part of this key is over; without an open one nothing happens."""
        part = self._parts.pop(key, None)
        if part is not None and not part.is_over:
            part.is_over = True
            self._advance(out)

    def end_all(self, out: list[Json]) -> None:
        """All parts are over."""
        self._parts.clear()
        for part in self._standing:
            part.is_over = True
        self._advance(out)

    def put_in(self, event: Json) -> None:
        """Store a sent wire event that belongs to no block: a late joiner receives it too."""
        self._over.append(framed(event))

    def opening(self) -> bytes:
        """Everything sent so far, in as few events as possible."""
        events: list[Json] = []
        if self._standing:
            self._open(self._standing[0], events)
        return b"".join((*self._over, *map(framed, events)))

    def _hurry(self, out: list[Json]) -> None:
        first = self._standing[0]
        if first.is_whole_call:
            first.is_over = True  # its key stays known, so that its end does not end another call
            self._advance(out)

    def _advance(self, out: list[Json]) -> None:
        while self._standing and self._standing[0].is_over:
            part = self._standing.pop(0)
            stop = {"type": "content_block_stop", "index": self._count}
            out.append(stop)
            events: list[Json] = []
            self._open(part, events)
            self._over.append(b"".join(map(framed, (*events, stop))))
            self._count += 1
            if self._standing:
                following = self._standing[0]
                self._open(following, out)
                if self._standing[1:] and following.is_whole_call:
                    following.is_over = True

    def _open(self, part: EncodedBlock, out: list[Json]) -> None:
        out.append({"type": "content_block_start", "index": self._count, "content_block": part.start})
        out += map(self._delta, part.deltas())

    def _delta(self, delta: Json) -> Json:
        return {"type": "content_block_delta", "index": self._count, "delta": delta}
