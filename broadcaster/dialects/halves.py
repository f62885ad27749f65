"""Characters that a provider sends in two halves.

A server that cuts text by UTF-16 units sends an emoji in two deltas. Each has half of a surrogate pair, which has no
UTF-8 form.

Rules
1. Only the texts of deltas keep their halves, until ``Halves.join``; everything else of a message is mended as it is
   parsed (reading.py).
2. A high half at the end of a delta waits for the next text of its part. With the low half they are the character.
3. A half without its other one becomes "?". One that waits becomes it at its part's end, at the end of the body, and
   where the stream fails. An answer that the worker closes (a stop, a drain) ends before it.
4. A stream without halves costs nothing: its decoder has no ``Halves``.
"""

from __future__ import annotations

from typing import Final, TypeAlias

import msgspec

from broadcaster.core import events as ev

_Delta: TypeAlias = ev.TextDelta | ev.ReasoningDelta | ev.ToolInputDelta
_Key: TypeAlias = tuple[type[_Delta], str]

_MENDED: Final = "?"


def is_torn(text: str) -> bool:
    r"""Whether JSON may hold half of a surrogate pair, as an escape (``\ud83d``)."""
    return "\\ud" in text or "\\uD" in text


def with_pairs(text: str) -> str:
    """The text with its halves joined, and "?" for each that has no other one."""
    if text.isascii():
        return text
    units = text.encode("utf-16-le", "surrogatepass")
    return units.decode("utf-16-le", "surrogatepass").encode("utf-8", "replace").decode()


class Halves:
    """The halves that wait, of all parts of one stream."""

    def __init__(self) -> None:
        self._waiting: dict[_Key, str] = {}

    def join(self, out: list[ev.Event]) -> None:
        """Join the halves in these events, in place; call it with all events from the first half on, in order."""
        joined: list[ev.Event] = []
        for event in out:
            match event:
                case ev.TextDelta(id=id, delta=text) | ev.ReasoningDelta(id=id, delta=text):
                    self._grow(event, (type(event), id), text, out=joined)
                case ev.ToolInputDelta(tool_call_id=id, input_text_delta=text):
                    self._grow(event, (ev.ToolInputDelta, id), text, out=joined)
                case _:
                    self._end(_part_ended_by(event), joined)
                    joined.append(event)
        out[:] = joined

    def end(self, out: list[ev.Event]) -> None:
        """No more events come: rule 3 for all that waits."""
        for key in list(self._waiting):
            self._end(key, out)

    def _grow(self, event: _Delta, key: _Key, text: str, *, out: list[ev.Event]) -> None:
        if not text:  # a citation or a signature
            out.append(event)
            return
        text = self._waiting.pop(key, "") + text
        if "\ud800" <= text[-1] <= "\udbff":
            self._waiting[key] = text[-1]
            text = text[:-1]
        if text or event.provider_metadata is not None:
            field = "input_text_delta" if isinstance(event, ev.ToolInputDelta) else "delta"
            out.append(msgspec.structs.replace(event, **{field: with_pairs(text)}))

    def _end(self, key: _Key | None, out: list[ev.Event]) -> None:
        if key is None or self._waiting.pop(key, None) is None:
            return
        kind, id = key
        if kind is ev.ToolInputDelta:
            out.append(ev.ToolInputDelta(tool_call_id=id, input_text_delta=_MENDED))
        elif kind is ev.ReasoningDelta:
            out.append(ev.ReasoningDelta(id=id, delta=_MENDED))
        else:
            out.append(ev.TextDelta(id=id, delta=_MENDED))


def _part_ended_by(event: ev.Event) -> _Key | None:
    match event:
        case ev.TextEnd(id=id):
            return ev.TextDelta, id
        case ev.ReasoningEnd(id=id):
            return ev.ReasoningDelta, id
        case ev.ToolInputAvailable(tool_call_id=id) | ev.ToolInputError(tool_call_id=id):
            return ev.ToolInputDelta, id
        case _:
            return None
