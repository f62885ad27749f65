"""The request on the OpenAI wires: every field in its place, the bound under the name that the server knows."""

from typing import Any

import pytest

from tests.worker.providers.provider_support import PROMPT, request_for
from worker.providers.openai_arguments import chat_arguments, output_bound, responses_arguments

OPENAI = "api.openai.com"


@pytest.mark.parametrize(
    ("host", "model", "name"),
    [
        (OPENAI, "gpt-4o", "max_completion_tokens"),
        (OPENAI, "o3-mini", "max_completion_tokens"),
        (OPENAI, "ft:some-model", "max_completion_tokens"),
        ("eu.api.openai.com", "gpt-4o", "max_completion_tokens"),
        ("mine.openai.azure.com", "my-deployment", "max_completion_tokens"),
        ("gateway.example", "o3-mini", "max_completion_tokens"),
        ("gateway.example", "gpt-5-mini", "max_completion_tokens"),
        ("gateway.example", "openai/gpt-5.4", "max_completion_tokens"),
        ("gateway.example", "gpt-4o", "max_tokens"),
        ("gateway.example", "gpt-3.5-turbo", "max_tokens"),
        ("127.0.0.1", "gpt-oss:20b", "max_tokens"),
        ("127.0.0.1", "qwen3", "max_tokens"),
        ("127.0.0.1", "olmo-3", "max_tokens"),
        ("notopenai.com", "llama", "max_tokens"),
        ("api.openai.com.example", "llama", "max_tokens"),
    ],
)
def test_the_output_is_bounded_by_the_name_that_the_server_knows(host: str, model: str, name: str):
    assert output_bound(model, host=host) == name
    arguments = chat_arguments(request_for(model), host=host)
    assert {key: arguments.get(key) for key in ("max_tokens", "max_completion_tokens")} == {
        "max_tokens": None,
        "max_completion_tokens": None,
        name: 64,
    }


def test_a_chat_requests_its_counts_with_any_stream_options_of_the_caller():
    extra = {"stream_options": {"include_usage": False, "include_obfuscation": False}}
    arguments = chat_arguments(request_for("m", extra=extra), host=OPENAI)
    assert arguments["stream_options"] == {"include_usage": True, "include_obfuscation": False}
    assert arguments["extra_body"] == {}


def test_the_parameters_of_the_messages_api_become_those_of_chat_completions():
    extra = {
        "stop_sequences": ["###"],
        "tool_choice": {"type": "tool", "name": "f", "disable_parallel_tool_use": True},
        "top_p": 0.5,
        "openai": {"seed": 7, "logprobs": True},
    }
    body = chat_arguments(request_for("m", extra=extra), host=OPENAI)["extra_body"]
    assert body == {
        "stop": ["###"],
        "tool_choice": {"type": "function", "function": {"name": "f"}},
        "parallel_tool_calls": False,
        "top_p": 0.5,
        "seed": 7,
        "logprobs": True,
    }


@pytest.mark.parametrize(("type", "choice"), [("auto", "auto"), ("any", "required"), ("none", "none")])
def test_a_choice_of_tools_becomes_a_name(type: str, choice: str):
    body = chat_arguments(request_for("m", extra={"tool_choice": {"type": type}}), host=OPENAI)["extra_body"]
    assert body == {"tool_choice": choice}


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "f"}}])
def test_a_choice_in_the_shape_of_chat_completions_passes(choice: Any):
    body = chat_arguments(request_for("m", extra={"tool_choice": choice}), host=OPENAI)["extra_body"]
    assert body == {"tool_choice": choice}


def test_openai_s_own_parameters_cannot_replace_a_field_of_the_request():
    extra = {"openai": {"model": "other", "messages": [], "tools": [], "max_tokens": 1, "stream": False, "seed": 7}}
    assert chat_arguments(request_for("m", extra=extra), host=OPENAI)["extra_body"] == {"seed": 7}


@pytest.mark.parametrize("arguments", [chat_arguments, responses_arguments])
def test_a_field_with_a_place_of_its_own_cannot_be_replaced_by_an_extra(arguments: Any):
    owned = {
        "model": "other",
        "messages": [],
        "input": "other",
        "instructions": "other",
        "system": "other",
        "stream": False,
        "tools": [],
        "max_tokens": 1,
        "max_completion_tokens": 1,
        "max_output_tokens": 1,
        "background": True,
    }
    made = arguments(request_for("m", temperature=0.5, extra={**owned, "temperature": 1.0, "seed": 7}), host=OPENAI)
    assert made["model"] == "m"
    assert {"temperature": 0.5, "seed": 7}.items() <= made["extra_body"].items()
    assert owned.keys().isdisjoint(made["extra_body"])


def test_a_response_is_not_stored_at_the_provider_unless_the_caller_requests_it():
    assert responses_arguments(request_for("m"), host=OPENAI)["extra_body"] == {"store": False}
    request = request_for("m", extra={"store": True})
    assert responses_arguments(request, host=OPENAI)["extra_body"] == {"store": True}


