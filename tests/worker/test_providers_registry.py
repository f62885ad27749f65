"""The registry: a provider for each model, made once and only when wanted."""

from contextlib import AbstractAsyncContextManager

import pytest

from broadcaster.core.routing import Routes
from broadcaster.errors import SetupError, UnknownModel
from worker.providers.anthropic import AnthropicProvider
from worker.providers.base import Provider, ProviderRequest, ProviderStream
from worker.providers.local import LocalModel
from worker.providers.registry import Providers, default_factories

ROUTES = Routes({"claude*": "a", "local": "b"})


class Double:
    """A provider that is only made and closed."""

    def __init__(self, *, fails: bool = False) -> None:
        self.closed = 0
        self._fails = fails

    def stream(self, request: ProviderRequest) -> AbstractAsyncContextManager[ProviderStream]:
        raise AssertionError("nobody asked for a stream")

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
    assert providers.for_model("claude-1") is providers.for_model("claude-2") is providers.named("a")
    assert made == ["a"]


async def test_a_model_without_a_route_is_unknown():
    with pytest.raises(UnknownModel):
        Providers(ROUTES, {"a": Double, "b": Double}).for_model("gpt")


async def test_a_route_to_a_provider_that_does_not_exist_is_told_at_once():
    with pytest.raises(SetupError, match="routes name unknown providers: b; there are: a"):
        Providers(ROUTES, {"a": Double})


async def test_a_name_without_a_provider_is_told():
    with pytest.raises(SetupError, match="no provider 'c'"):
        Providers(ROUTES, {"a": Double, "b": Double}).named("c")


async def test_closing_closes_what_was_made_even_if_one_of_them_fails():
    good, bad = Double(), Double(fails=True)
    providers = Providers(ROUTES, {"a": lambda: good, "b": lambda: bad})
    providers.for_model("claude-1")
    providers.for_model("local")
    with pytest.raises(OSError, match="would not close"):
        await providers.aclose()
    await providers.aclose()
    assert (good.closed, bad.closed) == (1, 1)


async def test_the_default_providers_are_anthropic_and_the_local_model(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ANTHROPIC_API_KEY", "k")
    factories = default_factories(max_connections=3, read_timeout_s=1)
    providers = Providers(Routes({"claude*": "anthropic", "local": "local"}), factories)
    assert isinstance(providers.for_model("claude-x"), AnthropicProvider)
    assert isinstance(providers.for_model("local"), LocalModel)
    await providers.aclose()
