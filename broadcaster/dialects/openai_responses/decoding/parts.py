"""Decoders of what a model writes: messages and reasoning, items made of parts.

Rules
1. A part grows by deltas. Where its whole text comes as well (three times on a proper stream), the piece that the
   deltas left out is sent as one: a server that skips deltas costs nothing, and nothing is doubled. A whole text that
   does not begin with the deltas is passed on instead; the deltas stay as they were.
2. A refusal is a text part, marked as one at its start and end.
3. Annotations come out one by one where they belong, and all together at the end of their text, since a fold keeps only
   the last value of a metadata key. A cited web page is also a source, once for each URL.
4. Each part of a reasoning summary is a reasoning part of its own: on the wire they are separate texts with titles, and
   a joint one would need a separator that the model did not write. A reasoning part ends when it has text and the next
   one of its item opens, or when the item is done: only then is the end's metadata known (``encryptedContent``).
5. Reasoning without any text still is an empty part: what comes after it may be sent back only together with it.
6. Parts are matched with those of the finished item by their order if none is missing (vLLM counts ``content_index``
   over all items), else by their indexes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain, repeat
from typing import Any, Final

from broadcaster.core import events as ev
from broadcaster.core.providers.metering import OutputMeter
from broadcaster.dialects.arguments import ArgumentsReader
from broadcaster.dialects.halves import with_pairs
from broadcaster.dialects.openai.wire import metadata
from broadcaster.dialects.reading import Json, Sources, extras_of

_TEXT_KEYS: Final = {"output_text": "text", "refusal": "refusal", "reasoning_text": "text", "summary_text": "text"}
"""The part types that our events can express, and the field that holds the text of each."""

_REASONING: Final = frozenset({"reasoning_text", "summary_text"})


@dataclass(slots=True)
class ResponsesOutput:
    """What the items of one answer share: how much is written, its parts, sources and arguments, its end."""

    meter: OutputMeter = field(default_factory=OutputMeter)
    parts: int = 0
    sources: Sources = field(default_factory=Sources)
    reader: ArgumentsReader = field(default_factory=ArgumentsReader)
    is_calling: bool = False
    is_refused: bool = False


class PartDecoder:
    """One text, refusal or reasoning text, from its start to its end."""

    def __init__(self, kind: str, extras: Json, *, output: ResponsesOutput, out: list[ev.Event]) -> None:
        self.is_open = True
        self.kind = kind
        self._id = str(output.parts)
        self._output = output
        self._pieces: list[str] = []
        self._annotations: list[Json] = []
        self._has_logprobs = False
        self._is_disputed = False
        self._marks: Json = {"refusal": True} if kind == "refusal" else {}
        output.parts += 1
        output.is_refused |= kind == "refusal"
        self._written = ev.REASONING if kind in _REASONING else ev.TEXT
        out.append(self._written.start(id=self._id, provider_metadata=metadata(extras | self._marks)))

    @property
    def has_text(self) -> bool:
        """Whether anything has been written."""
        return any(self._pieces)

    def grow(self, delta: str, out: list[ev.Event], *, logprobs: list[Any] | None = None) -> None:
        """The next piece: the hot path of this wire."""
        self._pieces.append(delta)
        self._output.meter.count(delta)
        extras = None
        if logprobs:
            self._has_logprobs = True
            extras = metadata({"logprobs": logprobs})
        out.append(self._written.delta(id=self._id, delta=delta, provider_metadata=extras))

    def reconcile(self, whole: object, out: list[ev.Event]) -> bool:
        """Compare with the whole text, if there is one; False, once, when it differs from the deltas (rule 1)."""
        if not isinstance(whole, str) or not whole:
            return True
        given = with_pairs("".join(self._pieces))
        self._pieces = [given]
        if whole.startswith(given) and (self.is_open or whole == given):
            if len(whole) > len(given):
                self.grow(whole[len(given) :], out)
            return True
        is_news = not self._is_disputed
        self._is_disputed = True
        return not is_news

    def reconcile_part(self, part: Json, out: list[ev.Event]) -> bool:
        """The whole part: its text, and the annotations not sent yet; False as with ``reconcile``."""
        is_consistent = self.reconcile(part.get(_TEXT_KEYS[self.kind]), out)
        annotations = part.get("annotations")
        if self.is_open and isinstance(annotations, list):
            for annotation in annotations[len(self._annotations) :]:
                self.cite(annotation, out)
        return is_consistent

    def cite(self, annotation: Json, out: list[ev.Event]) -> None:
        """An annotation of what has been written."""
        self._annotations.append(annotation)
        out.append(ev.TextDelta(id=self._id, delta="", provider_metadata=metadata({"annotation": annotation})))
        match annotation:
            case {"type": "url_citation"}:
                self._output.sources.cite(annotation, out)

    def end(self, out: list[ev.Event], *, extras: Json | None = None) -> None:
        """The part is whole; once."""
        if not self.is_open:
            return
        self.is_open = False
        extras_sent = metadata((extras or {}) | self._marks | extras_of({"annotations": self._annotations}))
        out.append(self._written.end(id=self._id, provider_metadata=extras_sent))

    def end_with(self, part: Json, out: list[ev.Event]) -> None:
        """The part is whole, and this is its final form on the wire."""
        known = ("type", "annotations", _TEXT_KEYS[self.kind], *(["logprobs"] if self._has_logprobs else []))
        self.end(out, extras=extras_of(part, *known))


class TextItemDecoder:
    """A message, or an item of reasoning."""

    def __init__(self, item: Json, *, output: ResponsesOutput) -> None:
        self.type: str = item["type"]
        self.is_over = False
        self._output = output
        self._extras = named(item) | _extras(item)
        self._by_index: dict[tuple[str, int | None], PartDecoder] = {}
        self._of_kind: dict[str, list[PartDecoder]] = {}
        self._strange = 0

    def part(self, kind: str, index: int | None, *, out: list[ev.Event]) -> PartDecoder:
        """The part that a piece belongs to, opened if need be."""
        part = self._by_index.get((kind, index))
        return part if part is not None and part.is_open else self._open(kind, index, out=out)

    def reconcile(self, kind: str, index: int | None, *, whole: str | None, out: list[ev.Event]) -> bool:
        """The whole text of a part; False when it must be passed on."""
        return self._part_of_whole(kind, index, out=out).reconcile(whole, out)

    def add_part(self, part: Json, index: int | None, *, out: list[ev.Event]) -> bool:
        """A part opens; False when our events cannot express it."""
        kind = part_kind(part)
        if kind is None:
            self._strange += 1
            return False
        if (known := self._by_index.get((kind, index))) is not None:
            known.end(out)
        opened = self._open(kind, index, out=out)
        if isinstance(text := part.get(_TEXT_KEYS[kind]), str) and text:
            opened.grow(text, out)
        return True

    def finish_part(self, part: Json, index: int | None, *, out: list[ev.Event]) -> bool:
        """A part is whole; False when it must be passed on."""
        kind = part_kind(part)
        return kind is not None and self._finish_part(self._part_of_whole(kind, index, out=out), part, out)

    def finish(self, item: Json, out: list[ev.Event]) -> bool:
        """The item is whole; False when it must be passed on."""
        is_consistent = self.take(item, out, is_final=True)
        extras = _extras(item)
        if isinstance(encrypted := item.get("encrypted_content"), str) and encrypted:
            extras["encryptedContent"] = encrypted
        self.close(out, extras=extras)
        return is_consistent

    def close(self, out: list[ev.Event], *, extras: Json | None = None) -> None:
        """Nothing more will come."""
        is_empty = self.type == "reasoning" and not self.is_over and not self._of_kind
        self.is_over = True
        if is_empty and (self._extras or extras):
            PartDecoder("reasoning_text", self._extras, output=self._output, out=out).end(out, extras=extras)
        self._end_all(out, extras=extras if self.type == "reasoning" else None)

    def _part_of_whole(self, kind: str, index: int | None, *, out: list[ev.Event]) -> PartDecoder:
        """The part that a whole text belongs to: it may have ended."""
        return self._by_index.get((kind, index)) or self._open(kind, index, out=out)

    def _open(self, kind: str, index: int | None, *, out: list[ev.Event]) -> PartDecoder:
        extras = self._extras
        if kind in _REASONING:
            self._end_all(out, is_next=True)
        opened = self._of_kind.setdefault(kind, [])
        if kind == "summary_text":
            extras = extras | {"summaryIndex": index if index is not None else len(opened)}
        part = self._by_index[kind, index] = PartDecoder(kind, extras, output=self._output, out=out)
        opened.append(part)
        return part

    def take(self, item: Json, out: list[ev.Event], *, is_final: bool = False) -> bool:
        """Compare with the item as it stands, at first as it opens; False when something in it must be passed on."""
        lists = _list(item.get("summary")), _list(item.get("content"))
        strange = sum(part_kind(wire_part) is None for wire_parts in lists for wire_part in wire_parts)
        is_consistent = strange <= self._strange
        self._strange = max(self._strange, strange)
        for wire_parts in lists:
            by_order = self._matched_by_order(wire_parts)
            for at, wire_part in enumerate(wire_parts):
                if (kind := part_kind(wire_part)) is None:
                    continue
                part = next(by_order[kind]) if kind in by_order else self._by_index.get((kind, at))
                part = part or self._open(kind, at, out=out)
                reconcile = self._finish_part if is_final else PartDecoder.reconcile_part
                is_consistent &= reconcile(part, wire_part, out)
        return is_consistent

    def _matched_by_order(self, wire_parts: list[Any]) -> dict[str, Iterator[PartDecoder]]:
        """The parts of those kinds that do not go by their indexes (rule 6)."""
        by_order: dict[str, Iterator[PartDecoder]] = {}
        for kind, opened in self._of_kind.items():
            places = [at for at, wire_part in enumerate(wire_parts) if part_kind(wire_part) == kind]
            is_indexed = all((kind, at) in self._by_index for at in places)
            if not is_indexed and (len(opened) == len(places) or (kind, None) in self._by_index):
                by_order[kind] = chain(opened, repeat(opened[-1]))
        return by_order

    def _finish_part(self, part: PartDecoder, wire_part: Json, out: list[ev.Event]) -> bool:
        is_consistent = part.reconcile_part(wire_part, out)
        if part.kind not in _REASONING:
            part.end_with(wire_part, out)
        return is_consistent

    def _end_all(self, out: list[ev.Event], *, extras: Json | None = None, is_next: bool = False) -> None:
        for parts in self._of_kind.values():
            for part in parts:
                if part.has_text or not is_next:
                    part.end(out, extras=extras)


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def part_kind(part: object) -> str | None:
    """The type of a part; None when our events cannot express it."""
    kind = part.get("type") if isinstance(part, dict) else None
    return kind if isinstance(kind, str) and kind in _TEXT_KEYS else None


def item_type_of(part: object) -> str:
    """The type of the item that such a part stands in."""
    return "reasoning" if part_kind(part) in _REASONING else "message"


def named(item: Json) -> Json:
    """The item's own id, as an extra."""
    return {"itemId": item["id"]} if isinstance(item.get("id"), str) and item["id"] else {}


def _extras(item: Json) -> Json:
    return extras_of(item, "type", "id", "role", "status", "content", "summary", "encrypted_content")
