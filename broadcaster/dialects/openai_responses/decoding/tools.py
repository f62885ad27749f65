"""The tool calls in an answer, the caller's and the provider's, each an item.

Rules
1. A call is named by its ``call_id``, or by its item's id if it has none (what the provider runs itself). Every call
   except a plain function's carries ``itemType``, so that it can be encoded for this wire.
2. Functions and MCP tools are called with JSON text, custom tools with any text: it streams, and is parsed when whole.
   The input of other calls is in fields: those of the finished item that are neither names nor results.
3. An input is available with its own ``.done``, or else with its item's. No text, or only blanks, mean no arguments.
4. A tool that the provider runs has its output with the item's end: its status and its results, or that it failed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from broadcaster.core import events as ev
from broadcaster.dialects.halves import with_pairs
from broadcaster.dialects.openai.wire import metadata
from broadcaster.dialects.openai_responses.decoding.parts import ResponsesOutput, named
from broadcaster.dialects.reading import Json, extras_of, tool_input

_NAMES: Final = frozenset({"type", "id", "call_id", "status"})
_FAILED: Final = frozenset({"failed", "incomplete"})


@dataclass(frozen=True, slots=True, kw_only=True)
class _CallKind:
    """One item type: the field that streams, the kind of its text, where the tool runs, and its result's fields."""

    text: str | None = None
    is_json: bool = False
    is_provider_run: bool = True
    results: frozenset[str] = frozenset()

    @property
    def has_own_name(self) -> bool:
        """Whether the call is given by its name and text; otherwise its type is its name, its fields its input."""
        return self.text in ("arguments", "input")


_KINDS: Final = {
    "function_call": _CallKind(text="arguments", is_json=True, is_provider_run=False),
    "custom_tool_call": _CallKind(text="input", is_provider_run=False),
    "mcp_call": _CallKind(text="arguments", is_json=True, results=frozenset({"output", "error"})),
    "code_interpreter_call": _CallKind(text="code", results=frozenset({"outputs"})),
    "web_search_call": _CallKind(),
    "file_search_call": _CallKind(results=frozenset({"results"})),
    "image_generation_call": _CallKind(results=frozenset({"result", "error"})),
    "computer_call": _CallKind(is_provider_run=False),
    "local_shell_call": _CallKind(is_provider_run=False),
    "apply_patch_call": _CallKind(is_provider_run=False),
}


def open_tool(item: Json, *, output: ResponsesOutput, out: list[ev.Event]) -> ToolCallDecoder | None:
    """The decoder of an item that is a tool call; None for any other item, or one without a name."""
    kind, ids = _KINDS.get(item["type"]), ids_of(item)
    if kind is None or not ids or (kind.has_own_name and not isinstance(item.get("name"), str)):
        return None
    return ToolCallDecoder(item, kind, call_id=ids[0], output=output, out=out)