@pytest.mark.parametrize(
    ("system", "instructions"),
    [
        ("Be brief.", "Be brief."),
        ([{"type": "text", "text": "Be brief."}, {"type": "text", "text": "Be kind."}], "Be brief.\n\nBe kind."),
    ],
)
def test_the_system_prompt_of_a_response_is_its_instructions(system: Any, instructions: str):
    arguments = responses_arguments(request_for("m", system=system), host=OPENAI)
    assert arguments["instructions"] == instructions
    assert PROMPT in str(arguments["input"])


@pytest.mark.parametrize("arguments", [chat_arguments, responses_arguments])
def test_a_field_that_a_request_leaves_out_is_left_out(arguments: Any):
    made = arguments(request_for("m"), host=OPENAI)
    assert {"tools", "instructions", "temperature"}.isdisjoint(made.keys() | made["extra_body"].keys())


def test_a_response_is_requested_with_the_tool_choice_and_the_parameters_that_only_openai_knows():
    extra = {
        "tool_choice": {"type": "any", "disable_parallel_tool_use": True},
        "top_p": 0.5,
        "openai": {
            "reasoning_effort": "low",
            "response_format": {"type": "json_object"},
            "responses": {"include": ["reasoning.encrypted_content"], "reasoning": {"summary": "auto"}},
        },
    }
    body = responses_arguments(request_for("m", extra=extra), host=OPENAI)["extra_body"]
    assert body == {
        "store": False,
        "tool_choice": "required",
        "parallel_tool_calls": False,
        "top_p": 0.5,
        "reasoning": {"effort": "low", "summary": "auto"},
        "text": {"format": {"type": "json_object"}},
        "include": ["reasoning.encrypted_content"],
    }


def test_a_chat_is_requested_without_the_parameters_that_only_responses_know():
    extra = {"openai": {"reasoning_effort": "low", "responses": {"truncation": "auto"}}}
    body = chat_arguments(request_for("m", extra=extra), host=OPENAI)["extra_body"]
    assert body == {"reasoning_effort": "low"}


MESSAGES_ALONE: dict[str, Any] = {
    "thinking": {"type": "adaptive"},
    "context_management": {"edits": [{"type": "clear_thinking_20251015"}]},
    "cache_control": {"type": "ephemeral"},
    "top_k": 5,
}


@pytest.mark.parametrize("arguments", [chat_arguments, responses_arguments])
def test_a_preference_that_only_messages_have_is_left_out_at_openai_and_reaches_every_other_server(arguments: Any):
    request = request_for("m", extra=MESSAGES_ALONE)
    assert MESSAGES_ALONE.keys().isdisjoint(arguments(request, host=OPENAI)["extra_body"])
    assert MESSAGES_ALONE.items() <= arguments(request, host="127.0.0.1")["extra_body"].items()


def test_the_context_management_of_responses_reaches_them():
    own = [{"type": "compaction", "compact_threshold": 1000}]
    extra = {**MESSAGES_ALONE, "openai": {"responses": {"context_management": own}}}
    assert responses_arguments(request_for("m", extra=extra), host=OPENAI)["extra_body"] == {
        "store": False,
        "context_management": own,
    }


def test_a_server_of_ones_own_gets_the_ids_of_calls_as_they_came():
    id = "functions.weather:" + 100 * "0"
    call = {"type": "tool_use", "id": id, "name": "weather", "input": {}}
    result = {"type": "tool_result", "tool_use_id": id, "content": "Sunny."}
    messages = [{"role": "assistant", "content": [call]}, {"role": "user", "content": [result]}]
    request = request_for("m", messages=messages)
    answer, returned = chat_arguments(request, host="127.0.0.1")["messages"]
    assert (answer["tool_calls"][0]["id"], returned["tool_call_id"]) == (id, id)
    assert [item["call_id"] for item in responses_arguments(request, host="127.0.0.1")["input"]] == [id, id]


SEARCH: Any = {"type": "web_search"}
ALLOWED = {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [SEARCH]}}


@pytest.mark.parametrize(
    "extra",
    [
        {"tool_choice": {"type": "auto"}},
        {"tool_choice": {"type": "none"}},
        {"tool_choice": {"type": "auto", "disable_parallel_tool_use": True}},
        {"tool_choice": {"type": "auto"}, "openai": {"tool_choice": ALLOWED}},
    ],
)
def test_a_choice_that_forces_nothing_is_left_out_with_the_search_that_was_all_that_a_request_offered(extra: Any):
    request = request_for("m", tools=[SEARCH], extra=extra)
    made = chat_arguments(request, host=OPENAI)
    assert (made.get("tools"), made["extra_body"]) == (None, {})
    made = responses_arguments(request, host=OPENAI)
    assert (made["tools"], "tool_choice" in made["extra_body"]) == ([SEARCH], True)


def test_a_choice_that_forces_the_search_stays_for_the_provider_to_refuse():
    request = request_for("m", tools=[SEARCH], extra={"tool_choice": {"type": "any"}})
    assert chat_arguments(request, host=OPENAI)["extra_body"] == {"tool_choice": "required"}
