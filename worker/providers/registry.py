"""Which provider serves a model: the routes, and one provider for each name, made when first wanted.

A provider's module is imported when it is made, in a thread: the SDKs cost one to three seconds of CPU, which a worker
pays only for the providers it uses, and never with its event loop standing still.
"""

from __future__ import annotations

import asyncio
import importlib
import os
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from broadcaster.core.routing import BUILT_IN, Routes
from broadcaster.errors import ProviderFailed, SetupError
from broadcaster.settings import ProviderSpec
from worker.providers.base import Provider

if TYPE_CHECKING:
    from worker.providers.anthropic import AnthropicProvider
    from worker.providers.local import LocalModel
    from worker.providers.openai import OpenAIProvider

ANTHROPIC, OPENAI, OPENAI_RESPONSES, LOCAL = BUILT_IN

Factories = Mapping[str, Callable[[], Provider]]

# Any of them says that the operator means to use the provider. Credentials may lie elsewhere too (a profile).
_CREDENTIALS: Final = {
    ANTHROPIC: ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_PROFILE", "ANTHROPIC_CUSTOM_HEADERS"),
    OPENAI: ("OPENAI_API_KEY",),
    OPENAI_RESPONSES: ("OPENAI_API_KEY",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Factory:
    """Makes the providers that exist, and those of the operator."""

    max_connections: int
    read_timeout_s: float

    def anthropic(self, *, base_url: str | None = None, api_key: str | None = None) -> Provider:
        """The Claude API, or a server that speaks its wire."""
        kind: type[AnthropicProvider] = importlib.import_module("worker.providers.anthropic").AnthropicProvider
        return kind(
            max_connections=self.max_connections,
            read_timeout_s=self.read_timeout_s,
            base_url=base_url,
            api_key=api_key,
        )

    def openai(
        self, wire: Literal["chat", "responses"], *, base_url: str | None = None, api_key: str | None = None
    ) -> Provider:
        """The OpenAI API, or a server that speaks one of its wires."""
        kind: type[OpenAIProvider] = importlib.import_module("worker.providers.openai").OpenAIProvider
        return kind(
            wire,
            max_connections=self.max_connections,
            read_timeout_s=self.read_timeout_s,
            base_url=base_url,
            api_key=api_key,
        )

    def local(self) -> Provider:
        """The small model on this machine."""
        kind: type[LocalModel] = importlib.import_module("worker.providers.local").LocalModel
        return kind(read_timeout_s=self.read_timeout_s)

    def of_spec(self, name: str, spec: ProviderSpec) -> Provider:
        """A provider of the operator. Raises ProviderFailed (provider_auth) when its key is not in the environment."""
        api_key = os.environ.get(spec.api_key_env) if spec.api_key_env is not None else None
        if spec.api_key_env is not None and not api_key:
            raise ProviderFailed(
                f"no key for the provider {name!r}: set {spec.api_key_env} in the worker's environment",
                reason="provider_auth",
            )
        if spec.wire == ANTHROPIC:
            return self.anthropic(base_url=spec.base_url, api_key=api_key)
        return self.openai("chat" if spec.wire == OPENAI else "responses", base_url=spec.base_url, api_key=api_key)


def default_factories(
    *, max_connections: int, read_timeout_s: float, specs: Mapping[str, ProviderSpec] | None = None
) -> Factories:
    """The providers that exist and those of the operator, by the names that routes use."""
    factory = Factory(max_connections=max_connections, read_timeout_s=read_timeout_s)
    factories: dict[str, Callable[[], Provider]] = {
        ANTHROPIC: factory.anthropic,
        OPENAI: lambda: factory.openai("chat"),
        OPENAI_RESPONSES: lambda: factory.openai("responses"),
        LOCAL: factory.local,
    }
    for name, spec in (specs or {}).items():
        factories[name] = _maker(factory, name, spec)
    return factories


def has_credentials(name: str) -> bool:
    """Whether the environment holds credentials for this provider of ours."""
    return any(os.environ.get(variable) for variable in _CREDENTIALS.get(name, ()))


class Providers:
    """All providers of a worker."""

    def __init__(self, routes: Routes, factories: Factories) -> None:
        """Raises SetupError when a route names a provider that does not exist."""
        routes.check(factories)
        self._routes = routes
        self._factories = factories
        self._made: dict[str, Provider] = {}
        self._making = asyncio.Lock()

    async def for_model(self, model: str) -> Provider:
        """The provider that serves this model.

        Raises (1) UnknownModel when no route matches, (2) ProviderFailed when the provider cannot be made.
        """
        return await self.named(self._routes.provider_for(model))

    async def named(self, name: str) -> Provider:
        """The provider of this name. Raises SetupError when there is none, ProviderFailed when it cannot be made."""
        if name not in self._factories:
            raise SetupError(f"there is no provider {name!r}")
        if name not in self._made:
            async with self._making:
                if name not in self._made:
                    self._made[name] = await asyncio.to_thread(self._factories[name])
        return self._made[name]

    async def aclose(self) -> None:
        """Close every provider that was made, also if closing one of them fails. Idempotent."""
        async with AsyncExitStack() as stack:
            for provider in self._made.values():
                stack.push_async_callback(provider.aclose)
            self._made = {}


def _maker(factory: Factory, name: str, spec: ProviderSpec) -> Callable[[], Provider]:
    return lambda: factory.of_spec(name, spec)
