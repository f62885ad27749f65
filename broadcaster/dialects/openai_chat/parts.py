"""The parts of a chat answer, and what each delta adds to them.

The wire does not mark the borders of parts: they follow from what comes next.

Rules
1. Text, refusal and reasoning are written one at a time: what is of another kind, or a new tool call, closes what is
   open. Everything else closes at the end of the answer.
2. Parts are numbered in the order they open; a tool call takes a number too, although it has an id of its own.
3. Citations come out one by one where they belong, and all together on the end of their text, since a fold keeps only
   the last value of a metadata key. A cited web page is also a source, once for each URL.
4. Reasoning comes before the text of the same delta, tool calls after it. Servers send it under either of two names,
   some under both: a value of the second name that differs from the first is an extra.
"""

from __future__ import annotations

from enum import Enum
from typing import Any

from broadcaster.core import events as ev
from broadcaster.core.providers.metering import OutputMeter
from broadcaster.dialects.errors import BAD_DATA
from broadcaster.dialects.openai.wire import metadata
from broadcaster.dialects.openai_chat.tool_calls import Calls, Fragment, fragment_of, legacy_fragment_of
from broadcaster.dialects.openai_chat.wire import DELTA_FIELDS, REASONING_FIELDS
from broadcaster.dialects.reading import Json, Sources, extras_of


class TextKind(Enum):
    """What a written part is."""

    TEXT = "text"
    REFUSAL = "refusal"
    REASONING = "reasoning"

    @property
    def events(self) -> ev.WrittenEvents:
        """The events of such a part."""
        return ev.REASONING if self is TextKind.REASONING else ev.TEXT


class ChatParts:
    """The parts of one answer."""

    def __init__(self, meter: OutputMeter) -> None:
        self.has_refusal = False
        self.has_calls = False
        self._meter = meter
        self._count = 0
        self._kind: TextKind | None = None
        self._id = ""
        self._annotations: list[Json] = []
        self._sources = Sources()
        self._calls = Calls()

    def write(self, kind: TextKind, delta: str, out: list[ev.Event]) -> None:
        """The next piece of a text, refusal or reasoning."""
        if kind is not self._kind:
            self._open(kind, out)
        self._meter.count(delta)
        out.append(kind.events.delta(id=self._id, delta=delta))

    def call(self, fragment: Fragment, place: int, out: list[ev.Event]) -> None:
        """A fragment of a tool call, from its place in the wire's list."""
        self._meter.count(fragment.arguments)
        events: list[ev.Event] = []
        if self._calls.take(fragment, place, events):
            self._close_written(out)
            self._count += 1
            self.has_calls = True
        out += events

    def cite(self, annotation: Json, out: list[ev.Event]) -> bool:
        """Rule 3; False when no text is open that the citation could belong to."""
        has_text = self._kind is TextKind.TEXT
        if has_text:
            self._annotations.append(annotation)
            out.append(ev.TextDelta(id=self._id, delta="", provider_metadata=metadata({"annotation": annotation})))
        self._sources.cite(annotation.get("url_citation"), out)
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
        out.append(kind.events.start(id=self._id, provider_metadata=metadata(_extras_of_kind(kind))))

    def _close_written(self, out: list[ev.Event]) -> None:
        if self._kind is not None:
            extras = _extras_of_kind(self._kind) | extras_of({"annotations": self._annotations})
            out.append(self._kind.events.end(id=self._id, provider_metadata=metadata(extras)))
        self._kind = None
        self._annotations = []


def _extras_of_kind(kind: TextKind) -> Json:
    return {"refusal": True} if kind is TextKind.REFUSAL else {}


# ------------------------------------------------------------------------------------------------------ reading a delta


