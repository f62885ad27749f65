"""The operator's own providers in the settings, and which providers a worker makes before it is ready."""

from __future__ import annotations

import asyncio
from contextlib import closing
from math import inf
from typing import Any

import pytest
from pydantic import ValidationError

from broadcaster.core.providers.model_routing import BUILT_IN, ModelRoutes
from broadcaster.core.providers.retrying import RetryBounds
from broadcaster.errors import ProviderFailed
from broadcaster.process.tasks import running
from broadcaster.settings import Settings
from broadcaster.settings.values import ProviderSpec
from broadcaster.testing import ScriptedProvider
from tests.worker.providers.provider_support import failing, request_for
from tests.worker.wires.test_providers_registry import Double
from worker.main import create_providers, prepare_providers, to_prepare
from worker.providers.base import ListsModels, Provider
from worker.providers.registry import Providers
from worker.retry import ModelAnswer

KEYS = ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_PROFILE", "ANTHROPIC_CUSTOM_HEADERS", "OPENAI_API_KEY")
SERVER = "http://127.0.0.1:8080/v1"


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in KEYS:
        monkeypatch.delenv(name, raising=False)


def spec(**fields: Any) -> dict[str, Any]:
    """A provider from JSON."""
    return {"wire": "openai", "base_url": SERVER, **fields}


def settings_with(**fields: Any) -> Settings:
    """Settings of which some come from JSON."""
    return Settings(**fields)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"base_url": "https://x.example/v1/"},
        {"base_url": "http://[::1]:8080/v1"},
        {"base_url": None},
        {"wire": "anthropic", "base_url": "http://127.0.0.1:8080"},
        {"wire": "openai-responses"},
        {"api_key_env": "MY_KEY_2"},
        {"base_url": "https://x.example/v1", "reasoning_field": "reasoning"},
    ],
)
def test_a_provider_is_a_wire_an_address_and_the_name_of_a_key(fields: dict[str, Any]):
    assert isinstance(settings_with(providers={"mine": spec(**fields)}).providers["mine"], ProviderSpec)


@pytest.mark.parametrize(
    "fields",
    [
        {"wire": "telepathy"},
        {"base_url": "https://x.example/v1", "reasoning_field": "thoughts"},
        {"base_url": "https://api.openai.com/v1", "reasoning_field": "reasoning"},
        {"wire": "openai-responses", "base_url": "https://x.example/v1", "reasoning_field": "reasoning"},
        {"base_url": "ftp://x.example"},
        {"base_url": "x.example/v1"},
        {"base_url": "http://"},
        {"base_url": "http://x.example:secret-1234/v1"},
        {"base_url": "http://user:secret-1234@x.example/v1"},
        {"base_url": "http://x.example/v1?key=secret-1234"},
        {"api_key_env": "secret-1234"},
        {"api_key_env": "secret1234"},
        {"api_key_env": ""},
        {"api_key": "secret-1234"},
        {"api_key_envs": ["MINE", "secret-1234"]},
    ],
)
def test_an_entry_that_cannot_be_a_provider_is_refused_without_repeating_a_possible_key(fields: dict[str, Any]):
    with pytest.raises(ValidationError) as caught:
        settings_with(providers={"mine": spec(**fields)})
    # What a process prints of it: the place and the message, see worker/main.py and cli/terminal/failures.py.
    (error,) = caught.value.errors()
    assert error["loc"][:2] == ("providers", "mine")
    assert "secret" not in error["msg"]


@pytest.mark.parametrize(
    ("base_url", "given", "field"),
    [
        ("https://x.example/v1", None, None),
        ("https://x.example/v1", "reasoning", "reasoning"),
        ("https://api.deepseek.com/v1", None, "reasoning_content"),
        ("https://api.moonshot.ai/v1", None, "reasoning_content"),
        (None, None, None),
    ],
)
def test_a_server_takes_reasoning_back_if_it_is_known_to_or_set_to(
    base_url: str | None, given: str | None, field: str | None
):
    found = settings_with(providers={"mine": spec(base_url=base_url, reasoning_field=given)}).providers["mine"]
    assert found.takes_reasoning_in == field


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_name_that_exists_already_cannot_be_taken(name: str):
    with pytest.raises(ValidationError, match=f"exists already: {name}"):
        settings_with(providers={name: spec()})


def test_a_route_must_lead_to_a_provider():
    routes = {"qwen*": "mine", "local": "local"}
    assert settings_with(routes=routes, providers={"mine": spec()}).routes == routes
    with pytest.raises(ValidationError, match="ROUTES: routes name unknown providers: mine; there are: anthropic"):
        settings_with(routes=routes)


