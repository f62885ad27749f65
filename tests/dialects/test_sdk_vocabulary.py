"""What the installed SDKs can send: each name is read, or is refused for a reason that stands here."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, get_args, get_type_hints

import pytest
from anthropic.types.beta import message_create_params as messages
from openai.types.chat import completion_create_params as chat
from openai.types.responses import FunctionToolParam, ResponseInputItemParam
from openai.types.responses import response_create_params as responses

from broadcaster.dialects.anthropic.request import read_request
from broadcaster.dialects.openai.parameters import UNKNOWN, BadParameter
from broadcaster.dialects.openai_chat.request import parse_chat_request
from broadcaster.dialects.openai_responses.provider_request import responses_input, responses_tools
from broadcaster.dialects.openai_responses.request import parse_responses_request
from broadcaster.errors import InvalidInput

USER = [{"role": "user", "content": "Hi"}]
OF_MESSAGES: dict[str, Any] = {"model": "m", "max_tokens": 9, "messages": USER}
NOT_IN_THE_BODY = {
    "betas": "the header anthropic-beta",
    "user_profile_id": "a header",
    "workspace_id": "a header, by which a caller would choose the operator's workspace",
    "billing_policy": "a caller would choose the account that pays; it needs the header of user_profile_id",
}
"""Parameters of the SDK's ``messages.create`` that no body has here, and why."""
RESOLVED_HERE = {"item_reference"}
"""Types of items that no provider receives."""


def is_known(parse: Callable[[dict[str, Any]], object], body: dict[str, Any]) -> bool:
    """Whether the request is read, or refused for a better reason than an unknown name."""
    try:
        parse(body)
    except BadParameter as refused:
        return refused.api_code != UNKNOWN
    except InvalidInput as refused:
        return "not permitted" not in refused.detail
    return True


@pytest.mark.parametrize("name", sorted(chat.CompletionCreateParamsBase.__annotations__))
def test_every_parameter_of_chat_completions_is_known(name: str) -> None:
    assert is_known(parse_chat_request, {"model": "m", "messages": USER, name: object()})


@pytest.mark.parametrize("name", sorted(responses.ResponseCreateParamsBase.__annotations__))
def test_every_parameter_of_responses_is_known(name: str) -> None:
    assert is_known(parse_responses_request, {"model": "m", "input": "Hi", name: object()})


@pytest.mark.parametrize("name", sorted(messages.MessageCreateParamsBase.__annotations__))
def test_every_parameter_of_messages_is_known(name: str) -> None:
    assert is_known(read_request, {**OF_MESSAGES, name: object()}) == (name not in NOT_IN_THE_BODY)


def _types(union: Any) -> Iterator[str]:
    for each in get_args(union):
        if isinstance(each, type):
            yield re.findall(r"'(\w+)'", str(get_type_hints(each)["type"]))[0]
        else:
            yield from _types(each)


@pytest.mark.parametrize("type", sorted({*_types(ResponseInputItemParam)} - RESOLVED_HERE))
def test_every_item_of_responses_comes_to_its_provider(type: str) -> None:
    item: dict[str, Any] = {
        "type": type,
        "id": "x",
        "call_id": "c",
        "name": "n",
        "arguments": "{}",
        "input": "",
        "output": "",
    }
    item |= {"encrypted_content": "ZW5j", "summary": [], "role": "user", "content": "Hi"}
    kind = "function_call" if type == "function_call_output" else "custom_tool_call"
    called = {"type": kind, "call_id": "c", "name": "n", "arguments": "{}", "input": ""}
    request = parse_responses_request({"model": "m", "input": [*USER, called, item]}).stored(model="m")
    assert responses_input(request["messages"])[2]["type"] == type


def test_every_field_of_a_function_comes_to_a_provider_of_responses() -> None:
    hints = get_type_hints(FunctionToolParam)
    function: dict[str, Any] = {
        name: True if name in ("strict", "async", "defer_loading") else {"a": "b"} for name in hints
    }
    function |= {"type": "function", "name": "f", "description": "d", "allowed_callers": ["direct"]}
    request = parse_responses_request({"model": "m", "input": "Hi", "tools": [function]}).stored(model="m")
    assert responses_tools(request["tools"]) == [function]
