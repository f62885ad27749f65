"""Items of LangGraph in several modes (``graph.astream(stream_mode=[…])``, ``astream_events``) → events.

Rules
1. An item is recognized by its shape: ``(mode, data)``, with ``subgraphs=True`` ``(namespace, mode, data)``, with
   ``version="v2"`` a mapping of ``type``, ``ns`` and ``data``, and in ``astream_events`` a mapping of ``event``,
   ``run_id`` and ``data``.
2. Messages of models and tools are those of `langchain.LangChainItems`.
3. What a node gives its writer (``custom``), or ``adispatch_custom_event``, is an event of ours if it may be published
   and its ``type`` begins with ``data-``. Every other item of another mode is ``data-langgraph-<mode>`` with ``{"ns",
   "data"}``, as in version "v2".
4. Of ``astream_events`` the events of chat models and tools and the custom events are published. A model with the tag
   ``nostream`` is left out, as in ``stream_mode="messages"``.
5. The text of what a node has raised is the program's, and not its viewers': the modes that report it show that the
   node failed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec

from broadcaster.core import events as ev
from broadcaster.core.requests.publishing import encode_published
from broadcaster.errors import InvalidEvent
from broadcaster.library.sources.langchain import LangChainItems, source_in
from broadcaster.library.sources.plain_json import plain_json

PROVIDER: Final = "langgraph"
_MESSAGES: Final = "messages"
_CUSTOM: Final = "custom"
_MODES: Final = frozenset({"values", "updates", "checkpoints", "tasks", "debug", _MESSAGES, _CUSTOM})
_NO_STREAM: Final = "nostream"
_REPORTS: Final = frozenset({"tasks", "debug", "checkpoints"})
_NESTED: Final = frozenset({"payload", "tasks"})
_NODE_FAILED: Final = "the node failed"


class LangGraphItems:
    """One answer of the models of a graph; see ItemDecoder."""

    def __init__(self) -> None:
        self._messages = LangChainItems()
        self._streamed: set[str] = set()

    @property
    def is_whole(self) -> bool:
        """See ItemDecoder. LangChain does not report an answer that was cut."""
        return True

    def begins_another(self, item: Any) -> bool:
        """See ItemDecoder."""
        part = part_in(item)
        found = None if part is None else self._message_in(part)
        return found is not None and self._messages.is_message_of_another(*found)

    def decode(self, item: Any) -> list[ev.Event]:
        """See ItemDecoder."""
        if (part := part_in(item)) is None:
            return []
        if (found := self._message_in(part)) is not None:
            self._note(part)
            return self._messages.decode_message(*found)
        if part.mode in _MODES:
            return [] if part.mode == _MESSAGES else [_data_event(part)]
        return self._decode_event(part)

    def flush(self) -> list[ev.Event]:
        """See ItemDecoder."""
        return self._messages.flush()

    def usage_so_far(self) -> ev.Usage:
        """See ItemDecoder."""
        return self._messages.usage_so_far()

    # -- astream_events

    def _message_in(self, part: GraphPart) -> tuple[Any, str] | None:
        """The message in an item, and the model that sends it."""
        match part:
            case GraphPart(mode="messages", data=(message, _) as sent):
                return message, source_in(sent)
            case GraphPart(mode="on_chat_model_stream", data={"chunk": chunk}) if not part.is_hidden:
                return chunk, part.source
            case GraphPart(mode="on_chat_model_end", data={"output": message}) if not part.is_hidden:
                return None if part.source in self._streamed else (message, part.source)
            case GraphPart(mode="on_tool_end", data={"output": output}) if getattr(output, "type", None) == "tool":
                return output, part.source
        return None

    def _note(self, part: GraphPart) -> None:
        if part.mode == "on_chat_model_stream":
            self._streamed.add(part.source)

    def _decode_event(self, part: GraphPart) -> list[ev.Event]:
        match part:
            case GraphPart(mode="on_chat_model_end"):
                self._messages.complete(part.source)
            case GraphPart(mode="on_tool_error", data={"tool_call_id": str(id), "error": error}):
                return [ev.ToolOutputError(tool_call_id=id, error_text=f"the tool raised {type(error).__name__}")]
            case GraphPart(mode="on_custom_event"):
                return [_data_event(part._replace(mode=_CUSTOM))]
        return []


class GraphPart(NamedTuple):
    """An item: ``mode`` is the stream's mode, or the name of the event; ``source`` the run of an event."""

    mode: str
    data: Any
    namespace: tuple[str, ...] = ()
    source: str = ""
    is_hidden: bool = False


def part_in(item: Any) -> GraphPart | None:
    """What LangGraph yields in several modes; None for any other item."""
    match item:
        case (str(mode), data) if mode in _MODES:
            return GraphPart(mode, data)
        case (tuple(namespace), str(mode), data) if mode in _MODES:
            return GraphPart(mode, data, namespace)
        case (tuple(namespace), (_, dict()) as data):
            return GraphPart(_MESSAGES, data, namespace)
        case {"type": str(mode), "ns": tuple(namespace), "data": data} if mode in _MODES:
            return GraphPart(mode, data, namespace)
        case {"event": str(event), "run_id": str(run), "data": data} if event.startswith("on_"):
            return GraphPart(event, data, source=run, is_hidden=_NO_STREAM in (item.get("tags") or ()))
    return None


def _data_event(part: GraphPart) -> ev.DataEvent:
    """Rule 3."""
    data = plain_json(part.data)
    if part.mode == _CUSTOM and isinstance(data, Mapping) and str(data.get("type", "")).startswith("data-"):
        try:
            encode_published(data, is_writable=True)
            return msgspec.convert(data, ev.DataEvent)
        except InvalidEvent:
            pass  # it is no event of ours
    shown = _without_exceptions(data) if part.mode in _REPORTS else data
    return ev.DataEvent(type=f"data-{PROVIDER}-{part.mode}", data={"ns": list(part.namespace), "data": shown})


def _without_exceptions(report: Any) -> Any:
    """Rule 5: the reports of tasks hold the text of what a node has raised."""
    if isinstance(report, list):
        return [_without_exceptions(each) for each in report]
    if not isinstance(report, dict):
        return report
    shown = {name: _without_exceptions(value) if name in _NESTED else value for name, value in report.items()}
    return shown | {"error": _NODE_FAILED} if shown.get("error") is not None else shown
