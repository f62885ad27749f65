"""The checks of this machine and its settings: everything that needs no network."""

from __future__ import annotations

import resource
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import SecretStr

from broadcaster.cli.doctor.table import Check, fail, skip, warn
from broadcaster.cli.processes.default_model import INSTALL_LOCAL, has_local_model
from broadcaster.cli.terminal.formats import number
from broadcaster.core.access.api_keys import Keyring
from broadcaster.core.access.masking import masked
from broadcaster.core.providers.model_routing import ModelRoutes
from broadcaster.errors import BroadcasterError, SetupError
from broadcaster.log.redis.embedded import find_server
from broadcaster.settings import PREFIX, Settings, unknown_variables
from broadcaster.web.guards.key_file import KeyFile
from broadcaster.web.wiring import token_issuers

LOCAL: Final = "local"
# Beside viewers and Redis: standard streams, the listener, the tail, files, and a margin.
OTHER_DESCRIPTORS: Final = 64

_SECRET_ENDINGS: Final = ("_key", "_keys", "_secret", "_secrets", "_password", "_token")
_MASK: Final = "***"


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """The facts about this machine. ``*_fault`` is None without a fault."""

    named: tuple[str, ...]
    unknown: tuple[str, ...]
    keys: int
    tenants: int
    key_fault: str | None
    has_keys_of_redis: bool
    default_model: str
    default_provider: str | None
    descriptors: int
    descriptors_needed: int
    has_redis: bool
    server: str | None
    server_fault: str | None
    has_local_model: bool


def inspect(settings: Settings, *, named: Iterable[str], environment: Mapping[str, str], has_redis: bool) -> Machine:
    """Inspect this machine; ``named`` are the settings that are set explicitly."""
    server, server_fault = _server(settings)
    keyrings, key_fault = _keyrings(settings)
    return Machine(
        named=tuple(variable(name) for name in Settings.model_fields if name in set(named)),
        unknown=tuple(f"{name} (is {near} meant?)" if near else name for name, near in unknown_variables(environment)),
        keys=sum(ring.key_count for ring in keyrings),
        tenants=len(frozenset[str]().union(*(ring.tenants for ring in keyrings))),
        key_fault=key_fault,
        has_keys_of_redis=settings.auth == "keys",
        default_model=settings.default_model,
        default_provider=provider_of(settings),
        descriptors=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        descriptors_needed=settings.max_viewers + settings.redis_connections + OTHER_DESCRIPTORS,
        has_redis=has_redis,
        server=server,
        server_fault=server_fault,
        has_local_model=has_local_model(),
    )


def variable(name: str) -> str:
    """The environment variable of a setting."""
    return f"{PREFIX}{name.upper()}"


def provider_of(settings: Settings) -> str | None:
    """The provider of the default model; None if no pattern matches it."""
    try:
        return ModelRoutes(settings.routes).provider_for(settings.default_model)
    except BroadcasterError:
        return None


def masked_value(name: str, value: Any) -> Any:
    """A setting's value with its secrets masked, as JSON has it."""
    if value is None:
        return None
    if isinstance(value, SecretStr) or name.endswith(_SECRET_ENDINGS):
        return _MASK
    if isinstance(value, str):
        return masked(value)
    if isinstance(value, Mapping):
        return {each: masked_value(str(each), inner) for each, inner in value.items()}
    if isinstance(value, list | tuple):
        return [masked_value(name, inner) for inner in value]
    return value


def _keyrings(settings: Settings) -> tuple[list[Keyring], str | None]:
    """The keys of the settings and of their file, and why the file, or the keys of viewer tokens, cannot be used."""
    keys, path = settings.api_keys, settings.api_keys_file
    found = [] if keys is None else [Keyring.read(keys.get_secret_value())]
    try:
        of_file = None if path is None else KeyFile(path).read_changed()
        token_issuers(settings)
    except SetupError as error:
        return found, error.detail
    return (found if of_file is None else [*found, of_file]), None


def _callers(seen: Machine) -> str:
    if seen.key_fault is not None:
        return seen.key_fault
    if not seen.has_keys_of_redis:
        return "no keys are set: every process on this machine may call"
    if not seen.keys:
        return "callers with a key of Redis (broadcaster key ls)"
    return f"callers with one of {number(seen.keys, 'key')} of {number(seen.tenants, 'tenant')}, or with a key of Redis"


def _server(settings: Settings) -> tuple[str | None, str | None]:
    try:
        return str(find_server(settings.redis_server)), None
    except SetupError as error:
        return None, error.detail


CHECKS: Final[tuple[Check[Machine], ...]] = (
    Check(
        "settings",
        lambda seen: f"valid; {len(seen.named)} set{': ' if seen.named else ''}{', '.join(seen.named)}",
    ),
    Check(
        "unknown settings",
        lambda seen: ", ".join(seen.unknown) or "none",
        warn(
            lambda seen: bool(seen.unknown),
            "they have no effect: correct their names (broadcaster doctor --settings lists all)",
        ),
    ),
    Check("callers", _callers, fail(lambda seen: seen.key_fault is not None, "a front-end does not start so")),
    Check(
        "default model",
        lambda seen: f"{seen.default_model} → {seen.default_provider or 'no provider'}",
        fail(
            lambda seen: seen.default_provider is None,
            "no route serves it: set BROADCASTER_DEFAULT_MODEL, or add a route with BROADCASTER_ROUTES",
        ),
    ),
    Check(
        "local model",
        lambda seen: "installed" if seen.has_local_model else "not installed",
        warn(
            lambda seen: not seen.has_local_model and seen.default_provider == LOCAL,
            f"it is the default here: {INSTALL_LOCAL}; or set BROADCASTER_DEFAULT_MODEL",
        ),
        skip(lambda seen: not seen.has_local_model),
    ),
    Check(
        "open files",
        lambda seen: f"{seen.descriptors} allowed, {seen.descriptors_needed} for all viewers of a front-end",
        warn(
            lambda seen: 0 <= seen.descriptors < seen.descriptors_needed,
            "raise `ulimit -n` (systemd: LimitNOFILE) where front-ends start, or lower BROADCASTER_MAX_VIEWERS",
        ),
    ),
    Check(
        "embedded server",
        lambda seen: seen.server or seen.server_fault or "",
        skip(lambda seen: seen.server is None and seen.has_redis),
        fail(
            lambda seen: seen.server is None,
            "do one of the two: `broadcaster up` cannot start without it",
        ),
    ),
)
