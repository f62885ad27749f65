"""The parts of a chat answer. The wire does not mark their borders: they follow from what comes next.

Rules
1. Text, refusal and reasoning are written one at a time: what is of another kind, or a new tool call, closes what is
   open. Everything else closes at the end of the answer.
2. Parts are numbered in the order they open; a tool call takes a number too, although it has an id of its own.
3. Citations come out one by one where they belong, and all together on the end of their text, since a fold keeps only
   the last value of a metadata key. A cited web page is also a source, once for each URL.
"""

from __future__ import annotations

from enum import Enum

from broadcaster.core import events as ev
from broadcaster.core.providers.metering import OutputMeter
from broadcaster.dialects.openai.wire import metadata
from broadcaster.dialects.openai_chat.tool_calls import Calls, Fragment
from broadcaster.dialects.reading import Json, extras_of


class TextKind(Enum):
    """What a written part is."""

    TEXT = "text"
    REFUSAL = "refusal"
    REASONING = "reasoning"


class ChatParts:
    """The parts of one answer."""

    def __init__(self, meter: OutputMeter) -> None:
        self.has_refusal = False
        self._meter = meter
        self._count = 0
        self._kind: TextKind | None = None
        self._id = ""
        self._annotations: list[Json] = []
        self._sources: set[str] = set()
        self._calls = Calls()

    def write(self, kind: TextKind, delta: str, out: list[ev.Event]) -> None:
        """The next piece of a text, refusal or reasoning."""
        if kind is not self._kind:
            self._open(kind, out)
        self._meter.count(delta)
        if kind is TextKind.REASONING:
            out.append(ev.ReasoningDelta(id=self._id, delta=delta))
        else:
            out.append(ev.TextDelta(id=self._id, delta=delta))

    def call(self, fragment: Fragment, place: int, out: list[ev.Event]) -> None:
        """A fragment of a tool call, from its place in the wire's list."""
        self._meter.count(fragment.arguments)
        events: list[ev.Event] = []
        if self._calls.take(fragment, place, events):
            self._close_written(out)
            self._count += 1
        out += events

    def cite(self, annotation: Json, out: list[ev.Event]) -> bool:
        """Rule 3; False when no text is open that the citation could belong to."""
        has_text = self._kind is TextKind.TEXT
        if has_text:
            self._annotations.append(annotation)
            out.append(ev.TextDelta(id=self._id, delta="", provider_metadata=metadata({"annotation": annotation})))
        match annotation:
            case {"url_citation": {"url": str(url)} as cited} if url not in self._sources:
                id = f"source-{len(self._sources)}"
                self._sources.add(url)
                title = cited.get("title")
                out.append(ev.SourceUrl(source_id=id, url=url, title=title if isinstance(title, str) else None))
        return has_text

    def close(self, out: list[ev.Event]) -> None:
        """The answer is whole: end what is open."""
        self._close_written(out)
        self._calls.close(out)

    def _open(self, kind: TextKind, out: list[ev.Event]) -> None:
        self._close_written(out)
        self._kind, self._id = kind, str(self._count)
        self._count += 1
        self.has_refusal |= kind is TextKind.REFUSAL
        if kind is TextKind.REASONING:
            out.append(ev.ReasoningStart(id=self._id))
        else:
            out.append(ev.TextStart(id=self._id, provider_metadata=metadata(_extras_of_kind(kind))))

    def _close_written(self, out: list[ev.Event]) -> None:
        if self._kind is TextKind.REASONING:
            out.append(ev.ReasoningEnd(id=self._id))
        elif self._kind is not None:
            extras = _extras_of_kind(self._kind) | extras_of({"annotations": self._annotations})
            out.append(ev.TextEnd(id=self._id, provider_metadata=metadata(extras)))
        self._kind = None
        self._annotations = []


def _extras_of_kind(kind: TextKind) -> Json:
    return {"refusal": True} if kind is TextKind.REFUSAL else {}
