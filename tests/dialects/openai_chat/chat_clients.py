"""The real OpenAI SDK, fed with bytes: what it makes of a chat completions stream, by its helper and by hand."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import httpx2
import openai
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletionChunk

from broadcaster.core import events as ev
from broadcaster.core.entry import Entry
from tests.dialects.openai_chat.chat_streams import Json

EPOCH = 1_700_000_123_456
REQUEST: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}


def entries_of(events: Iterable[ev.Event], *, epoch: int = EPOCH, after: int = 0) -> list[Entry]:
    """The events as a log holds them."""
    return [Entry(epoch, seq, ev.encode_event(event)) for seq, event in enumerate(events, start=after + 1)]


def client(body: bytes) -> openai.OpenAI:
    """An SDK whose server answers every request with this body."""
    head = {"content-type": "text/event-stream"}
    transport = httpx2.MockTransport(lambda _: httpx2.Response(200, content=body, headers=head))
    http = httpx2.Client(transport=transport)
    return openai.OpenAI(api_key="k", base_url="http://surface/v1", max_retries=0, http_client=http)


def helper_final(body: bytes) -> Json:
    """The final object of ``chat.completions.stream``."""
    with client(body).chat.completions.stream(**REQUEST) as stream:
        final = stream.get_final_completion()
    return final.model_dump(mode="json", exclude_none=True, warnings=False)


def chunks_of(body: bytes) -> list[Json]:
    """The chunks that ``chat.completions.create(stream=True)`` yields. Raises openai.APIError."""
    with client(body).chat.completions.create(**REQUEST, stream=True) as stream:
        return [chunk.model_dump(mode="json", exclude_unset=True, warnings=False) for chunk in stream]


def final_of(body: bytes) -> Json:
    """The object that ``helper_final`` would parse: the SDK's state without its transport, whatever the reason."""
    state: Any = ChatCompletionStreamState()
    for data in data_of(body):
        state.handle_chunk(ChatCompletionChunk.construct(**data))
    final: Json = state.current_completion_snapshot.model_dump(mode="json", exclude_none=True, warnings=False)
    return final


def data_of(body: bytes) -> list[Json]:
    """The objects on the ``data`` lines of a body of ours."""
    lines = [line.removeprefix(b"data: ") for line in body.split(b"\n\n") if line]
    return [json.loads(line) for line in lines if line != b"[DONE]"]


def by_hand(body: bytes) -> Json:
    """What a program without the helper adds up: texts, calls, the reason and the counts."""
    return added_up(chunks_of(body))


def added_up(chunks: Iterable[Json]) -> Json:
    """The same of chunks that have been read."""
    result: Json = {"content": "", "reasoning": "", "refusal": "", "calls": {}, "reason": None, "usage": None}
    for chunk in chunks:
        result["usage"] = chunk.get("usage") or result["usage"]
        for choice in chunk.get("choices") or ():
            if choice["index"] != 0:
                continue
            delta = choice["delta"] or {}
            result["content"] += delta.get("content") or ""
            result["refusal"] += delta.get("refusal") or ""
            result["reasoning"] += delta.get("reasoning_content") or delta.get("reasoning") or ""
            result["reason"] = choice.get("finish_reason") or result["reason"]
            for call in delta.get("tool_calls") or ():
                known = result["calls"].setdefault(call["index"], {"id": None, "name": "", "arguments": ""})
                known["id"] = call.get("id") or known["id"]
                known["name"] += call["function"].get("name") or ""
                known["arguments"] += call["function"].get("arguments") or ""
    return result
