"""Settings: ``BROADCASTER_*`` environment variables, read only by the composition roots (CLI, app, worker main).

Below the roots everything takes plain arguments. A setting's description is its documentation: ``broadcaster doctor``
and docs/settings.md are printed from here.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Any, Final, Literal

from pydantic import Field, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from broadcaster.core.providers.model_routing import BUILT_IN, ModelRoutes
from broadcaster.core.requests.options import check_options
from broadcaster.errors import SetupError
from broadcaster.process.child_environment import METRICS_FOLDER_VARIABLE
from broadcaster.process.lifeline import PARENT_VARIABLE
from broadcaster.settings.contradictions import CONTRADICTIONS
from broadcaster.settings.limits import LimitSettings
from broadcaster.settings.observing import ObservingSettings
from broadcaster.settings.options import SettingOptions
from broadcaster.settings.tokens import TokenSettings
from broadcaster.settings.values import (
    ApiKeys,
    CallersKey,
    Hosts,
    KeysOfProviders,
    Origins,
    Providers,
    RedisUrl,
    WebhookSecret,
)

PREFIX: Final = "BROADCASTER_"

# The fixtures set it while a test runs (in_tests.py).
TEST_VARIABLE: Final = "BROADCASTER_IN_TEST"
# What a parent sets for its children.
_OF_PARENTS: Final = frozenset({PARENT_VARIABLE, METRICS_FOLDER_VARIABLE, TEST_VARIABLE})

# Redis refuses a longer lifetime.
_LONGEST_S: Final = 10 * 365 * 86_400


class Settings(TokenSettings, LimitSettings, ObservingSettings):
    """Everything that can be set, with the unit in the name: ``_s`` seconds, ``_bytes`` bytes, ``_ms`` milliseconds."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="ignore", allow_inf_nan=False, defer_build=False
    )

    # -- the log
    redis_url: RedisUrl = Field(
        None,
        description="URL of one server (redis://, rediss://, unix://), of Sentinels (redis+sentinel://h1,h2/service) "
        "or of a cluster (redis+cluster://h1,h2); unset: an embedded server",
    )
    key_prefix: str = Field("bc", pattern=r"^[A-Za-z0-9_.:-]{1,32}$", description="first part of every Redis key")
    data_dir: str = Field(
        ".broadcaster", min_length=1, description="where the embedded server keeps its data and socket"
    )
    redis_server: str | None = Field(None, description="program of the embedded server; unset: the wheel's, or on PATH")
    redis_timeout_s: float = Field(
        2.0, gt=0, description="longest wait for one answer of Redis; of a worker at most half of LEASE_TTL_S"
    )
    redis_connections: int = Field(32, ge=1, description="most connections of one process to one Redis server")
    live_ttl_s: float = Field(3600, gt=0, description="how long an open log outlives its last renewal")
    retention_s: float = Field(3600, gt=0, description="how long a log is kept after its end")
    max_events: int = Field(
        50_000,
        ge=2,
        description="most entries of one stream; the last attempt of a generation counts, and all its attempts "
        "together may have four times as many",
    )
    max_bytes: int = Field(
        8 * 2**20,
        ge=4096,
        description="most event bytes of one stream; the last attempt of a generation counts, and all its attempts "
        "together may have four times as many",
    )
    max_event_bytes: int = Field(2**20, ge=1024, description="most bytes of one event that a publisher appends")
    feed_append_rate: float = Field(200, gt=0, description="most appends a second to one feed, over all its writers")
    push_max_bytes: int = Field(
        64 * 2**10, ge=0, le=8 * 2**20, description="a larger batch is pushed as a poke without its events"
    )

    # -- the queue and the lease
    max_queue: int = Field(10_000, ge=1, description="most generations waiting; beyond it 503 queue_full")
    queue_timeout_s: float = Field(300, gt=0, description="a generation waiting longer ends with error queue_timeout")
    lease_ttl_s: float = Field(5.0, ge=0.5, description="a worker silent for this long may be taken over")
    stall_timeout_s: float = Field(60, gt=0, description="no live worker for this long: open generations end")
    max_attempts: int = Field(3, ge=1, description="most attempts of one generation")
    attempt_backoff_s: float = Field(
        2.0,
        ge=0,
        le=60,
        description="wait before the third attempt, doubled from there, at most 60 s, jittered down to half; 0: none",
    )
    idempotency_ttl_s: float = Field(86_400, gt=0, description="how long an Idempotency-Key is remembered")

    # -- the worker
    concurrency: int = Field(100, ge=1, description="most generations one worker runs at once")
    buffer_bytes: int = Field(1024 * 2**20, ge=2**20, description="memory a worker may reserve for re-send buffers")
    resend_keep_s: float = Field(30, ge=0, description="how long a re-send buffer outlives its acknowledged end")
    provider_timeout_s: float = Field(60, gt=0, description="longest silence of a provider before its answer fails")
    provider_retries: int = Field(
        2, ge=0, le=10, description="tries of one target after its first, before the answer's first content"
    )
    provider_retry_cap_s: float = Field(
        20, gt=0, le=600, description="longest pause before a retry; a provider that requests more is skipped"
    )
    provider_cooldown_s: float = Field(
        10, gt=0, le=900, description="how long a rate-limited key rests, unless the provider sends a time"
    )
    generation_timeout_s: float = Field(
        1800, gt=0, description="total deadline of a generation over all its attempts, from its first start"
    )
    drain_s: float = Field(
        20, ge=0, description="how long a worker that ends waits for its generations to finish; of `up`: always 0"
    )

    tools: str | None = Field(
        None,
        description="the worker's tools: `package.module:box`, a `worker.tools.ToolBox` (docs/tools.md); unset: none",
    )
    max_steps: int = Field(20, ge=1, le=1000, description="most provider calls of one generation that uses tools")
    tool_timeout_s: float = Field(60, gt=0, description="longest run of a tool that names no timeout of its own")
    tool_concurrency: int = Field(100, ge=1, description="most tool calls that one worker runs at once")

    # -- webhooks: front-ends admit them, workers deliver them; set these for both
    webhook_hosts: Hosts = Field(
        (),
        description="where webhooks may go: `hooks.example.com`, `*.example.com`, `*`, each with `:PORT` or `:*` for "
        "others than 443, and 80 for http (commas or JSON); unset: off",
    )
    webhook_secret: WebhookSecret = Field(
        None,
        description="signs webhooks, workers alone need it: `whsec_` and base64, or ≥ 24 characters; several, parted "
        "by spaces, rotate",
    )
    webhook_timeout_s: float = Field(10, gt=0, description="longest wait for a receiver, in all, at one attempt")
    webhook_max_attempts: int = Field(8, ge=1, le=50, description="most attempts to deliver one webhook")
    webhook_concurrency: int = Field(16, ge=1, description="most webhooks one worker delivers at once")
    webhook_max_bytes: int = Field(
        2**20, ge=4096, description="a larger webhook goes without the answer's text and parts"
    )
    max_webhooks: int = Field(10_000, ge=1, description="most webhooks that wait for delivery; beyond it 503 busy")

    # -- models
    default_model: str = Field("local", description="the model of a request that names none")
    routes: dict[str, str | list[str]] = Field(
        {
            "claude*": "anthropic",
            "gpt-*": "openai",
            "chatgpt-*": "openai",
            "re:o\\d.*": "openai",
            "re:(text-embedding|davinci|babbage)-.*": "openai",
            "local": "local",
        },
        min_length=1,
        description="model pattern → target (`provider`, `provider/model` or `provider/*`, docs/providers.md) or a "
        "list of them, tried in order; first match wins (JSON)",
    )
    providers: Providers = Field(
        {},
        description="more providers: name → wire, base_url, api_key_env or api_key_envs, reasoning_field (JSON); "
        "routes lead to them",
    )
    api_key_envs: KeysOfProviders = Field(
        {}, description="several keys: `anthropic`, `openai` or `openai-responses` → names of variables (JSON)"
    )
    default_max_tokens: int | None = Field(
        None, ge=1, description="max_tokens of a request that names none; unset: as long as the model makes it"
    )
    fallback_max_tokens: int = Field(
        8192,
        ge=1,
        description="max_tokens that a worker sends with the wire `anthropic` when neither the request nor the "
        "provider's list of models names a limit",
    )
    local_model_preload: bool = Field(
        False, description="load the local model when the worker starts; of `up`: whether it is the default model"
    )

    # -- the front-end
    host: str = Field("127.0.0.1", min_length=1, description="address to listen on; loopback only while AUTH is off")
    port: int = Field(8000, ge=0, le=65_535, description="port to listen on; 0 picks a free one")
    auth: Literal["off", "keys"] = Field(
        "off",
        description="which callers are admitted; off: every caller on this machine; keys: callers with a key of "
        "API_KEYS, of API_KEYS_FILE or of Redis (`broadcaster key add`)",
    )
    api_keys: ApiKeys = Field(
        None,
        description='the keys of callers, with AUTH=keys: `{"tenant": ["key", …]}`, a key ≥ 16 characters; with rights '
        "or as digests: docs/http.md (JSON)",
    )
    api_keys_file: str | None = Field(
        None,
        min_length=1,
        description="a JSON file of the same form with digests alone, which others cannot write; it is read again when "
        "it has changed",
    )
    cors_origins: Origins = Field(
        (),
        description="pages of other origins that may call from a browser: `https://app.example.com`, "
        "`http://localhost:3000` (commas or JSON; docs/browsers.md); unset: off",
    )
    durable_streams: bool = Field(
        True, description="whether Durable Streams are served under /ds/ (docs/durable-streams.md)"
    )
    processes: int = Field(
        1,
        ge=0,
        le=256,
        description="front-ends, a process each, that `serve` and `up` run on one port; 0: one a core",
    )
    max_viewers: int = Field(10_000, ge=1, description="most viewers of one front-end (one process)")
    hub_bytes: int = Field(
        256 * 2**20,
        ge=2**20,
        description="memory all rooms of a front-end (one process) may hold, with what its viewers have not read yet",
    )
    room_bytes: int = Field(16 * 2**20, ge=2**16, description="memory one room may hold; older entries are re-read")
    heartbeat_s: float = Field(15, gt=0, description="a viewer that received nothing for this long gets a comment")
    slow_viewer_s: float = Field(30, gt=0, description="a viewer whose socket takes nothing for this long is cut")
    drain_window_s: float = Field(
        1.0,
        ge=0,
        description="a front-end that ends disconnects its viewers spread over this time; of `up`: always 0.2",
    )
    retry_ms: int = Field(1000, ge=100, description="shortest reconnect delay of viewers; jitter doubles it")
    head_wait_s: float = Field(
        10,
        ge=0,
        le=10,
        description="how long the head of a stream in the API of an SDK waits for the first content, so that a request "
        "that the provider refuses gets the provider's status; then the head is sent as 200; 0: at once",
    )
    long_poll_timeout_s: float = Field(60, gt=0, description="longest ?wait_s=")
    delete_timeout_s: float = Field(10, gt=0, description="longest wait of a deletion for the generation's end")
    presence_ttl_s: float = Field(
        180,
        gt=0,
        description="a front-end that has reported nothing for this long is gone, and its viewers with it; longer than "
        "its event loop may ever block; set it for workers too",
    )
    abandon_grace_s: float = Field(
        30, ge=2, description="on_abandon cancel: zero viewers for this long end it; set it for workers too"
    )

    disconnect_grace_s: float = Field(
        5,
        ge=0,
        description="a client of chat or Messages left: its answer is stopped after this, ABANDON_GRACE_S at most",
    )

    # -- the CLI and the rest
    url: str = Field("http://127.0.0.1:8000", description="the front-end that the CLI calls")
    api_key: CallersKey = Field(None, description="the key the CLI sends")
    workers: int = Field(1, ge=0, description="workers that `up` starts")

    metrics_port: int | None = Field(
        None,
        ge=0,
        le=65_535,
        description="port of /metrics for Prometheus (docs/operations.md), of a front-end, a worker, or all processes "
        "of `serve` or `up` in one; 0 picks a free one; unset: off",
    )
    metrics_host: str = Field(
        "127.0.0.1", min_length=1, description="address of /metrics, which needs no key: loopback or a private network"
    )
    metrics_connections: int = Field(16, ge=1, description="most connections to /metrics at once; HEAD_TIMEOUT_S each")

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource, *_: PydanticBaseSettingsSource, **__: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:  # fmt: skip
        """What is given replaces its variable: pydantic would merge two objects, the variable's patterns first."""
        given = init_settings()
        variables = {name: value for name, value in env_settings().items() if name not in given}
        return init_settings, InitSettingsSource(settings_cls, variables)

    @property
    def presence_every_s(self) -> float:
        """How often a front-end reports its viewers: those that Redis lost are repeated before a grace period ends."""
        return min(self.presence_ttl_s, self.abandon_grace_s) / 3

    @property
    def key_variables(self) -> dict[str, tuple[str, ...]]:
        """The variables of each provider's keys, if the settings name them. The two wires of OpenAI share theirs."""
        shared = self.api_key_envs.get("openai")
        found = {} if shared is None else {"openai-responses": shared}
        own = {name: spec.key_variables for name, spec in self.providers.items()}
        return {**found, **self.api_key_envs, **{name: each for name, each in own.items() if each}}

    @model_validator(mode="after")
    def _bounds_agree(self) -> Settings:
        faults = [rule.message for rule in CONTRADICTIONS if rule.is_broken(self)]
        faults += [
            f"{PREFIX}{name.upper()} must not exceed {_LONGEST_S} seconds (ten years)"
            for name, value in self
            if isinstance(value, float) and value > _LONGEST_S
        ]
        try:
            ModelRoutes(self.routes).check((*BUILT_IN, *self.providers))
        except SetupError as error:
            faults.append(f"{PREFIX}ROUTES: {error.detail}")
        if faults:
            raise ValueError("; ".join(faults))
        return self


