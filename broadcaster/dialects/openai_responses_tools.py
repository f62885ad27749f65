"""The tool calls in an answer, the caller's and the provider's, each an item.

Rules
1. A call is named by its ``call_id``, or by its item's id where it has none (what the provider runs itself). Every call
   but a plain function's carries ``itemType``, so that it can be told again in the words of the wire.
2. Functions and MCP tools are called with JSON text, custom tools with any text: it streams, and is parsed when whole.
   What the others are called with is in fields: those of the finished item that are neither names nor results.
3. An input is available with its own ``.done``, or else with its item's. No text, or only blanks, mean no arguments.
4. What the provider runs itself answers with the item's end: its status and its results, or that it failed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import msgspec

from broadcaster.core import events as ev
from broadcaster.dialects.openai_responses_parts import Output, named
from broadcaster.dialects.openai_responses_words import metadata
from broadcaster.dialects.reading import Json, extras_of

_NAMES: Final = frozenset({"type", "id", "call_id", "status"})
_FAILED: Final = frozenset({"failed", "incomplete"})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kind:
    """One item type: the field that streams, what that text is, who runs the tool, and what it answers with."""

    text: str | None = None
    is_json: bool = False
    is_provider_run: bool = True
    results: frozenset[str] = frozenset()

    @property
    def has_own_name(self) -> bool:
        """Whether the call is all in its name and its text; otherwise its type is its name, its fields its input."""
        return self.text in ("arguments", "input")


_KINDS: Final = {
    "function_call": _Kind(text="arguments", is_json=True, is_provider_run=False),
    "custom_tool_call": _Kind(text="input", is_provider_run=False),
    "mcp_call": _Kind(text="arguments", is_json=True, results=frozenset({"output", "error"})),
    "code_interpreter_call": _Kind(text="code", results=frozenset({"outputs"})),
    "web_search_call": _Kind(),
    "file_search_call": _Kind(results=frozenset({"results"})),
    "image_generation_call": _Kind(results=frozenset({"result", "error"})),
    "computer_call": _Kind(is_provider_run=False),
    "local_shell_call": _Kind(is_provider_run=False),
    "apply_patch_call": _Kind(is_provider_run=False),
}


def open_tool(item: Json, *, output: Output, out: list[ev.Event]) -> Tool | None:
    """The tool call that an item is; None when it is none, or lacks what names it."""
    kind = _KINDS.get(item["type"])
    if kind is None or _call_id(item) is None:
        return None
    if kind.has_own_name and not isinstance(item.get("name"), str):
        return None
    return Tool(item, kind, output=output, out=out)


class Tool:
    """One call, from its start to its input and, if the provider runs it, its output."""

    def __init__(self, item: Json, kind: _Kind, *, output: Output, out: list[ev.Event]) -> None:
        self.type: str = item["type"]
        self.is_over = False
        self._kind = kind
        self._output = output
        self._item = item
        self._pieces: list[str] = []
        self._is_available = False
        self._call_id = _call_id(item) or ""
        output.is_calling |= not kind.is_provider_run
        out.append(ev.ToolInputStart(**self._call()))
        self._settle_text(item, out)

    @property
    def call_id(self) -> str:
        """What the call is known by."""
        return self._call_id

    def grow(self, delta: str, out: list[ev.Event]) -> bool:
        """The next piece of the input's text; False when the input is whole already."""
        if self._is_available:
            return False
        self._pieces.append(delta)
        self._output.meter.count(delta)
        out.append(ev.ToolInputDelta(tool_call_id=self._call_id, input_text_delta=delta))
        return True

    def settle(self, whole: object, out: list[ev.Event]) -> bool:
        """The whole text of the input. What no delta brought is given as one."""
        if not self._is_available:
            self._settle(whole, out)
            if self._kind.has_own_name:
                self._give_input(out, whole=whole)
        return True

    def finish(self, item: Json, out: list[ev.Event]) -> bool:
        """The item is whole."""
        self._item = self._item | item
        self._settle_text(item, out)
        self.close(out)
        if self._kind.is_provider_run:
            self._give_output(item, out)
        return True

    def close(self, out: list[ev.Event]) -> None:
        """Nothing more will come: the input is what has been told of it."""
        self.is_over = True
        if not self._is_available:
            self._give_input(out, whole=self._item.get(self._kind.text or ""))

    def _settle_text(self, item: Json, out: list[ev.Event]) -> None:
        if self._kind.text is not None and not self._is_available:
            self._settle(item.get(self._kind.text), out)

    def _settle(self, whole: object, out: list[ev.Event]) -> None:
        given = "".join(self._pieces)
        if isinstance(whole, str) and len(whole) > len(given) and whole.startswith(given):
            self.grow(whole[len(given) :], out)

    def _give_input(self, out: list[ev.Event], *, whole: object) -> None:
        self._is_available = True
        call = self._call()
        if not self._kind.has_own_name:
            known = _NAMES | self._kind.results
            input: Any = {name: value for name, value in self._item.items() if name not in known}
        elif whole is None or isinstance(whole, str):
            text = whole or "".join(self._pieces)
            input = _parsed(text) if self._kind.is_json else text
        else:
            input = whole
        if isinstance(input, _NotJson):
            out.append(ev.ToolInputError(**call, input=input.text, error_text=input.error))
        else:
            out.append(ev.ToolInputAvailable(**call, input=input))

    def _give_output(self, item: Json, out: list[ev.Event]) -> None:
        results = {name: value for name, value in item.items() if name in self._kind.results or name == "status"}
        call: dict[str, Any] = {"tool_call_id": self._call_id, "provider_executed": True}
        error = results.get("error")
        if error is None and results.get("status") not in _FAILED:
            results.pop("error", None)
            out.append(ev.ToolOutputAvailable(**call, output=results))
        else:
            told = metadata({"toolResult": results})
            out.append(ev.ToolOutputError(**call, error_text=_error_text(error), provider_metadata=told))

    def _call(self) -> dict[str, Any]:
        extras = named(self._item)
        if self.type != "function_call":
            extras["itemType"] = self.type
        if self._kind.has_own_name:
            extras |= extras_of(self._item, *_NAMES, *self._kind.results, "name", self._kind.text or "")
            name = self._item["name"]
        else:
            name = self.type.removesuffix("_call")
        return {
            "tool_call_id": self._call_id,
            "tool_name": name,
            "provider_executed": True if self._kind.is_provider_run else None,
            "dynamic": True if self.type == "mcp_call" else None,
            "provider_metadata": metadata(extras),
        }


@dataclass(frozen=True, slots=True)
class _NotJson:
    text: str
    error: str


def _parsed(text: str) -> Any:
    if not text.strip():
        return {}
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        return _NotJson(text, f"the tool's arguments are not valid JSON: {error}")


def _call_id(item: Json) -> str | None:
    for name in ("call_id", "id"):
        if isinstance(id := item.get(name), str) and id:
            return id
    return None


def _error_text(error: object) -> str:
    """What went wrong in a tool's run, for people: the tool's own words are part of the answer."""
    if isinstance(error, str) and error:
        return error
    message = error.get("message") if isinstance(error, dict) else None
    return message if isinstance(message, str) and message else "the tool did not complete"
