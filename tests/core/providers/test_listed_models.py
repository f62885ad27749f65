"""Lists of models: read from either vendor's answer, bounded, and filtered to what callers can request here."""

from __future__ import annotations

import json
from typing import Any

import pytest

from broadcaster.core.providers.listed_models import (
    MAX_BYTES,
    MAX_LISTED,
    MAX_MODELS,
    ListedModel,
    ModelLists,
    decode_list,
    encode_list,
    read_page,
    requestable,
    requestable_as,
)
from broadcaster.core.providers.model_routing import ModelRoutes
from broadcaster.errors import UnknownModel


def page(*rows: Any, **fields: Any) -> bytes:
    return json.dumps({"data": rows, **fields}).encode()


@pytest.mark.parametrize(
    ("row", "model"),
    [
        (
            {"id": "gpt-5", "object": "model", "created": 1700000000, "owned_by": "system"},
            ListedModel(id="gpt-5", created=1700000000, owner="system"),
        ),
        (
            {"type": "model", "id": "claude-x", "display_name": "Claude X", "created_at": "2025-02-19T00:00:00Z"},
            ListedModel(id="claude-x", name="Claude X", created=1739923200),
        ),
        (
            {"id": "qwen3:8b", "name": "qwen3:8b", "created_at": "2025-02-19"},
            ListedModel(id="qwen3:8b", created=1739923200),
        ),
        ({"id": "a", "created": 0, "created_at": "1970-01-01T00:00:00Z", "owned_by": ""}, ListedModel(id="a")),
        ({"id": "a", "created": "soon", "name": 7, "owned_by": {"x": 1}}, ListedModel(id="a")),
        ({"id": "a", "created": 1e300, "name": "x" * 201, "owned_by": "two\nlines"}, ListedModel(id="a")),
    ],
)
def test_an_entry_is_parsed_in_the_shape_of_either_vendor(row: Any, model: ListedModel):
    assert read_page(page(row)).models == [model]
    assert read_page(json.dumps([row]).encode()).models == [model]


def test_entries_without_a_usable_id_are_left_out():
    rows: list[Any] = [{}, {"id": 7}, {"id": ""}, {"id": "x" * 201}, {"id": "a\nb"}, {"id": " a"}, 7, None, [[]], "a"]
    assert [model.id for model in read_page(page(*rows, {"id": "good"})).models] == ["good"]


@pytest.mark.parametrize("body", [b"", b"{", b"7", b"null", b"{}", b'{"data": {}}', b"\xff", b'{"error": "no"}'])
def test_a_body_that_is_not_a_list_of_models_is_refused(body: bytes):
    with pytest.raises(ValueError, match="not a list"):
        read_page(body)


def test_the_next_page_begins_behind_the_last_id_where_there_is_more():
    assert read_page(page({"id": "a"}, has_more=True, last_id="a")).after == "a"
    for fields in ({"has_more": False, "last_id": "a"}, {"has_more": True, "last_id": None}, {"has_more": True}):
        assert read_page(page({"id": "a"}, **fields)).after is None


def test_a_list_is_kept_within_its_bounds_and_read_back():
    few = [ListedModel(id="a", name="A", created=7, owner="o"), ListedModel(id="b"), ListedModel(id="a")]
    assert decode_list(encode_list(few)) == {"a": ListedModel(id="a"), "b": ListedModel(id="b")}
    many = [ListedModel(id=f"{at:0200}", name="x" * 200, owner="y" * 200) for at in range(MAX_MODELS + 1)]
    raw = encode_list(many)
    assert len(raw) <= MAX_BYTES
    assert 100 < len(decode_list(raw) or ()) < MAX_MODELS
    assert len(read_page(page(*({"id": str(at)} for at in range(MAX_MODELS + 1)))).models) == MAX_MODELS


@pytest.mark.parametrize("raw", [b"", b"[]", b'{"models": [{"id": 7}]}', b'{"other": 1}', b"\xff"])
def test_a_list_of_another_version_is_not_known(raw: bytes):
    assert decode_list(raw) is None


def lists(**ids: str) -> ModelLists:
    return {name: {id: ListedModel(id=id, owner=name) for id in each.split()} for name, each in ids.items()}


def names(routes: dict[str, Any], known: ModelLists, default: str = "local") -> list[tuple[str, str]]:
    return [(model.name, model.provider) for model in requestable(ModelRoutes(routes), known, default=default)]


ROUTES: dict[str, Any] = {
    "local": "local",
    "fast": ["openai/gpt-5-mini", "ollama"],
    "gpt-5-pro": "ollama",
    "gpt-*": ["openai", "ollama"],
    "pinned-*": "openai/gpt-5",
    "re:qwen.*|org/.*": "ollama",
}
LISTS = lists(openai="gpt-5 gpt-5-pro whisper pinned-1 qwen3:8b", ollama="qwen3:8b org/model gpt-oss local")


def test_of_a_providers_names_those_that_a_route_leads_to_it_are_listed():
    assert names(ROUTES, LISTS) == [
        ("local", "local"), ("fast", "openai"), ("gpt-5-pro", "ollama"),
        ("gpt-5", "openai"), ("qwen3:8b", "ollama"), ("org/model", "ollama"),
    ]  # fmt: skip
    assert names({"local": "local", "box/*": ["ollama/*", "openai"], "*": "openai"}, LISTS) == [
        ("local", "local"), *[(name, "openai") for name in LISTS["openai"]],
        *[(f"box/{name}", "ollama") for name in LISTS["ollama"]],
    ]  # fmt: skip
    assert names(ROUTES, {}, default="qwen-x")[0] == ("qwen-x", "ollama")


def test_the_patterns_of_a_provider_without_a_known_list_are_listed_and_no_regular_expression():
    assert names(ROUTES, {}) == [
        ("local", "local"), ("fast", "openai"), ("gpt-5-pro", "ollama"), ("gpt-*", "openai"), ("pinned-*", "openai"),
    ]  # fmt: skip
    assert not {"gpt-*", "pinned-*"} & {name for name, _ in names(ROUTES, lists(openai=""))}


def test_a_name_of_ours_is_described_by_the_model_that_it_leads_to():
    known = {"openai": {"gpt-5-mini": ListedModel(id="gpt-5-mini", name="GPT-5 mini")}}
    routes = ModelRoutes(ROUTES)
    assert requestable_as(routes, known, "fast").listed.name == "GPT-5 mini"
    assert requestable_as(ModelRoutes({"up/*": "openai/*"}), known, "up/gpt-5-mini").listed.name == "GPT-5 mini"
    assert requestable_as(routes, known, "gpt-4").listed == ListedModel(id="gpt-4")
    with pytest.raises(UnknownModel):
        requestable_as(routes, known, "whisper")


def test_one_answer_lists_a_bounded_number_of_names():
    known = {name: {f"{name}-{at}": ListedModel(id=f"{name}-{at}") for at in range(MAX_MODELS)} for name in "abc"}
    assert len(names({"local": "local", "a-*": "a", "b-*": "b", "c-*": "c"}, known)) == MAX_LISTED