def describe_error(error: ValidationError | SettingsError) -> str:
    """The errors of the settings, in one line that names the variables and no value."""
    if isinstance(error, SettingsError):
        field = re.search(r'"(\w+)"', str(error))
        return f"{PREFIX}{field[1].upper() if field else '…'}: it must be JSON"
    faults = []
    for fault in error.errors(include_url=False, include_context=False, include_input=False):
        name, *path = (*map(str, fault["loc"]), "")
        where = ".".join((f"{PREFIX}{name.upper()}", *path[:-1]))
        faults.append((f"{where}: " if name else "") + fault["msg"].removeprefix("Value error, "))
    return "; ".join(faults)


def read_settings(redis_url: str, given: Mapping[str, Any]) -> Settings:
    """The settings of the environment; ``given`` takes precedence.

    Raises TypeError for a name that is no setting, SetupError for a value that a setting cannot have.
    """
    check_options("from_url", given, SettingOptions, named=("tenant", "timeout_s"))
    try:
        return Settings(redis_url=redis_url, **given)
    except (ValidationError, SettingsError) as error:
        raise SetupError(describe_error(error)) from None


def unknown_variables(environment: Mapping[str, str]) -> list[tuple[str, str | None]]:
    """Variables that look like settings but are not, each with the most similar setting."""
    known = [name.upper() for name in Settings.model_fields]
    given = sorted(name for name in environment if name.upper().startswith(PREFIX))
    found: list[tuple[str, str | None]] = []
    for name in given:
        meant = name.upper().removeprefix(PREFIX)
        if meant not in known and name not in _OF_PARENTS:
            nearest = difflib.get_close_matches(meant, known, n=1)
            found.append((name, f"{PREFIX}{nearest[0]}" if nearest else None))
    return found