class ToolCallDecoder:
    """One call, from its start to its input and, if the provider runs it, its output."""

    def __init__(
        self, item: Json, kind: _CallKind, *, call_id: str, output: ResponsesOutput, out: list[ev.Event]
    ) -> None:
        self.type: str = item["type"]
        self.call_id = call_id
        self.is_over = False
        self._kind = kind
        self._output = output
        self._item = item
        self._pieces: list[str] = []
        self._is_available = False
        output.is_calling |= not kind.is_provider_run
        out.append(ev.ToolInputStart(**self._call()))
        self._grow_to_item(item, out)

    def grow(self, delta: str, out: list[ev.Event]) -> bool:
        """The next piece of the input's text; False when the input is whole already."""
        if self._is_available:
            return False
        self._pieces.append(delta)
        self._output.meter.count(delta)
        out.append(ev.ToolInputDelta(tool_call_id=self.call_id, input_text_delta=delta))
        return True

    def complete(self, whole: object, out: list[ev.Event]) -> bool:
        """The whole text of the input. The piece that the deltas left out is sent as one."""
        if not self._is_available:
            self._grow_to(whole, out)
            if self._kind.has_own_name:
                self._give_input(out, whole=whole)
        return True

    def finish(self, item: Json, out: list[ev.Event]) -> bool:
        """The item is whole; False when it holds metadata that came too late for the call's input."""
        sent = self._extras() if self._is_available else None
        self._item = self._item | item
        self._grow_to_item(item, out)
        self.close(out)
        late = {} if sent is None else {name: value for name, value in self._extras().items() if name not in sent}
        if self._kind.is_provider_run:
            self._give_output(item, late, out=out)
            return True
        return not late

    def close(self, out: list[ev.Event]) -> None:
        """Nothing more will come: the input is what has come of it."""
        self.is_over = True
        if not self._is_available:
            self._give_input(out, whole=self._item.get(self._kind.text or ""))

    def _grow_to_item(self, item: Json, out: list[ev.Event]) -> None:
        if self._kind.text is not None and not self._is_available:
            self._grow_to(item.get(self._kind.text), out)

    def _grow_to(self, whole: object, out: list[ev.Event]) -> None:
        given = with_pairs("".join(self._pieces))
        if isinstance(whole, str) and len(whole) > len(given) and whole.startswith(given):
            self.grow(whole[len(given) :], out)

    def _give_input(self, out: list[ev.Event], *, whole: object) -> None:
        self._is_available = True
        call = self._call()
        text = whole if isinstance(whole, str) and whole else with_pairs("".join(self._pieces))
        if not self._kind.has_own_name:
            known = _NAMES | self._kind.results
            fields = {name: value for name, value in self._item.items() if name not in known}
            out.append(ev.ToolInputAvailable(**call, input=fields))
        elif whole is not None and not isinstance(whole, str):
            out.append(ev.ToolInputAvailable(**call, input=whole))
        elif self._kind.is_json:
            out.append(tool_input(call, text, empty={}, reader=self._output.reader))
        else:
            out.append(ev.ToolInputAvailable(**call, input=text))

    def _give_output(self, item: Json, late: Json, *, out: list[ev.Event]) -> None:
        results = {name: value for name, value in item.items() if name in self._kind.results or name == "status"}
        call: dict[str, Any] = {"tool_call_id": self.call_id, "provider_executed": True}
        error, status = results.get("error"), results.get("status")
        if error is None and not (isinstance(status, str) and status in _FAILED):
            results.pop("error", None)
            out.append(ev.ToolOutputAvailable(**call, output=results, provider_metadata=metadata(late)))
        else:
            extras = metadata({**late, "toolResult": results})
            out.append(ev.ToolOutputError(**call, error_text=_error_text(error), provider_metadata=extras))

    def _call(self) -> dict[str, Any]:
        extras = named(self._item) | self._extras()
        return {
            "tool_call_id": self.call_id,
            "tool_name": self._item["name"] if self._kind.has_own_name else self.type.removesuffix("_call"),
            "provider_executed": True if self._kind.is_provider_run else None,
            "dynamic": True if self.type == "mcp_call" else None,
            "provider_metadata": metadata(extras),
        }

    def _extras(self) -> Json:
        """The call's metadata beside its name and its input."""
        extras = {} if self.type == "function_call" else {"itemType": self.type}
        if self._kind.has_own_name:
            extras |= extras_of(self._item, *_NAMES, *self._kind.results, "name", self._kind.text or "")
        return extras


def ids_of(item: Json) -> list[str]:
    """The names of an item; a call's own precedes its item's."""
    return [id for name in ("call_id", "id") if isinstance(id := item.get(name), str) and id]


def _error_text(error: object) -> str:
    """The error of a tool's run, for people: the tool's own text belongs to the answer."""
    if isinstance(error, str) and error:
        return error
    message = error.get("message") if isinstance(error, dict) else None
    return message if isinstance(message, str) and message else "the tool did not complete"
