"""Message chunks of LangChain (``astream`` of a chat model, ``stream_mode="messages"`` of LangGraph) → events.

Rules
1. After its last chunk, a message with another id is another answer of the model, and a step of ours
   (`answers.Answers`). Within an answer the id may change: LangChain replaces its own by the provider's. Messages of
   tools are the outputs of calls; messages of other roles are the request's, and are left out.
2. Content is text, or blocks. A text or reasoning part is open until another kind or another index comes; calls are
   open until the answer ends, their outputs come, or their source sends another message, because their fragments may
   interleave.
   Nodes of a graph that run at the same time share an answer: each *source* has a part and calls of its own, and the
   answer goes on until all of their messages are complete.
3. Counts of the chunks add up, as LangChain's own sum of chunks has them.
4. The end of the iterator is the end of the answer: LangChain does not report an answer that was cut.
5. Blocks that our events cannot express become ``data-langchain``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from broadcaster.core import events as ev
from broadcaster.core.providers.metering import OutputMeter
from broadcaster.dialects.anthropic.wire import FINISH_REASONS as OF_MESSAGES
from broadcaster.dialects.arguments import ArgumentsReader
from broadcaster.dialects.openai_chat.wire import FINISH_REASONS as OF_CHAT
from broadcaster.dialects.openai_chat.wire import SERVER_REASONS as OF_SERVERS
from broadcaster.dialects.openai_responses.wire import INCOMPLETE_REASONS
from broadcaster.dialects.reading import Json, as_text, count_in, member, token_count, tool_input

PROVIDER: Final = "langchain"
_REASONS: Final[dict[str, ev.FinishReason]] = {
    **OF_MESSAGES,
    **OF_CHAT,
    **OF_SERVERS,
    **INCOMPLETE_REASONS,
    "completed": "stop",
    "safety": "content-filter",
}
# The calls in the content are those of ``tool_call_chunks``.
_CALL_BLOCKS: Final = frozenset(
    {"tool_use", "input_json_delta", "function_call", "tool_call", "tool_call_chunk", "custom_tool_call"}
)


class _OpenText(NamedTuple):
    kind: ev.WrittenEvents
    place: object
    id: str


class LangChainItems:
    """One message; see ItemDecoder."""

    def __init__(self) -> None:
        self._meter = OutputMeter()
        self._ids: dict[str, str | None] = {}
        self._complete: set[str] = set()
        self._is_started = False
        self._opened = 0
        self._parts: dict[str, _OpenText] = {}
        self._calls: dict[tuple[str, object], tuple[Json, list[str]]] = {}
        self._callers: dict[str, str] = {}  # the source of each call, by its id
        self._usage: Json = {}
        self._reason: str | None = None
        self._model: str | None = None
        self._is_refused = False

    @property
    def is_whole(self) -> bool:
        """See ItemDecoder, and rule 4."""
        return True

    def begins_another(self, item: Any) -> bool:
        """See ItemDecoder."""
        return self.is_message_of_another(message_in(item), source_in(item))

    def is_message_of_another(self, message: Any, source: str) -> bool:
        """``begins_another`` of a message and the source that it comes from."""
        growing = self._ids.keys() - self._complete
        if message.type == "tool":
            caller = self._callers.get(message.tool_call_id)
            is_alone = len(growing) <= 1 if caller is None else growing <= {caller}
            return self._is_started and is_alone
        return self._is_started and _is_model(message) and not growing and self._is_new(message, source)

    def decode(self, item: Any) -> list[ev.Event]:
        """See ItemDecoder."""
        return self.decode_message(message_in(item), source_in(item))

    def decode_message(self, message: Any, source: str) -> list[ev.Event]:
        """The events of a message or of a chunk of one."""
        out: list[ev.Event] = []
        if message.type == "tool":
            id = message.tool_call_id
            self._end_calls([key for key, (call, _) in self._calls.items() if call["tool_call_id"] == id], out)
            return [*out, _output_of(message)]
        if not _is_model(message):
            return []
        if not self._is_started:
            self._is_started = True
            out += [ev.Start(message_id=message.id), ev.StartStep()]
        if source in self._complete and self._is_new(message, source):
            self._close_part(source, out)
            self._end_calls([key for key in self._calls if key[0] == source], out)
            self._complete.discard(source)
        self._ids[source] = message.id or self._ids.get(source)
        reasoning = message.additional_kwargs.get("reasoning_content")
        if isinstance(reasoning, str):
            self._write(ev.REASONING, reasoning, out, place=(source, None))
        for block in [message.content] if isinstance(message.content, str) else message.content:
            self._take_block(block, source, out)
        self._take_calls(message, source, out)
        self._take_metadata(message, source)
        return out

    def complete(self, source: str) -> None:
        """No chunk of this source's message follows."""
        if source in self._ids:
            self._complete.add(source)

    def flush(self) -> list[ev.Event]:
        """See ItemDecoder."""
        out: list[ev.Event] = []
        if self._is_started:
            for source in list(self._parts):
                self._close_part(source, out)
            self._end_calls(list(self._calls), out)
            extras = {PROVIDER: {"finishReason": self._reason}} if self._reason else None
            reason, model = self._finish_reason(), {"model": self._model} if self._model else None
            out += [
                self.usage_so_far(),
                ev.FinishStep(finish_reason=reason, provider_metadata=extras),
                ev.Finish(finish_reason=reason, message_metadata=model, provider_metadata=extras),
            ]
        return out

    def usage_so_far(self) -> ev.Usage:
        """See ItemDecoder."""
        counts = self._usage
        if not counts.get("output"):
            return ev.Usage(output_tokens=self._meter.estimated_tokens(), estimated=True)
        cached, stored = counts.get("cache_read"), counts.get("cache_creation")
        return ev.Usage(
            input_tokens=max(0, counts.get("input", 0) - (cached or 0) - (stored or 0)),
            output_tokens=counts["output"],
            reasoning_tokens=counts.get("reasoning"),
            cached_input_tokens=cached,
            cache_write_input_tokens=stored,
        )

    # --------------------------------------------------------------------------------------------------------- parts

    def _take_block(self, block: Any, source: str, out: list[ev.Event]) -> None:
        place = (source, member(block, "index"))
        match block:
            case str() | {"type": "text", "text": str()}:
                self._write(ev.TEXT, block if isinstance(block, str) else block["text"], out, place=place)
            case {"type": "refusal", "refusal": str(text)}:
                self._is_refused = True
                self._write(ev.TEXT, text, out, place=place)
            case {"type": "thinking"} | {"type": "reasoning"}:
                self._write(ev.REASONING, _reasoning_of(block), out, place=place)
                if isinstance(signature := block.get("signature"), str) and signature:
                    # It comes as an empty delta, as on Anthropic's own wire.
                    extras = {"anthropic": {"signature": signature}}
                    id = self._open(ev.REASONING, place, out)
                    out.append(ev.REASONING.delta(id=id, delta="", provider_metadata=extras))
            case {"type": str(kind)} if kind in _CALL_BLOCKS:
                pass
            case {"type": "text"}:
                pass  # only its citations or its index
            case _:
                out.append(ev.DataEvent(type=f"data-{PROVIDER}", data=block))

    def _write(self, kind: ev.WrittenEvents, text: str, out: list[ev.Event], *, place: tuple[str, object]) -> None:
        if text:
            self._meter.count(text)
            out.append(kind.delta(id=self._open(kind, place, out), delta=text))

    def _open(self, kind: ev.WrittenEvents, place: tuple[str, object], out: list[ev.Event]) -> str:
        source, index = place
        part = self._parts.get(source)
        if part is None or (part.kind, part.place) != (kind, index):
            self._close_part(source, out)
            part = self._parts[source] = _OpenText(kind, index, str(self._opened))
            self._opened += 1
            out.append(kind.start(id=part.id))
        return part.id

    def _close_part(self, source: str, out: list[ev.Event]) -> None:
        if (part := self._parts.pop(source, None)) is not None:
            out.append(part.kind.end(id=part.id))

    # --------------------------------------------------------------------------------------------------------- calls

    def _take_calls(self, message: Any, source: str, out: list[ev.Event]) -> None:
        fragments = getattr(message, "tool_call_chunks", None)
        if fragments is None:  # a whole message, of a model that does not stream
            for call in message.tool_calls:
                self._open_call(call["id"], call["name"], out, key=(source, call["id"]))
                self._calls[source, call["id"]][1].append(as_text(call["args"]))
            return
        for fragment in fragments:
            index = fragment.get("index")
            newest = next((place for of, place in reversed(self._calls) if of == source), None)
            key = (source, index if index is not None else fragment.get("id") or newest)
            if key not in self._calls:
                self._close_part(source, out)
                self._open_call(fragment.get("id") or str(key[1]), fragment.get("name") or "", out, key=key)
            if text := fragment.get("args"):
                call, texts = self._calls[key]
                texts.append(text)
                self._meter.count(text)
                out.append(ev.ToolInputDelta(tool_call_id=call["tool_call_id"], input_text_delta=text))

    def _open_call(self, id: str, name: str, out: list[ev.Event], *, key: tuple[str, object]) -> None:
        call: Json = {"tool_call_id": id, "tool_name": name}
        self._calls[key] = (call, [])
        self._callers[id] = key[0]
        out.append(ev.ToolInputStart(**call))

    def _end_calls(self, keys: Iterable[tuple[str, object]], out: list[ev.Event]) -> None:
        for key in keys:
            call, fragments = self._calls.pop(key)
            out.append(tool_input(call, "".join(fragments), empty={}, reader=ArgumentsReader()))

    # ------------------------------------------------------------------------------------------------------- the end

    def _is_new(self, message: Any, source: str) -> bool:
        return message.id is not None and message.id != self._ids.get(source)

    def _take_metadata(self, message: Any, source: str) -> None:
        metadata = message.response_metadata
        raw = metadata.get("finish_reason") or metadata.get("stop_reason") or metadata.get("status")
        is_chunk = message.type == "AIMessageChunk"
        if not is_chunk or getattr(message, "chunk_position", None) == "last" or isinstance(raw, str):
            self._complete.add(source)
        if isinstance(raw, str):
            self._reason = member(metadata.get("incomplete_details"), "reason") or raw
        model = metadata.get("model_name") or metadata.get("model")
        self._model = model if isinstance(model, str) else self._model
        usage = message.usage_metadata or {}
        read, written = usage.get("input_token_details"), usage.get("output_token_details")
        for name, count in {
            "input": token_count(usage.get("input_tokens")),
            "output": token_count(usage.get("output_tokens")),
            "cache_read": count_in(read, "cache_read"),
            "cache_creation": count_in(read, "cache_creation"),
            "reasoning": count_in(written, "reasoning"),
        }.items():
            if count is not None:
                self._usage[name] = self._usage.get(name, 0) + count

    def _finish_reason(self) -> ev.FinishReason | None:
        if self._is_refused:
            return "content-filter"
        if self._reason is None:
            return None
        reason = _REASONS.get(self._reason.lower(), "other")
        return "tool-calls" if reason == "stop" and self._callers else reason


def message_in(item: Any) -> Any:
    """The message, without the metadata that LangGraph puts beside it."""
    return item[0] if isinstance(item, tuple) else item


def source_in(item: Any) -> str:
    """Which of several models that run at the same time has sent the message: the task of LangGraph, or ""."""
    metadata = item[1] if isinstance(item, tuple) and len(item) == 2 else None
    found = member(metadata, "langgraph_checkpoint_ns")
    return found if isinstance(found, str) else ""


def _is_model(message: Any) -> bool:
    return message.type in ("ai", "AIMessageChunk")


def _reasoning_of(block: Json) -> str:
    text = block.get("thinking") or block.get("reasoning")
    if isinstance(text, str):
        return text
    summary = block.get("summary") or ()
    return "".join(each for part in summary if isinstance(each := member(part, "text"), str))


def _output_of(message: Any) -> ev.Event:
    if message.status == "error":
        return ev.ToolOutputError(tool_call_id=message.tool_call_id, error_text=as_text(message.content))
    return ev.ToolOutputAvailable(tool_call_id=message.tool_call_id, output=message.content)
