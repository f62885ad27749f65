"""Responses encode: what only answers of other providers hold."""

from __future__ import annotations

from typing import Any

import pytest

from broadcaster.core import events as ev
from tests.dialects.openai_chat.chat_streams import answer, choice, chunk
from tests.dialects.openai_chat.test_openai_chat_encode import from_chat
from tests.dialects.openai_responses.responses_reading import final, raw_events
from tests.dialects.openai_responses.test_openai_responses_encode import encoded

# The SDK warns of what it has no model for.
pytestmark = pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")

TOKEN: Any = {"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": []}


def test_log_probabilities_of_chat_completions_are_those_of_the_text():
    tokens = {"content": [TOKEN], "refusal": None}
    raw = answer(*[chunk(choice({"content": "a"}, logprobs=tokens))] * 2)
    body = encoded(*from_chat(raw))
    (message,) = final(body)["output"]
    assert message["content"][0]["logprobs"] == [TOKEN, TOKEN]
    deltas = [event["logprobs"] for event in raw_events(body) if event["type"] == "response.output_text.delta"]
    assert deltas == [[TOKEN], [TOKEN]]


@pytest.mark.parametrize("logprobs", [{"content": None, "refusal": [TOKEN]}, {"content": "odd"}, {}, 3])
def test_log_probabilities_of_anything_else_than_the_text_have_no_place(logprobs: Any):
    events = [ev.TextDelta(id="0", delta="a", provider_metadata={"openai": {"logprobs": logprobs}}), ev.Finish()]
    (message,) = final(encoded(*events))["output"]
    assert (message["content"][0]["text"], message["content"][0]["logprobs"]) == ("a", [])
