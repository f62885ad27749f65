"""The registry: a provider for each model, made once, only when wanted, and with what it needs alone."""

import asyncio
import subprocess
import sys
import threading
from contextlib import AbstractAsyncContextManager

import pytest
import structlog

from broadcaster.core.providers.model_routing import ModelRoutes
from broadcaster.errors import ProviderFailed, SetupError, UnknownModel
from broadcaster.settings import Settings
from broadcaster.settings.values import ProviderSpec
from broadcaster.testing import ScriptedProvider
from tests.worker.providers.provider_support import collect, request_for
from worker.main import create_providers, prepare_providers
from worker.providers.anthropic import AnthropicProvider
from worker.providers.base import CallBounds, Provider, ProviderRequest, ProviderStream
from worker.providers.local.model import LocalModel
from worker.providers.openai import OpenAIProvider
from worker.providers.registry import Providers, default_factories, has_credentials

ROUTES = ModelRoutes({"claude*": "a", "local": "b"})


class Double:
    """A provider that is only made and closed."""

    def __init__(self, *, fails: bool = False) -> None:
        self.closed = 0
        self._fails = fails

    def stream(self, request: ProviderRequest) -> AbstractAsyncContextManager[ProviderStream]:
        raise AssertionError("nobody asked for a stream")

    async def start(self) -> None:
        """Nothing is to be made ready."""

    async def aclose(self) -> None:
        self.closed += 1
        if self._fails:
            raise OSError("would not close")


async def test_a_provider_is_made_when_first_wanted_and_then_kept():
    made: list[str] = []

    def factory(name: str) -> Provider:
        made.append(name)
        return Double()

    providers = Providers(ROUTES, {"a": lambda: factory("a"), "b": lambda: factory("b")})
    assert made == []
    for_one, for_two = await asyncio.gather(providers.named("a"), providers.named("a"))
    assert for_one is for_two
    assert made == ["a"]


async def test_the_loop_goes_on_while_a_provider_is_made():
    leave = threading.Event()

    def slow() -> Provider:
        assert leave.wait(5)
        return Double()

    making = asyncio.create_task(Providers(ROUTES, {"a": slow, "b": Double}).named("a"))
    await asyncio.sleep(0)
    leave.set()  # by a loop that stood still, never
    await making


async def test_a_provider_that_could_not_be_created_is_retried():
    missing = [ProviderFailed("no key", reason="provider_auth")]

    def factory() -> Provider:
        if missing:
            raise missing.pop()
        return Double()

    providers = Providers(ROUTES, {"a": factory, "b": Double})
    with pytest.raises(ProviderFailed, match="no key"):
        await providers.named("a")
    assert isinstance(await providers.named("a"), Double)


