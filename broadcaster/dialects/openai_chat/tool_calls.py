"""The tool calls of a chat answer, put together from their fragments.

Rules
1. Calls are distinguished by their index and may interleave. A fragment without an index belongs to the open call of
   its id, else to the call of its place in the list. At the same index another id, or without an id another name,
   begins a new call: some servers send every call whole under index 0.
2. A call without an id is ``call_<index>``; an id that the stream has used already gets a number, so that two calls
   never become one.
3. A call starts when its name is known; earlier fragments wait until then.
4. Arguments are parsed only when whole, at the end of the answer: fragments do not mark which is the last.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec

from broadcaster.core import events as ev
from broadcaster.dialects.arguments import ArgumentsReader
from broadcaster.dialects.errors import BAD_DATA
from broadcaster.dialects.halves import with_pairs
from broadcaster.dialects.openai.wire import metadata
from broadcaster.dialects.openai_chat.wire import CALL_FIELDS
from broadcaster.dialects.reading import Json, extras_of, tool_input


@dataclass(frozen=True, slots=True, kw_only=True)
class Fragment:
    """What one chunk holds of a call; ``function`` is the wire's name for the call's kind."""

    index: int | None
    id: str | None
    function: str
    name: str | None
    arguments: str
    extras: Json


def fragment_of(wire: Json) -> Fragment:
    """An element of ``tool_calls``. Raises ProviderFailed when it is malformed."""
    return _fragment(wire, "custom" if "custom" in wire and "function" not in wire else "function")


def legacy_fragment_of(body: Json) -> Fragment:
    """A ``function_call``: the one call of the older wire, which has neither index nor id."""
    return _fragment({"index": 0, "function_call": body}, "function_call")


def _fragment(wire: Json, function: str) -> Fragment:
    body, index = wire.get(function) or {}, wire.get("index")
    if not isinstance(body, dict):
        raise BAD_DATA.failure(detail="a malformed tool call")
    arguments = "input" if function == "custom" else "arguments"
    return Fragment(
        index=index if isinstance(index, int) else None,
        id=_name(wire.get("id")),
        function=function,
        name=_name(body.get("name")),
        arguments=_text(body.get(arguments)),
        extras=extras_of(wire, *CALL_FIELDS, function) | extras_of(body, "name", arguments),
    )


@dataclass(slots=True)
class _OpenCall:
    """An open call."""

    id: str
    wire_id: str | None
    function: str
    name: str | None = None
    is_started: bool = False
    arguments: list[str] = field(default_factory=list)
    extras: Json = field(default_factory=dict)

    def grow(self, fragment: Fragment, out: list[ev.Event]) -> None:
        self.name = self.name or fragment.name
        self.extras |= fragment.extras
        if self.name is not None and not self.is_started:
            self._start(out)
        if fragment.arguments:
            self.arguments.append(fragment.arguments)
            if self.is_started:
                self._emit(fragment.arguments, out)

    def end(self, out: list[ev.Event], reader: ArgumentsReader) -> None:
        """Rule 4. The input of a custom tool is text and stays it."""
        if not self.is_started:
            self._start(out)
        text = with_pairs("".join(self.arguments))
        if self.function == "custom":
            out.append(ev.ToolInputAvailable(**self._shared(), input=text))
        else:
            out.append(tool_input(self._shared(), text, empty={}, reader=reader))

    def _start(self, out: list[ev.Event]) -> None:
        self.is_started = True
        out.append(ev.ToolInputStart(**self._shared()))
        for fragment in self.arguments:
            self._emit(fragment, out)

    def _emit(self, arguments: str, out: list[ev.Event]) -> None:
        out.append(ev.ToolInputDelta(tool_call_id=self.id, input_text_delta=arguments))

    def _shared(self) -> Json:
        kind = {} if self.function == "function" else {"toolType": self.function}
        extras = metadata({**self.extras, **kind})
        return {"tool_call_id": self.id, "tool_name": self.name or "", "provider_metadata": extras}


class Calls:
    """The calls of one answer, in the order they open."""

    def __init__(self) -> None:
        self._open: dict[int, _OpenCall] = {}
        self._ids: set[str] = set()
        self._reader = ArgumentsReader()

    def take(self, fragment: Fragment, place: int, out: list[ev.Event]) -> bool:
        """Take a fragment from its place in the wire's list; True when it began a new call."""
        index = self._index_of(fragment, place)
        call = self._open.get(index)
        is_new = call is None or _is_another(call, fragment)
        if call is None or is_new:
            if call is not None:
                self._open.pop(index).end(out, self._reader)
            call = _OpenCall(self._free_id(fragment.id or f"call_{index}"), fragment.id, fragment.function)
            self._open[index] = call
        call.grow(fragment, out)
        return is_new

    def close(self, out: list[ev.Event]) -> None:
        """The answer is whole: end what is open."""
        for call in self._open.values():
            call.end(out, self._reader)
        self._open.clear()

    def _index_of(self, fragment: Fragment, place: int) -> int:
        if fragment.index is not None:
            return fragment.index
        same = (at for at, call in self._open.items() if fragment.id is not None and call.wire_id == fragment.id)
        return next(same, place)

    def _free_id(self, preferred: str) -> str:
        id, number = preferred, 1
        while id in self._ids:
            number += 1
            id = f"{preferred}-{number}"
        self._ids.add(id)
        return id


def _is_another(call: _OpenCall, fragment: Fragment) -> bool:
    """Rule 1."""
    if fragment.id is not None and call.wire_id is not None:
        return fragment.id != call.wire_id
    return fragment.id is None and None not in (fragment.name, call.name) and fragment.name != call.name


def _name(value: object) -> str | None:
    """An id or name; None when it is absent, empty or not a text."""
    return value if isinstance(value, str) and value else None


def _text(arguments: Any) -> str:
    """A fragment of the arguments. Servers that have them whole may send the object itself."""
    match arguments:
        case None:
            return ""
        case str():
            return arguments
        case dict():
            return msgspec.json.encode(arguments).decode()
        case _:
            raise BAD_DATA.failure(detail="tool arguments that are no text")
