"""The last request of each coding agent's task, as it was recorded (texts cut short), is taken by this server."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from openai.types.chat.completion_create_params import CompletionCreateParamsBase
from openai.types.responses.response_create_params import ResponseCreateParamsBase

from broadcaster.dialects.anthropic.request import read_request
from broadcaster.dialects.openai.own_fields import messages_options, plain_messages, plain_tools
from broadcaster.dialects.openai_chat.provider_request import chat_messages, chat_tools
from broadcaster.dialects.openai_chat.request import parse_chat_request
from broadcaster.dialects.openai_responses.provider_request import responses_input, responses_options, responses_tools
from broadcaster.dialects.openai_responses.request import parse_responses_request
from broadcaster.log.streams.reader import Meta
from worker.attempt import provider_request
from worker.providers.openai_arguments import chat_arguments, responses_arguments

Json = dict[str, Any]
FOLDER = Path(__file__).parent / "agents"
# What is not in the body of a provider's request: the rest of it is.
NOT_SENT = {"model", "stream", "metadata"}


def recorded(agent: str) -> Json:
    """The request's body."""
    body: Json = json.loads((FOLDER / f"{agent}.json").read_text("utf-8"))
    return body


def stored_responses(body: Json) -> Json:
    """A request of Responses as it is stored."""
    return parse_responses_request(body).stored(model="m")


def stored_chat(body: Json) -> Json:
    """A request of chat completions as it is stored."""
    return dict(parse_chat_request(body).request)


def stored_messages(body: Json) -> Json:
    """A request of Messages as it is stored."""
    return read_request(body).request


READERS: dict[str, Callable[[Json], Json]] = {
    "codex": stored_responses,
    "opencode_responses": stored_responses,
    "opencode_chat": stored_chat,
    "aider_chat": stored_chat,
    "opencode_messages": stored_messages,
    "claude_code": stored_messages,
}


@pytest.mark.parametrize("agent", READERS)
def test_every_agents_request_is_accepted_and_no_other_wire_receives_a_tool_that_it_does_not_know(agent: str) -> None:
    stored = READERS[agent](recorded(agent))
    tools = stored.get("tools", [])
    assert {tool["type"] for tool in chat_tools(tools)} <= {"function"}
    assert all("input_schema" in tool for tool in plain_tools(tools))
    assert chat_messages(stored["messages"], system=stored.get("system"))
    assert plain_messages(stored["messages"])[0]["role"] == "user"


@pytest.mark.parametrize("agent", READERS)
@pytest.mark.parametrize(
    ("arguments_of", "params"),
    [(chat_arguments, CompletionCreateParamsBase), (responses_arguments, ResponseCreateParamsBase)],
    ids=["chat", "responses"],
)
def test_no_agents_request_reaches_openai_with_a_parameter_that_openai_does_not_have(
    agent: str, arguments_of: Callable[..., Json], params: Any
) -> None:
    stored = json.dumps(READERS[agent](recorded(agent))).encode()
    request = provider_request(Meta.from_hash("gen_1", {b"model": b"gpt-5.4", b"request": stored}))
    arguments = arguments_of(request, host="api.openai.com")
    body = {**arguments.pop("extra_body"), **arguments}
    assert body.keys() <= params.__annotations__.keys()


def test_codexs_request_reaches_the_responses_wire() -> None:
    body = recorded("codex")
    stored = stored_responses(body)
    assert responses_tools(stored["tools"]) == body["tools"]
    assert [item["type"] for item in responses_input(stored["messages"])][-2:] == [
        "function_call",
        "function_call_output",
    ]
    options = responses_options({name: stored[name] for name in stored if name in ("openai", "tool_choice")})
    for name in ("include", "prompt_cache_key", "reasoning", "tool_choice"):
        assert options[name] == body[name], name


def test_claude_codes_request_reaches_the_messages_wire_unchanged() -> None:
    body = recorded("claude_code")
    marker = {"type": "ephemeral", "ttl": "1h", "scope": "global"}
    body["system"][1]["cache_control"] = body["tools"][0]["cache_control"] = marker
    body["messages"][0]["content"][0]["cache_control"] = marker
    thoughts = [
        {"type": "thinking", "thinking": "Let me see.", "signature": "c2ln=="},
        {"type": "redacted_thinking", "data": "aGlk=="},
        {"type": "a_block_of_tomorrow", "left": {"as": ["it", 1, None]}},
    ]
    body["messages"][2]["content"][:0] = thoughts
    stored = stored_messages(json.loads(json.dumps(body)))
    sent = messages_options({name: value for name, value in stored.items() if name not in ("messages", "tools")})
    sent |= {"messages": plain_messages(stored["messages"]), "tools": plain_tools(stored["tools"])}
    expected = {name: value for name, value in body.items() if name not in NOT_SENT}
    assert json.dumps(_without(sent), sort_keys=True) == json.dumps(expected, sort_keys=True)


def _without(sent: Json) -> Json:
    """A provider's request without what the worker keeps back."""
    return {name: value for name, value in sent.items() if name not in NOT_SENT}