@pytest.mark.parametrize(
    ("variable", "value", "is_retryable"),
    [
        ("HTTPS_PROXY", "ftp://user:hunter2@proxy.internal:1080", False),
        ("ALL_PROXY", "http://user:hunter2@proxy.internal:port", False),
        ("SSL_CERT_FILE", "/hunter2/ca.pem", True),
        ("SSL_CERT_FILE", __file__, True),
    ],
)
async def test_a_proxy_or_certificates_that_cannot_be_used_are_a_failure_of_the_provider(
    variable: str, value: str, is_retryable: bool, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    monkeypatch.setenv(variable, value)
    providers = providers_with()
    with pytest.raises(ProviderFailed, match=f"'openai' cannot be created .*{variable}") as caught:
        await providers.named("openai")
    assert (caught.value.reason, caught.value.retryable) == ("provider_unreachable", is_retryable)
    assert "hunter2" not in caught.value.detail
    await providers.aclose()


async def test_a_worker_logs_the_providers_that_cannot_be_created_and_goes_on(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SSL_CERT_FILE", "/nonexistent/ca.pem")
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "k")
    settings = Settings(redis_url="redis://127.0.0.1:9")
    providers = create_providers(settings)
    with structlog.testing.capture_logs() as lines:
        await prepare_providers(settings, providers)
    reasons = {line["provider"]: line["reason"] for line in lines if line["event"] == "provider_not_ready"}
    assert reasons == {"anthropic": "provider_unreachable", "openai": "provider_unreachable"}
    await providers.aclose()


def test_a_model_without_a_route_is_unknown():
    with pytest.raises(UnknownModel):
        Providers(ROUTES, {"a": Double, "b": Double}).targets_for("gpt")


async def test_a_route_to_a_provider_that_does_not_exist_is_refused_at_once():
    with pytest.raises(SetupError, match="routes name unknown providers: b; there are: a"):
        Providers(ROUTES, {"a": Double})


async def test_a_name_without_a_provider_is_refused():
    with pytest.raises(SetupError, match="no provider 'c'"):
        await Providers(ROUTES, {"a": Double, "b": Double}).named("c")


async def test_closing_closes_what_was_made_even_if_one_of_them_fails():
    good, bad = Double(), Double(fails=True)
    providers = Providers(ROUTES, {"a": lambda: good, "b": lambda: bad})
    await providers.named("a")
    await providers.named("b")
    with pytest.raises(OSError, match="would not close"):
        await providers.aclose()
    await providers.aclose()
    assert (good.closed, bad.closed) == (1, 1)


def providers_with(**specs: ProviderSpec) -> Providers:
    return Providers(ModelRoutes({}), default_factories(CallBounds(max_connections=3, read_timeout_s=1), specs=specs))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("anthropic", AnthropicProvider),
        ("openai", OpenAIProvider),
        ("openai-responses", OpenAIProvider),
        ("local", LocalModel),
    ],
)
async def test_every_worker_has_the_providers_that_exist(name: str, kind: type, monkeypatch: pytest.MonkeyPatch):
    for variable in ("ANTHROPIC_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.setenv(variable, "k")
    providers = providers_with()
    assert isinstance(await providers.named(name), kind)
    await providers.aclose()


@pytest.mark.parametrize(
    ("wire", "kind"),
    [("anthropic", AnthropicProvider), ("openai", OpenAIProvider), ("openai-responses", OpenAIProvider)],
)
async def test_the_operator_adds_servers_that_speak_a_known_wire(wire: str, kind: type):
    spec = ProviderSpec.model_validate({"wire": wire, "base_url": "http://127.0.0.1:9/v1"})
    providers = providers_with(mine=spec)
    assert isinstance(await providers.named("mine"), kind)
    await providers.aclose()


async def test_a_server_is_sent_the_reasoning_of_earlier_answers_in_the_field_that_the_operator_names():
    answer = {"role": "assistant", "content": "Yes.", "openai": {"reasoning": "Hm."}}
    messages = [{"role": "user", "content": "?"}, answer, {"role": "user", "content": "Why?"}]
    async with ScriptedProvider() as server:
        fields = {"wire": "openai", "base_url": server.openai_base_url, "reasoning_field": "reasoning_content"}
        providers = providers_with(mine=ProviderSpec.model_validate(fields))
        await collect(await providers.named("mine"), request_for("m", messages=messages))
        await providers.aclose()
        (request,) = server.requests
    assert request.body["messages"][1] == {"role": "assistant", "content": "Yes.", "reasoning_content": "Hm."}


@pytest.mark.parametrize("value", [None, ""])
async def test_a_key_that_is_not_in_the_environment_is_reported_by_its_name(
    value: str | None, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-somebody-else")
    monkeypatch.delenv("MINE_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("MINE_KEY", value)
    providers = providers_with(mine=ProviderSpec(wire="openai", base_url="http://x/v1", api_key_env="MINE_KEY"))
    with pytest.raises(ProviderFailed, match="no key for the provider 'mine': set MINE_KEY") as caught:
        await providers.named("mine")
    assert (caught.value.reason, caught.value.retryable) == ("provider_auth", False)


def test_credentials_are_found_in_the_environment(monkeypatch: pytest.MonkeyPatch):
    for variable in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_PROFILE", "ANTHROPIC_CUSTOM_HEADERS"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    assert [has_credentials(name) for name in ("anthropic", "openai", "openai-responses", "local")] == [
        False,
        True,
        True,
        False,
    ]
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", "t")
    assert has_credentials("anthropic")


def test_a_worker_imports_no_sdk_before_it_makes_a_provider():
    loaded = "import sys, worker.main; print(*sorted({'anthropic', 'openai', 'aiohttp'} & sys.modules.keys()))"
    result = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == ""
