"""An answer that continues a message of the assistant: what a page that resumes it receives first."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest

from broadcaster.core import events as ev
from broadcaster.core.requests.passed_headers import SURFACE
from broadcaster.dialects.ai_sdk.continued import earlier_blocks, with_continued
from broadcaster.dialects.ai_sdk.encode import AiSdkDialect, Version
from broadcaster.log.jobs.generations import GenerationRequest
from tests.dialects.ai_sdk.ai_sdk_client import Json
from tests.dialects.ai_sdk.ai_sdk_packages import read_by_package
from tests.dialects.ai_sdk.ai_sdk_streams import STREAM_ID, log_of

both = pytest.mark.parametrize("version", [6, 7])

OF_PROVIDER: Final = {"anthropic": {"signature": "s"}}
ANSWER: Final[list[ev.Event]] = [
    ev.Start(message_metadata={"model": "m"}),
    ev.StartStep(),
    ev.ReasoningStart(id="0"),
    ev.ReasoningDelta(id="0", delta="so"),
    ev.ReasoningEnd(id="0"),
    ev.TextStart(id="0"),
    ev.TextDelta(id="0", delta="It is "),
    ev.TextDelta(id="0", delta="sunny."),
    ev.TextEnd(id="0"),
    ev.FinishStep(),
    ev.Finish(finish_reason="stop"),
]
ANSWERED: Final[list[Json]] = [
    {"type": "step-start"},
    {"type": "reasoning", "id": "rsn-0", "text": "so", "state": "done"},
    {"type": "text", "text": "It is sunny.", "state": "done"},
]


def call(id: str, state: str, *, type: str = "tool-weather", **members: Any) -> Json:
    return {"type": type, "toolCallId": id, "state": state, **members}


WAITING: Final = call("waits", "input-available", input={"city": "Rome"})
PARTS: Final[list[Json]] = [
    {"type": "step-start"},
    {"type": "reasoning", "id": "rsn-0", "text": "Hm.", "state": "done", "providerMetadata": OF_PROVIDER},
    {"type": "reasoning", "id": "rsn-1", "text": "", "state": "done"},
    {"type": "text", "text": "Let me look. Ä🌊\n", "state": "done", "providerMetadata": OF_PROVIDER},
    call("a", "output-available", input={"city": "Ulm", "at": [1, 2.5, None]}, output="sunny", title="Weather"),
    call("b", "output-available", input="raw", output={"a": [None]}, callProviderMetadata=OF_PROVIDER),
    call("c", "output-error", input={}, errorText="no network", resultProviderMetadata=OF_PROVIDER),
    {"type": "step-start"},
    call("e", "output-available", type="dynamic-tool", toolName="mcp-x", input={}, output=1, providerExecuted=True),
    call("f", "output-error", type="dynamic-tool", toolName="mcp-x", input={"a": 1}, errorText="refused"),
    call("g", "output-available", type="tool-a-b", input=None, output=None, preliminary=True),
    call("h", "input-streaming", rawInput='{"city": "Pa', input={"city": "Pa"}),
    WAITING,
    {"type": "source-url", "sourceId": "1", "url": "https://a.example", "title": "A"},
    {"type": "source-document", "sourceId": "2", "mediaType": "text/plain", "title": "B", "filename": "b.txt"},
    {"type": "file", "mediaType": "image/png", "url": "data:image/png;base64,AA=="},
    {"type": "data-progress", "id": "p", "data": {"done": 3}},
    {"type": "data-note", "data": None},
    {"type": "text", "text": "torn", "state": "streaming"},
]
ODD: Final[list[Json]] = [
    {"type": "text"},
    {"type": "reasoning", "text": None},
    {"type": "file", "url": 1},
    {"type": "source-url"},
    {"type": "custom", "kind": "x.y"},
    {"type": "dynamic-tool", "toolCallId": "z"},
    call("y", "approval-requested", input={}, approval={"id": "1"}),
    call("x", "no-such-state"),
]


# Where a version keeps an input that was refused.
REFUSED: Final[dict[Version, Json]] = {
    6: call("r", "output-error", rawInput='{"ci', errorText="not JSON"),
    7: call("r", "output-error", input='{"ci', errorText="not JSON"),
}


def stored(*parts: Json, **members: Any) -> Json:
    """The stored request to continue a message with these parts."""
    return with_continued({"messages": []}, [{"id": "a", "role": "assistant", "parts": list(parts), **members}])


def resumed(request: Json, version: Version, *, at: int) -> bytes:
    """What a page receives that resumes after this many entries."""
    dialect = AiSdkDialect(version=version, message_id="a", earlier=earlier_blocks(request, message_id="a"))
    transcript, log = dialect.open(STREAM_ID), log_of(ANSWER)
    begun = transcript.encode(log[:at]) and transcript.snapshot()
    return transcript.hello(status="running", retry_ms=1) + begun + transcript.encode(log[at:])


def shown(page: Json) -> list[Json]:
    """The parts of the page's only message. The page has undefined where the part that it held has null."""
    (message,) = page["messages"]
    return [without_none(part) for part in message["parts"]]


def without_none(part: Json) -> Json:
    return {name: value for name, value in part.items() if value is not None}


@both
def test_every_part_of_the_message_is_there_wherever_the_answer_is_resumed(version: Version) -> None:
    parts = [*PARTS, REFUSED[version]]
    request = stored(*parts, metadata={"page": {"n": 1}, "model": "old"})
    bodies = [[resumed(request, version, at=at)] for at in range(len(ANSWER))]
    held = json.dumps([{"id": "a", "role": "assistant", "parts": parts}])
    for page in read_by_package(version, bodies, "--messages", held):
        assert (page["status"], page["error"]) == ("ready", None)
        assert shown(page) == [*map(without_none, parts), *ANSWERED]
        assert page["messages"][0]["metadata"] == {"page": {"n": 1}, "model": "m"}
        assert page["toolCalls"] == ["waits"], "no call that has a result runs once more"


@both
def test_a_part_that_no_chunk_can_show_is_left_out(version: Version) -> None:
    (page,) = read_by_package(version, [[resumed(stored(*ODD), version, at=0)]])
    assert (page["status"], page["error"], shown(page)) == ("ready", None, ANSWERED)


def test_an_answer_of_its_own_is_preceded_by_nothing() -> None:
    question = {"id": "u", "role": "user", "parts": [{"type": "text", "text": "Hi"}]}
    request = {"messages": [], "max_tokens": 1}
    assert with_continued(request, [question]) == request
    of_others = {SURFACE: {"name": "messages", "headers": {"anthropic-beta": "a"}}}
    for known in (request, of_others, {SURFACE: None}, {SURFACE: {"name": "ai-sdk"}}):
        assert earlier_blocks(known, message_id="a") == b""


def test_the_continued_message_is_no_part_of_what_an_idempotency_key_identifies() -> None:
    plain, continued = GenerationRequest("m", {"messages": []}), GenerationRequest("m", stored(*PARTS))
    assert plain.digest() == continued.digest()
