"""A run of the OpenAI Agents SDK becomes one answer, and is cancelled when its publication is.

The released package runs in tests/frameworks/publishing; the classes here have its shapes.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from broadcaster import Broadcaster
from broadcaster.errors import StreamExists
from tests.library.sources.test_frameworks import events_of, types_of
from tests.support.log.log_world import until


class WireModel:
    """An event of the Responses API, as the SDK's model."""

    def __init__(self, type: str, **fields: Any) -> None:
        self.type = type
        self._fields = {"type": type, **fields}

    def model_dump_json(self, **_: Any) -> str:
        return json.dumps(self._fields)


@dataclass
class Emitted:
    type: str
    data: Any = None
    item: Any = None
    new_agent: Any = None


def raw(type: str, **fields: Any) -> Emitted:
    return Emitted("raw_response_event", data=WireModel(type, **fields))


def agent(name: str) -> Emitted:
    return Emitted("agent_updated_stream_event", new_agent=SimpleNamespace(name=name))


def happened(type: str, raw_item: Any, **fields: Any) -> Emitted:
    return Emitted("run_item_stream_event", item=SimpleNamespace(type=type, raw_item=raw_item, **fields))


def response(id: str, *items: dict[str, Any]) -> list[Emitted]:
    usage = {"input_tokens": 10, "output_tokens": 5}
    return [
        raw("response.created", response={"id": id, "model": "gpt-5"}),
        *(raw("response.output_item.done", item=item, output_index=at) for at, item in enumerate(items)),
        raw("response.completed", response={"id": id, "status": "completed", "output": [*items], "usage": usage}),
    ]


def call(name: str, id: str) -> dict[str, Any]:
    return {"type": "function_call", "id": f"fc_{id}", "call_id": id, "name": name, "arguments": '{"city":"Paris"}'}


MESSAGE = {"type": "message", "id": "msg_1", "content": [{"type": "output_text", "text": "It is warm."}]}
CALL = ("tool-input-start", "tool-input-delta", "tool-input-available")
RUN = [
    agent("assistant"),
    *response("resp_1", call("weather", "call_1"), call("transfer_to_writer", "call_2")),
    happened("tool_call_item", call("weather", "call_1")),
    happened("tool_call_output_item", {"call_id": "call_1", "output": "{21}"}, output={"degrees": 21}),
    happened("handoff_output_item", {"call_id": "call_2", "output": '{"assistant": "writer"}'}),
    agent("writer"),
    *response("resp_2", MESSAGE),
    happened("message_output_item", MESSAGE),
]


async def test_a_run_is_one_answer_with_the_outputs_of_its_tools_and_its_agents() -> None:
    events = await events_of(RUN)
    kinds = [kind for kind in types_of(events) if kind != "tool-input-delta"]
    called = [kind for kind in CALL if kind != "tool-input-delta"]
    assert kinds == [
        *("data-openai-agents", "start", "start-step", *called, *called, "usage", "finish-step"),
        *("tool-output-available", "tool-output-available", "data-openai-agents"),
        *("start-step", "text-start", "text-delta", "text-end", "usage", "finish-step", "finish"),
    ]
    assert [event["data"] for event in events if "data" in event] == [{"agent": "assistant"}, {"agent": "writer"}]
    outputs = {event["toolCallId"]: event["output"] for event in events if event["type"] == "tool-output-available"}
    assert outputs == {"call_1": {"degrees": 21}, "call_2": '{"assistant": "writer"}'}
    counts = next(event for event in reversed(events) if event["type"] == "usage")
    assert (counts["inputTokens"], counts["outputTokens"]) == (20, 10)
    assert events[-1]["finishReason"] == "stop"


async def test_a_run_that_a_tool_ends_is_whole_and_one_that_is_cut_is_not() -> None:
    assert types_of(await events_of(RUN[:7]))[-2:] == ["tool-output-available", "finish"]
    cut = await events_of(RUN[:-3])
    assert (cut[-1]["type"], cut[-1]["code"]) == ("error", "provider_truncated")


@dataclass
class Run:
    """What ``Runner.run_streamed`` returns; ``goes_on``: after these items it runs until it is cancelled."""

    items: Sequence[Any]
    goes_on: bool = False
    is_complete: bool = False
    is_cancelled: bool = False
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    def cancel(self) -> None:
        self.is_cancelled = True
        self.ended.set()

    def to_input_list(self) -> list[Any]:
        return []

    async def stream_events(self) -> AsyncIterator[Any]:
        try:
            for item in self.items:
                yield item
            self.is_complete = not self.goes_on
        finally:  # as the SDK does
            if not self.is_complete:
                await self.ended.wait()


async def test_a_run_is_published_and_not_cancelled_at_its_end(broadcaster: Broadcaster) -> None:
    run = Run(RUN)
    assert (await broadcaster.publish(run)).text == "It is warm."
    assert not run.is_cancelled


async def test_leaving_a_tee_cancels_the_run(broadcaster: Broadcaster) -> None:
    run = Run(RUN[:3], goes_on=True)
    async with broadcaster.tee(run) as tee:
        async for _ in tee:
            break
    await until(lambda: run.is_cancelled)
    assert (await tee.result()).abort_reason == "stopped"


async def test_a_run_whose_id_is_taken_is_cancelled(broadcaster: Broadcaster) -> None:
    await broadcaster.publish(["a"], id="answer")
    run = Run(RUN)
    with pytest.raises(StreamExists):
        await broadcaster.publish(run, id="answer")
    assert run.is_cancelled