def read_delta(delta: Json, parts: ChatParts, out: list[ev.Event]) -> Json:
    """Append the delta's events; returns the fields that they cannot express. Raises ProviderFailed."""
    texts = [text for name in REASONING_FIELDS if isinstance(text := delta.get(name), str) and text]
    rest = extras_of(delta, *DELTA_FIELDS)
    rest |= extras_of({name: delta.get(name) for name in REASONING_FIELDS if delta.get(name) not in texts[:1]})
    if texts:
        parts.write(TextKind.REASONING, texts[0], out)
    content = delta.get("content")
    if isinstance(content, list):
        rest |= extras_of({"content": _read_content(content, parts, out)})
    elif text := _text(content, "content"):
        parts.write(TextKind.TEXT, text, out)
    if refusal := _text(delta.get("refusal"), "refusal"):
        parts.write(TextKind.REFUSAL, refusal, out)
    annotations = objects(delta.get("annotations"), "list of annotations")
    rest |= extras_of({"annotations": [each for each in annotations if not parts.cite(each, out)]})
    if (call := delta.get("function_call")) is not None:
        parts.call(legacy_fragment_of(*objects([call], "function_call")), 0, out)
    for place, call in enumerate(objects(delta.get("tool_calls"), "list of tool calls")):
        parts.call(fragment_of(call), place, out)
    return rest


def keep_halves(chunk: Json, torn: Json) -> None:
    """Put the halves back into the texts of a mended chunk; ``torn`` is the same chunk as it came (halves.py).

    What is an extra, and the choices that are passed on, stay mended.
    """
    choices = chunk.get("choices")
    for place, choice in enumerate(choices if isinstance(choices, list) else ()):
        match choice:
            case {"delta": dict(delta)} if choice.get("index") in (0, None):
                choice["delta"] = _with_halves(delta, torn["choices"][place]["delta"])


def _with_halves(delta: Json, torn: Json) -> Json:
    names = ["content", "refusal"]
    if len({torn[name] for name in REASONING_FIELDS if isinstance(torn.get(name), str) and torn[name]}) == 1:
        names += REASONING_FIELDS  # rule 4: two values that differ are no text
    kept = delta | {name: torn[name] for name in names if isinstance(torn.get(name), str)}
    if isinstance(delta.get("content"), list):
        for part, torn_part in zip(delta["content"], torn["content"], strict=True):
            match part:
                case {"type": "text", "text": str()}:
                    part["text"] = torn_part["text"]
                case {"type": "thinking", "thinking": [{"type": "text", "text": str()}]}:
                    part["thinking"] = torn_part["thinking"]
    calls = delta.get("tool_calls")
    for place, call in enumerate(calls if isinstance(calls, list) else ()):
        match call:
            case {"function": {"arguments": str()}}:
                call["function"]["arguments"] = torn["tool_calls"][place]["function"]["arguments"]
            case {"custom": {"input": str()}} if "function" not in call:
                call["custom"]["input"] = torn["tool_calls"][place]["custom"]["input"]
    match delta.get("function_call"):
        case {"arguments": str()}:
            delta["function_call"]["arguments"] = torn["function_call"]["arguments"]
    return kept


def _read_content(content: list[Any], parts: ChatParts, out: list[ev.Event]) -> list[Any]:
    """Content in parts, as Mistral's reasoning models send it; returns the parts that events cannot express."""
    rest = []
    for part in content:
        match part:
            case {"type": "text", "text": str(text)}:
                parts.write(TextKind.TEXT, text, out)
            case {"type": "thinking", "thinking": [{"type": "text", "text": str(text)}]}:
                parts.write(TextKind.REASONING, text, out)
            case _:
                rest.append(part)
    return rest


def objects(values: Any, what: str) -> list[Json]:
    """A list of objects, where null means an empty one. Raises ProviderFailed when it is anything else."""
    if values is None:
        return []
    if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
        raise BAD_DATA.failure(detail=f"a malformed {what}")
    return values


def _text(value: Any, what: str) -> str:
    """A piece of text, where null means an empty one. Raises ProviderFailed when it is anything else."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise BAD_DATA.failure(detail=f"a malformed {what}")
    return value
