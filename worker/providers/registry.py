"""Which provider serves a model: the model routing, and one provider for each name, created at its first use.

A provider's module is imported when the provider is created, in a thread: an SDK costs one to three seconds of CPU. A
worker pays this only for the providers that it uses, and without blocking its event loop.
"""

from __future__ import annotations

import asyncio
import importlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING, Final

from broadcaster.core.providers.model_routing import BUILT_IN, ModelRoutes, ModelTarget
from broadcaster.core.requests.passed_calls import BUILT_IN_CALLS, ProviderCalls, targets_answering
from broadcaster.errors import BroadcasterError, ProviderFailed, SetupError
from broadcaster.observability.logs import get_logger
from broadcaster.settings.values import ProviderSpec
from worker.observing.counts import ProviderCall, ProviderCounts
from worker.providers.base import CallBounds, Provider
from worker.providers.keys import ProviderKeys

if TYPE_CHECKING:
    from worker.providers.anthropic import AnthropicProvider
    from worker.providers.local.model import LocalModel
    from worker.providers.openai import OpenAIProvider

_log = get_logger(__name__)

ANTHROPIC, OPENAI, OPENAI_RESPONSES, LOCAL = BUILT_IN

Factories = Mapping[str, Callable[[], Provider]]

DEFAULT_COOLDOWN_S: Final = 10.0

# Each of them means that the operator uses the provider. Credentials may be elsewhere too (a profile).
_CREDENTIALS: Final = {
    ANTHROPIC: ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_PROFILE", "ANTHROPIC_CUSTOM_HEADERS"),
    OPENAI: ("OPENAI_API_KEY",),
    OPENAI_RESPONSES: ("OPENAI_API_KEY",),
}


def default_factories(
    bounds: CallBounds,
    *,
    specs: Mapping[str, ProviderSpec] | None = None,
    key_variables: Mapping[str, Sequence[str]] | None = None,
) -> Factories:
    """The built-in providers and those of the operator, by the names that the model routing uses.

    ``key_variables`` names the variables of each provider's keys, if the SDK does not read them itself.
    """
    variables = key_variables or {name: spec.key_variables for name, spec in (specs or {}).items()}
    servers = {**dict.fromkeys((ANTHROPIC, OPENAI, OPENAI_RESPONSES)), **(specs or {})}
    made: dict[str, Callable[[], Provider]] = {LOCAL: partial(_create_local, bounds)}
    for name, spec in servers.items():
        made[name] = partial(_create, bounds, name, spec, variables=variables.get(name, ()))
    return made


def _create_local(bounds: CallBounds) -> Provider:
    kind: type[LocalModel] = importlib.import_module("worker.providers.local.model").LocalModel
    return kind(read_timeout_s=bounds.read_timeout_s)


def _create(
    bounds: CallBounds, name: str, spec: ProviderSpec | None, *, variables: Sequence[str]
) -> AnthropicProvider | OpenAIProvider:
    """A provider whose keys are in these variables; without variables it needs no key, or the SDK has its own.

    ``spec`` None: it is built in, and its name is that of its wire.

    Raises ProviderFailed (provider_auth) if variables are named and all of them are empty.
    """
    found = read_keys(variables)
    if variables and not found:
        raise ProviderFailed(
            f"no key for the provider {name!r}: set {' or '.join(variables)} in the worker's environment",
            reason="provider_auth",
        )
    # The first key is the default: the key of a call takes precedence.
    api_key = next(iter(found.values()), None)
    wire, base_url, field = (name, None, None) if spec is None else (spec.wire, spec.base_url, spec.takes_reasoning_in)
    if wire == ANTHROPIC:
        kind: type[AnthropicProvider] = importlib.import_module("worker.providers.anthropic").AnthropicProvider
        return kind(bounds, base_url=base_url, api_key=api_key)
    openai: type[OpenAIProvider] = importlib.import_module("worker.providers.openai").OpenAIProvider
    return openai(
        "chat" if wire == OPENAI else "responses", bounds, base_url=base_url, api_key=api_key, reasoning_field=field
    )


def read_keys(variables: Iterable[str]) -> dict[str, str]:
    """The keys in the environment, by their variables."""
    return {variable: value for variable in variables if (value := os.environ.get(variable))}


