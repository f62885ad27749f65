"""Routes: the first pattern that matches a model's whole name decides."""

import pytest

from broadcaster.core.providers.model_routing import ModelRoutes, ModelTarget
from broadcaster.errors import SetupError, UnknownModel

ROUTES = ModelRoutes({"claude-fast": "b", "claude*": "a", "re:o\\d.*": "c", "re:gpt-(4|5)": "c", "x?": "d", "a.b": "e"})


@pytest.mark.parametrize(
    ("model", "provider"),
    [
        ("claude-fast", "b"),
        ("claude-fast-2", "a"),
        ("claude", "a"),
        ("claude-\nx", "a"),
        ("o3", "c"),
        ("o3-mini", "c"),
        ("gpt-5", "c"),
        ("x1", "d"),
        ("a.b", "e"),
    ],
)
def test_the_first_pattern_that_matches_decides(model: str, provider: str):
    assert ROUTES.provider_for(model) == provider


@pytest.mark.parametrize("model", ["", "Claude-x", "my-claude", "oh", "gpt-55", "x12", "aXb"])
def test_a_model_that_nothing_matches_whole_is_unknown(model: str):
    with pytest.raises(UnknownModel, match="no route"):
        ROUTES.provider_for(model)


def test_an_error_repeats_only_the_beginning_of_a_long_name():
    with pytest.raises(UnknownModel) as caught:
        ROUTES.provider_for("m" * 10_000)
    assert len(caught.value.detail) < 200


def test_the_providers_are_those_that_some_route_names():
    assert ROUTES.providers == {"a", "b", "c", "d", "e"}


def test_the_models_that_can_be_listed_are_the_patterns_that_are_plain_names():
    assert ROUTES.names == ("claude-fast", "a.b")


def test_an_invalid_regular_expression_is_reported_with_its_route():
    with pytest.raises(SetupError, match=r"re:\("):
        ModelRoutes({"re:(": "a"})


@pytest.mark.parametrize(
    ("spec", "targets"),
    [
        ("a", [("a", None)]),
        ("a/m", [("a", "m")]),
        ("a/meta/llama-4:free", [("a", "meta/llama-4:free")]),
        (["a", "b/m", "a/m"], [("a", None), ("b", "m"), ("a", "m")]),
    ],
)
def test_a_route_leads_to_targets_in_their_order_each_split_at_its_first_slash(
    spec: str | list[str], targets: list[tuple[str, str | None]]
):
    routes = ModelRoutes({"x": spec})
    assert routes.targets_for("x") == tuple(ModelTarget(*each) for each in targets)
    assert routes.providers == {provider for provider, _ in targets}


def test_a_target_without_a_model_gets_the_requested_model():
    assert [ModelTarget.parse(each).model_for("x") for each in ("a", "a/m")] == ["x", "m"]


@pytest.mark.parametrize("spec", ["", "/m", "a/", [], ["a", "a"], ["a/m", "a/m"], [""]])
def test_a_route_that_leads_nowhere_or_twice_to_one_target_is_refused(spec: str | list[str]):
    with pytest.raises(SetupError, match=r"target"):
        ModelRoutes({"x": spec})


def test_a_target_with_a_star_gets_the_model_without_the_prefix_of_its_route():
    routes = ModelRoutes({"box/*": ["box/*", "spare", "other/m"], "*": "all/*"})
    for name, model in (("box/qwen3:8b", "qwen3:8b"), ("box/org/m", "org/m"), ("box/box/m", "box/m")):
        assert [target.model_for(name) for target in routes.targets_for(name)] == [model, name, "m"]
    assert [target.model_for("x") for target in routes.targets_for("x")] == ["x"]
    assert routes.provider_for("box/") == "all"
    assert routes.names_of("m", "box") == ["box/m"]
    assert routes.names_of("m", "all") == ["m"]


@pytest.mark.parametrize("pattern", ["box", "box/?", "b*x/*", "[ab]/*", "*box", "re:box/.*", "re:box/*"])
def test_a_target_with_a_star_needs_a_pattern_that_is_a_prefix(pattern: str):
    with pytest.raises(SetupError, match="a prefix and one"):
        ModelRoutes({pattern: ["a", "box/*"]})
