"""Responses requests: what is accepted although this server has no use for it, or only one wire has."""

from __future__ import annotations

from typing import Any

import pytest

from broadcaster.dialects.openai.own_fields import plain_tools
from broadcaster.dialects.openai.parameters import BadParameter
from broadcaster.dialects.openai_chat.provider_request import chat_tools
from broadcaster.dialects.openai_responses.provider_request import responses_tools
from tests.dialects.openai_responses.test_openai_responses_ask import WEATHER, stored


def test_messages_of_the_system_alone_are_what_the_model_answers():
    request = stored(instructions="Be brief.", input=[{"role": "developer", "content": "Tell a joke."}])
    (message,) = request["messages"]
    assert request["system"] == "Be brief."
    assert message == {"role": "system", "content": [{"type": "text", "text": "Tell a joke."}]}
    assert stored(earlier=[message], input="Another.")["messages"] == [message, {"role": "user", "content": "Another."}]


def test_metadata_of_the_client_itself_is_left_out():
    assert stored(extra_body={"client_metadata": {"installation": "1"}}) == stored()


def test_a_deferred_function_is_one_on_this_wire_alone():
    deferred: Any = {**WEATHER, "defer_loading": True}
    plain, fields = (stored(tools=[tool, {"type": "tool_search"}])["tools"] for tool in (WEATHER, deferred))
    assert responses_tools(fields) == [deferred, {"type": "tool_search"}]
    assert plain_tools(fields) == plain_tools(plain)
    assert chat_tools(fields) == chat_tools(plain)
    assert stored(tools=[{**WEATHER, "defer_loading": False}])["tools"] == plain[:1]


def test_a_bound_that_is_none_is_refused_with_the_remedy():
    with pytest.raises(BadParameter, match=r"max_output_tokens: must be .*; leave it out"):
        stored(max_output_tokens=0)
