"""The model of a request that names none, as ``up`` sets it."""

from __future__ import annotations

import pytest

from broadcaster.cli.processes.default_model import INSTALL_LOCAL, DefaultModel, choose_default_model
from broadcaster.settings import Settings
from broadcaster.settings.values import ProviderSpec

ANTHROPIC = {"ANTHROPIC_API_KEY": "k"}
OPENAI = {"OPENAI_API_KEY": "k"}


@pytest.mark.parametrize(
    ("environment", "has_local", "chosen"),
    [
        ({}, True, "local"),
        (ANTHROPIC, True, "local"),
        (ANTHROPIC, False, "claude-sonnet-5-5"),
        ({"ANTHROPIC_AUTH_TOKEN": "k"}, False, "claude-sonnet-5-5"),
        (OPENAI, False, "gpt-5.4-mini"),
        ({**OPENAI, **ANTHROPIC}, False, "claude-sonnet-5-5"),
        ({"ANTHROPIC_API_KEY": "", **OPENAI}, False, "gpt-5.4-mini"),
        ({"OWN_KEY": "k"}, False, "gpt-5.4-mini"),
    ],
)
def test_the_default_model_is_one_that_can_answer(environment: dict[str, str], has_local: bool, chosen: str) -> None:
    settings = Settings(api_key_envs={"openai": ("OWN_KEY",)})
    model = choose_default_model(settings, environment, is_set=False, has_local=has_local)
    assert model.name == chosen
    assert (chosen in model.note) is (chosen != "local")


def test_a_provider_without_a_route_to_it_is_not_taken() -> None:
    settings = Settings(routes={"claude*": "openai", "gpt-*": "openai", "local": "local"})
    environment = {**ANTHROPIC, **OPENAI}
    assert choose_default_model(settings, environment, is_set=False, has_local=False).name == "gpt-5.4-mini"


def test_a_model_of_that_name_at_another_provider_is_not_the_local_one() -> None:
    settings = Settings(
        routes={"local": "mine/llama"},
        providers={"mine": ProviderSpec(wire="openai", base_url="http://127.0.0.1:9/v1")},
    )
    assert choose_default_model(settings, ANTHROPIC, is_set=False, has_local=False) == DefaultModel("local")


def test_without_a_model_that_can_answer_the_note_has_the_command_that_installs_one() -> None:
    model = choose_default_model(Settings(), {}, is_set=False, has_local=False)
    assert model.name == "local"
    assert INSTALL_LOCAL in model.note
    assert "ANTHROPIC_API_KEY or OPENAI_API_KEY" in model.note


def test_what_the_operator_has_set_stays() -> None:
    local = choose_default_model(Settings(), ANTHROPIC, is_set=True, has_local=False)
    assert (local.name, INSTALL_LOCAL in local.note) == ("local", True)
    other = choose_default_model(Settings(default_model="gpt-5"), ANTHROPIC, is_set=True, has_local=False)
    assert other == DefaultModel("gpt-5")
