"""The format of an answer, from each surface's form into each wire's: schemas stay as they are."""

import copy
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, Field

from broadcaster.dialects.anthropic.request import read_request
from broadcaster.dialects.openai.own_fields import messages_options
from broadcaster.dialects.openai_chat.provider_request import chat_options
from broadcaster.dialects.openai_chat.request import parse_chat_request
from broadcaster.dialects.openai_responses.provider_request import responses_options
from broadcaster.dialects.openai_responses.request import parse_responses_request
from broadcaster.dialects.reading import Json


class Place(BaseModel):
    model_config = ConfigDict(extra="forbid")

    city: str = Field(description="as its people write it", max_length=40)
    kind: str = Field(pattern="^[a-z]+$")


class Trip(BaseModel):
    model_config = ConfigDict(extra="forbid")

    stops: list[Place] = Field(min_length=1)
    best: Place | None


class Loose(BaseModel):
    stops: list[Place] = []
    note: str = "none"


SCHEMAS: list[tuple[Json, bool]] = [
    (Trip.model_json_schema(), True),
    (Loose.model_json_schema(), False),
    (
        {"anyOf": [{"type": "string"}, {"type": "object", "properties": {"a": {}}, "additionalProperties": False}]},
        False,
    ),
    ({"type": "object", "properties": {}, "additionalProperties": False}, True),
    ({"type": "object", "properties": {"a": {}}, "required": "a", "additionalProperties": False}, False),
]
MESSAGES = [{"role": "user", "content": "hi"}]


@pytest.mark.parametrize(("schema", "is_strict"), SCHEMAS)
def test_a_schema_requested_through_messages_reaches_both_wires_of_openai_unchanged(schema: Json, is_strict: bool):
    config = {"format": {"type": "json_schema", "schema": schema}}
    body = {"model": "m", "max_tokens": 9, "messages": MESSAGES, "output_config": copy.deepcopy(config)}
    fields = read_request(body).request
    named: Json = {"name": "answer", "schema": schema, **({"strict": True} if is_strict else {})}

    chat, responses = chat_options(fields), responses_options(fields)

    assert chat["response_format"] == {"type": "json_schema", "json_schema": named}
    assert responses["text"] == {"format": {"type": "json_schema", **named}}
    assert not {"output_config"} & (chat.keys() | responses.keys())
    assert fields["output_config"] == config


@pytest.mark.parametrize("schema", [schema for schema, _ in SCHEMAS])
def test_a_schema_requested_through_either_surface_of_openai_reaches_every_wire_unchanged(schema: Json):
    named = {"name": "Trip", "description": "a trip", "schema": schema, "strict": True}
    shape = {"type": "json_schema", "json_schema": copy.deepcopy(named)}
    text = {"format": {"type": "json_schema", **copy.deepcopy(named)}}
    parsed: list[Any] = [
        parse_chat_request({"model": "m", "messages": MESSAGES, "response_format": shape}).request,
        parse_responses_request({"model": "m", "input": "hi", "text": text}).request,
    ]

    for fields in parsed:
        assert chat_options(fields)["response_format"] == {"type": "json_schema", "json_schema": named}
        assert responses_options(fields)["text"] == {"format": {"type": "json_schema", **named}}
        assert messages_options(fields)["output_config"] == {"format": {"type": "json_schema", "schema": schema}}


def test_an_effort_of_messages_is_openais_and_what_has_no_form_there_stays_for_the_provider_to_refuse():
    fields = {"output_config": {"effort": "low", "format": {"type": "grammar"}}}

    assert chat_options(fields) == {"reasoning_effort": "low", "output_config": {"format": {"type": "grammar"}}}
    assert responses_options(fields)["reasoning"] == {"effort": "low"}