def test_settings_are_read_from_the_environment_as_json(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("BROADCASTER_PROVIDERS", '{"mine": {"wire": "openai", "api_key_env": "MINE"}}')
    assert Settings().providers == {"mine": ProviderSpec(wire="openai", api_key_env="MINE")}


@pytest.mark.parametrize(
    ("keys", "settings", "prepared"),
    [
        ((), {}, []),
        (("ANTHROPIC_API_KEY",), {}, ["anthropic"]),
        (("ANTHROPIC_API_KEY", "OPENAI_API_KEY"), {}, ["anthropic", "openai"]),
        (("OPENAI_API_KEY",), {"routes": {"gpt-*": "openai-responses", "local": "local"}}, ["openai-responses"]),
        (("OPENAI_API_KEY",), {"routes": {"local": "local"}}, []),
        ((), {"providers": {"mine": spec()}}, []),
        ((), {"providers": {"mine": spec()}, "routes": {"*": "mine"}}, ["mine"]),
        ((), {"local_model_preload": True}, ["local"]),
    ],
)
def test_a_worker_creates_the_routed_providers_that_the_operator_has_set_up(
    keys: tuple[str, ...], settings: dict[str, Any], *, prepared: list[str], monkeypatch: pytest.MonkeyPatch
):
    for name in keys:
        monkeypatch.setenv(name, "k")
    assert to_prepare(Settings(**settings)) == prepared


async def test_a_provider_that_cannot_be_made_does_not_keep_the_worker_from_its_others():
    made: list[str] = []

    def missing() -> Provider:
        raise ProviderFailed("no key", reason="provider_auth")

    def good() -> Provider:
        made.append("good")
        return Double()

    settings = settings_with(providers={"bad": spec(), "good": spec()}, routes={"a": "bad", "b": "good", "*": "local"})
    factories = {"bad": missing, "good": good, "local": Double}
    await prepare_providers(settings, Providers(ModelRoutes(settings.routes), factories))
    assert made == ["good"]


def test_a_route_may_lead_to_several_targets():
    routes = {"x": ["anthropic/claude-x", "openai", "mine/a/b"], "local": "local"}
    assert settings_with(routes=routes, providers={"mine": spec()}).routes == routes
    with pytest.raises(ValidationError, match="unknown providers: nobody"):
        settings_with(routes={**routes, "y": ["openai", "nobody/x"]}, providers={"mine": spec()})


@pytest.mark.parametrize("name", ["", "a/b"])
def test_the_name_of_a_provider_holds_no_slash(name: str):
    with pytest.raises(ValidationError, match="parts provider and model"):
        settings_with(providers={name: spec()})


def test_keys_are_named_for_our_providers_and_the_operators():
    settings = settings_with(
        api_key_envs={"anthropic": ["A_1", "A_2"], "openai": ["O_1"]},
        providers={"mine": spec(api_key_env="M_1", api_key_envs=["M_2", "M_1"]), "open": spec()},
    )
    assert settings.key_variables == {
        "anthropic": ("A_1", "A_2"),
        "openai": ("O_1",),
        "openai-responses": ("O_1",),
        "mine": ("M_1", "M_2"),
    }


@pytest.mark.parametrize(
    "named", [{"local": ["A"]}, {"mine": ["A"]}, {"openai": []}, {"openai": ["A", "A"]}, {"openai": ["secret-1234"]}]
)
def test_keys_that_cannot_be_are_refused_without_repeating_them(named: dict[str, list[str]]):
    with pytest.raises(ValidationError) as caught:
        settings_with(api_key_envs=named, providers={"mine": spec()})
    (error,) = caught.value.errors()
    assert error["loc"][0] == "api_key_envs"
    assert "secret" not in error["msg"]


def test_a_provider_with_named_keys_is_made_when_one_of_them_is_there(monkeypatch: pytest.MonkeyPatch):
    settings = Settings(api_key_envs={"anthropic": ("A_1", "A_2")})
    assert to_prepare(settings) == []
    monkeypatch.setenv("A_2", "k")
    assert to_prepare(settings) == ["anthropic"]


async def test_our_own_provider_brings_the_key_that_it_was_given_for_the_call(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", "of-the-sdk")
    for name in ("A_1", "A_2"):
        monkeypatch.setenv(name, f"key-{name}")
    async with ScriptedProvider() as server:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.base_url)
        settings = Settings(api_key_envs={"anthropic": ("A_1", "A_2")}, routes={"*": "anthropic"})
        providers = create_providers(settings)
        for name in ("gen_1", "gen_2"):
            answer = ModelAnswer(request_for("m"), providers, bounds=RetryBounds(0, 1), deadline=inf, name=name)
            await answer.run(lambda events: None)
        await providers.aclose()
        assert [request.headers["authorization"] for request in server.requests] == ["Bearer key-A_1", "Bearer key-A_2"]


async def test_lists_that_a_provider_never_sends_take_no_connection_of_an_answer(monkeypatch: pytest.MonkeyPatch):
    """One slot, and two reads beside its answer hang: the answer has its connection."""
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    requested: asyncio.Queue[bytes] = asyncio.Queue()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer):
            head = await reader.readuntil(b"\r\n\r\n")
            requested.put_nowait(head.split()[0])
            if head.startswith(b"POST"):
                writer.write(b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            else:
                await reader.read()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", "http://{}:{}/v1".format(*server.sockets[0].getsockname()))
        providers = create_providers(settings_with(concurrency=1, routes={"*": "openai"}))
        provider = await providers.named("openai")
        assert isinstance(provider, ListsModels)
        async with running(provider.models(api_key=None)), running(provider.models(api_key=None)):
            async with asyncio.timeout(10):
                assert [await requested.get(), await requested.get()] == [b"GET", b"GET"]
            failure, _ = await failing(provider, request_for("m"))
        await providers.aclose()
    assert failure.reason == "provider_auth"