def has_credentials(name: str, variables: Iterable[str] = ()) -> bool:
    """Whether the environment has credentials for this provider: in these variables, or in the SDK's own."""
    return any(os.environ.get(variable) for variable in (*variables, *_CREDENTIALS.get(name, ())))


class Providers:
    """All providers of a worker."""

    def __init__(
        self,
        routes: ModelRoutes,
        factories: Factories,
        *,
        key_variables: Mapping[str, Sequence[str]] | None = None,
        cooldown_s: float = DEFAULT_COOLDOWN_S,
        calls: ProviderCalls = BUILT_IN_CALLS,
    ) -> None:
        """``key_variables`` are those of the providers whose keys we choose. ``cooldown_s``: see ProviderKeys.
        ``calls`` are the calls that each provider serves beside requests for an answer.

        Raises SetupError if the model routing names a provider that does not exist.
        """
        routes.check(factories)
        self._keys = _create_keys(key_variables or {}, cooldown_s=cooldown_s)
        self._cooldown_s = cooldown_s
        self._calls = calls
        self._routes = routes
        self._factories = factories
        self._made: dict[str, Provider] = {}
        self._making = asyncio.Lock()
        self.counts = ProviderCounts()

    def targets_for(self, model: str, *, call: str | None = None) -> Sequence[ModelTarget]:
        """The targets that serve this model's answer, or this call, in order.

        Raises UnknownModel if no pattern matches, ProviderFailed if no target serves the call.
        """
        targets = self._routes.targets_for(model)
        if call is None:
            return targets
        if not (answering := targets_answering(call, targets, self._calls)):
            raise ProviderFailed(f"no provider of this model answers /v1/{call}", reason="provider_bad_request")
        return answering

    def counted_call(self, model: str, target: ModelTarget) -> ProviderCall:
        """A call of this target for a request of this model, as it is counted."""
        return self.counts.call(target.provider, self._routes.label_of(model, target))

    def keys_of(self, name: str) -> ProviderKeys:
        """The keys of this provider."""
        if name not in self._keys:
            self._keys[name] = ProviderKeys(cooldown_s=self._cooldown_s)
        return self._keys[name]

    async def named(self, name: str) -> Provider:
        """The provider of this name. Raises SetupError if it does not exist, ProviderFailed if it cannot be created."""
        if name not in self._factories:
            raise SetupError(f"there is no provider {name!r}")
        if name not in self._made:
            async with self._making:
                if name not in self._made:
                    self._made[name] = await self._created(name)
        return self._made[name]

    async def _created(self, name: str) -> Provider:
        """Raises ProviderFailed, whatever the libraries raise: for a proxy or certificates that they cannot use."""
        try:
            return await asyncio.to_thread(self._factories[name])
        except BroadcasterError:
            raise
        except Exception as error:
            failure = _not_created(name, error)
        # Raised outside the ``except``: the library's text may quote a password in the address of a proxy.
        raise failure

    async def aclose(self) -> None:
        """Close every provider that was created, also if closing one of them fails. Idempotent."""
        async with AsyncExitStack() as stack:
            for provider in self._made.values():
                stack.push_async_callback(provider.aclose)
            self._made = {}


def _not_created(name: str, error: Exception) -> ProviderFailed:
    return ProviderFailed(
        f"the provider {name!r} cannot be created ({type(error).__name__}): check HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, "
        "SSL_CERT_FILE and SSL_CERT_DIR in the worker's environment",
        reason="provider_unreachable",
        retryable=isinstance(error, OSError),
    )


def _create_keys(key_variables: Mapping[str, Sequence[str]], *, cooldown_s: float) -> dict[str, ProviderKeys]:
    """The keys of each provider. OpenAI's two wires share theirs, with their loads and rests: it is one server."""
    named = {variable for variables in key_variables.values() for variable in variables}
    for variable in sorted(named - read_keys(named).keys()):
        _log.warning("provider_key_missing", variable=variable)
    made = {name: ProviderKeys(read_keys(each), cooldown_s=cooldown_s) for name, each in key_variables.items()}
    if OPENAI in made and key_variables.get(OPENAI_RESPONSES) == key_variables[OPENAI]:
        made[OPENAI_RESPONSES] = made[OPENAI]
    return made
