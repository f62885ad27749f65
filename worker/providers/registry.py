"""Which provider serves a model: the routes, and one provider for each name, made when first wanted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from typing import Final

from broadcaster.core.routing import Routes
from broadcaster.errors import SetupError
from worker.providers.anthropic import AnthropicProvider
from worker.providers.base import Provider
from worker.providers.local import LocalModel

ANTHROPIC: Final = "anthropic"
LOCAL: Final = "local"

Factories = Mapping[str, Callable[[], Provider]]


def default_factories(*, max_connections: int, read_timeout_s: float) -> Factories:
    """The providers that exist, by the names that routes use."""
    return {
        ANTHROPIC: lambda: AnthropicProvider(max_connections=max_connections, read_timeout_s=read_timeout_s),
        LOCAL: lambda: LocalModel(read_timeout_s=read_timeout_s),
    }


class Providers:
    """All providers of a worker."""

    def __init__(self, routes: Routes, factories: Factories) -> None:
        """Raises SetupError when a route names a provider that does not exist."""
        if unknown := sorted(routes.providers - factories.keys()):
            raise SetupError(f"routes name unknown providers: {', '.join(unknown)}; there are: {', '.join(factories)}")
        self._routes = routes
        self._factories = factories
        self._made: dict[str, Provider] = {}

    def for_model(self, model: str) -> Provider:
        """The provider that serves this model.

        Raises (1) UnknownModel when no route matches, (2) ProviderFailed when the provider cannot be made.
        """
        return self.named(self._routes.provider_for(model))

    def named(self, name: str) -> Provider:
        """The provider of this name. Raises SetupError when there is none."""
        if name not in self._made:
            if name not in self._factories:
                raise SetupError(f"there is no provider {name!r}")
            self._made[name] = self._factories[name]()
        return self._made[name]

    async def aclose(self) -> None:
        """Close every provider that was made, also if closing one of them fails. Idempotent."""
        async with AsyncExitStack() as stack:
            for provider in self._made.values():
                stack.push_async_callback(provider.aclose)
            self._made = {}
