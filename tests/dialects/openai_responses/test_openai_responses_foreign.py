"""Responses encode: what only answers of other providers hold, and what of it comes back."""

from __future__ import annotations

from typing import Any

import pytest

from broadcaster.core import events as ev
from broadcaster.dialects.openai_chat.decode import OpenAIChatDecoder
from broadcaster.dialects.openai_responses.input import answer_of
from broadcaster.testing import wire
from tests.dialects.anthropic.anthropic_reading import decoded
from tests.dialects.anthropic.anthropic_streams import WEB_RESULT, stream
from tests.dialects.decoding import read_all
from tests.dialects.openai_chat.chat_streams import answer, choice, chunk
from tests.dialects.openai_responses.responses_reading import final, raw_events, response_of
from tests.dialects.openai_responses.test_openai_responses_encode import encoded

# The SDK warns of what it has no model for.
pytestmark = pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")

TOKEN: Any = {"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": []}


def test_log_probabilities_of_chat_completions_are_those_of_the_text():
    tokens = {"content": [TOKEN], "refusal": None}
    raw = answer(*[chunk(choice({"content": "a"}, logprobs=tokens))] * 2)
    body = encoded(*read_all(OpenAIChatDecoder(), raw).events)
    (message,) = final(body)["output"]
    assert message["content"][0]["logprobs"] == [TOKEN, TOKEN]
    deltas = [event["logprobs"] for event in raw_events(body) if event["type"] == "response.output_text.delta"]
    assert deltas == [[TOKEN], [TOKEN]]


@pytest.mark.parametrize("logprobs", [{"content": None, "refusal": [TOKEN]}, {"content": "odd"}, {}, 3])
def test_log_probabilities_of_anything_else_than_the_text_have_no_place(logprobs: Any):
    metadata = {"openai": {"logprobs": logprobs}}
    (message,) = final(encoded(ev.TextDelta(id="0", delta="a", provider_metadata=metadata), ev.Finish()))["output"]
    assert (message["content"][0]["text"], message["content"][0]["logprobs"]) == ("a", [])


@pytest.mark.parametrize("type", ["server_tool_use", "mcp_tool_use"])
def test_a_tool_that_claude_ran_does_not_come_back_to_openai(type: str):
    ran = wire.Block({"type": type, "id": "srvtoolu_01", "name": "web_search", "input": {}})
    result = wire.tool_result("web_search_tool_result", [WEB_RESULT])
    output = response_of(decoded(stream(*wire.message(ran, result, wire.text("So.")))))["output"]
    assert (output[0]["type"], output[0]["server_label"]) == ("mcp_call", "anthropic")
    assert answer_of(output) == [{"role": "assistant", "content": "So."}]


def test_a_tool_that_an_unnamed_provider_ran_does_not_come_back_to_openai():
    call: Any = {"tool_call_id": "a", "tool_name": "search", "provider_executed": True}
    ran = ev.ToolInputAvailable(**call, input={})
    result = ev.ToolOutputAvailable(tool_call_id="a", output="x", provider_executed=True)
    body = encoded(ran, result, ev.TextDelta(id="0", delta="So."), ev.Finish())
    assert answer_of(final(body)["output"]) == [{"role": "assistant", "content": "So."}]
