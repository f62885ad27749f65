"""Which provider serves a model: the routes, and one provider for each name, made when first wanted.

A provider's module is imported when it is made, in a thread: the SDKs cost one to three seconds of CPU, which a worker
pays only for the providers it uses, and never with its event loop standing still.
"""

from __future__ import annotations

import asyncio
import importlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, Literal

import structlog

from broadcaster.core.routing import BUILT_IN, Routes, Target
from broadcaster.errors import ProviderFailed, SetupError
from broadcaster.settings import ProviderSpec
from worker.providers.base import Provider
from worker.providers.bounds import CallBounds
from worker.providers.keys import Keys

if TYPE_CHECKING:
    from worker.providers.anthropic import AnthropicProvider
    from worker.providers.local import LocalModel
    from worker.providers.openai import OpenAIProvider

_log = structlog.get_logger(__name__)

ANTHROPIC, OPENAI, OPENAI_RESPONSES, LOCAL = BUILT_IN

Factories = Mapping[str, Callable[[], Provider]]

DEFAULT_COOLDOWN_S: Final = 10.0

# Any of them says that the operator means to use the provider. Credentials may lie elsewhere too (a profile).
_CREDENTIALS: Final = {
    ANTHROPIC: ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_PROFILE", "ANTHROPIC_CUSTOM_HEADERS"),
    OPENAI: ("OPENAI_API_KEY",),
    OPENAI_RESPONSES: ("OPENAI_API_KEY",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Factory:
    """Makes the providers that exist, and those of the operator."""

    bounds: CallBounds

    def anthropic(self, *, base_url: str | None = None, api_key: str | None = None) -> Provider:
        """The Claude API, or a server that speaks its wire."""
        kind: type[AnthropicProvider] = importlib.import_module("worker.providers.anthropic").AnthropicProvider
        return kind(self.bounds, base_url=base_url, api_key=api_key)

    def openai(
        self, wire: Literal["chat", "responses"], *, base_url: str | None = None, api_key: str | None = None
    ) -> Provider:
        """The OpenAI API, or a server that speaks one of its wires."""
        kind: type[OpenAIProvider] = importlib.import_module("worker.providers.openai").OpenAIProvider
        return kind(wire, self.bounds, base_url=base_url, api_key=api_key)

    def local(self) -> Provider:
        """The small model on this machine."""
        kind: type[LocalModel] = importlib.import_module("worker.providers.local").LocalModel
        return kind(read_timeout_s=self.bounds.read_timeout_s)

    def of_wire(self, name: str, wire: str, *, base_url: str | None, variables: Sequence[str]) -> Provider:
        """A provider whose keys are in these variables; none named: it needs none, or the SDK knows its own.

        Raises ProviderFailed (provider_auth) when variables are named and none of them holds a key.
        """
        found = read_keys(variables)
        if variables and not found:
            raise ProviderFailed(
                f"no key for the provider {name!r}: set {' or '.join(variables)} in the worker's environment",
                reason="provider_auth",
            )
        # The first key stands for all: a call that brings another one wins over it.
        api_key = next(iter(found.values()), None)
        if wire == ANTHROPIC:
            return self.anthropic(base_url=base_url, api_key=api_key)
        return self.openai("chat" if wire == OPENAI else "responses", base_url=base_url, api_key=api_key)


def default_factories(
    bounds: CallBounds,
    *,
    specs: Mapping[str, ProviderSpec] | None = None,
    key_variables: Mapping[str, Sequence[str]] | None = None,
) -> Factories:
    """The providers that exist and those of the operator, by the names that routes use.

    ``key_variables`` names the variables of each provider's keys, where they are not the SDK's own business.
    """
    factory = Factory(bounds=bounds)
    variables = key_variables or {name: spec.key_variables for name, spec in (specs or {}).items()}
    servers = {**dict.fromkeys((ANTHROPIC, OPENAI, OPENAI_RESPONSES)), **(specs or {})}
    made: dict[str, Callable[[], Provider]] = {LOCAL: factory.local}
    for name, spec in servers.items():
        wire, base_url = (name, None) if spec is None else (spec.wire, spec.base_url)
        made[name] = partial(factory.of_wire, name, wire, base_url=base_url, variables=variables.get(name, ()))
    return made


def read_keys(variables: Iterable[str]) -> dict[str, str]:
    """The keys that the environment holds, by their variables."""
    return {variable: value for variable in variables if (value := os.environ.get(variable))}


def has_credentials(name: str, variables: Iterable[str] = ()) -> bool:
    """Whether the environment holds credentials for this provider of ours: in these variables, or in the SDK's own."""
    return any(os.environ.get(variable) for variable in (*variables, *_CREDENTIALS.get(name, ())))


class Providers:
    """All providers of a worker."""

    def __init__(
        self,
        routes: Routes,
        factories: Factories,
        *,
        key_variables: Mapping[str, Sequence[str]] | None = None,
        cooldown_s: float = DEFAULT_COOLDOWN_S,
    ) -> None:
        """``key_variables`` are those of the providers whose keys we choose; ``cooldown_s``: see Keys.

        Raises SetupError when a route names a provider that does not exist.
        """
        routes.check(factories)
        self._keys = _create_keys(key_variables or {}, cooldown_s=cooldown_s)
        self._cooldown_s = cooldown_s
        self._routes = routes
        self._factories = factories
        self._made: dict[str, Provider] = {}
        self._making = asyncio.Lock()

    def targets_for(self, model: str) -> Sequence[Target]:
        """Where this model's answer is asked for, in order. Raises UnknownModel when no route matches."""
        return self._routes.targets_for(model)

    def keys_of(self, name: str) -> Keys:
        """The keys of this provider."""
        if name not in self._keys:
            self._keys[name] = Keys(cooldown_s=self._cooldown_s)
        return self._keys[name]

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


def _create_keys(key_variables: Mapping[str, Sequence[str]], *, cooldown_s: float) -> dict[str, Keys]:
    """The keys of each provider. OpenAI's two wires share theirs, with loads and rests: it is one server."""
    named = {variable for variables in key_variables.values() for variable in variables}
    for variable in sorted(named - read_keys(named).keys()):
        _log.warning("provider_key_missing", variable=variable)
    made = {name: Keys(read_keys(each), cooldown_s=cooldown_s) for name, each in key_variables.items()}
    if OPENAI in made and key_variables.get(OPENAI_RESPONSES) == key_variables[OPENAI]:
        made[OPENAI_RESPONSES] = made[OPENAI]
    return made
