"""Settings: ``BROADCASTER_*`` environment variables, read only by the composition roots (CLI, app, worker main).

Below the roots everything takes plain arguments. A setting's description is its documentation: ``broadcaster doctor``
and the README's table are printed from here.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


class Settings(BaseSettings):
    """Everything that can be set, with the unit in the name: ``_s`` seconds, ``_bytes`` bytes, ``_ms`` milliseconds."""

    model_config = SettingsConfigDict(env_prefix="BROADCASTER_", frozen=True, extra="ignore")

    # -- the log
    redis_url: str | None = Field(None, description="redis://, rediss:// or unix:// URL; none: an embedded server")
    key_prefix: str = Field("bc", pattern=r"^[A-Za-z0-9_.:-]{1,32}$", description="first part of every Redis key")
    data_dir: str = Field(".broadcaster", description="where the embedded server keeps its data and socket")
    redis_server: str | None = Field(None, description="program of the embedded server; none: the wheel's, or on PATH")
    redis_timeout_s: float = Field(5.0, gt=0, description="longest wait for one answer of Redis")
    redis_connections: int = Field(32, ge=1, description="most connections of one process to Redis")
    live_ttl_s: float = Field(3600, gt=0, description="how long an open log outlives its last renewal")
    retention_s: float = Field(3600, gt=0, description="how long a log is kept after its end")
    max_events: int = Field(50_000, ge=2, description="most entries of one stream")
    max_bytes: int = Field(8 * 2**20, ge=4096, description="most event bytes of one stream")
    push_max_bytes: int = Field(64 * 2**10, ge=0, description="a larger batch is pushed as a poke without its events")

    # -- the queue and the lease
    max_queue: int = Field(10_000, ge=1, description="most generations waiting; beyond it 503 queue_full")
    queue_timeout_s: float = Field(300, gt=0, description="a generation waiting longer ends with error queue_timeout")
    lease_ttl_s: float = Field(5.0, gt=0, description="a worker not heard of for this long may be taken over")
    stall_timeout_s: float = Field(60, gt=0, description="no live worker for this long: open generations end")
    max_attempts: int = Field(3, ge=1, description="most attempts of one generation")
    idempotency_ttl_s: float = Field(86_400, gt=0, description="how long an Idempotency-Key is remembered")

    # -- the worker
    concurrency: int = Field(100, ge=1, description="most generations one worker runs at once")
    buffer_bytes: int = Field(1024 * 2**20, ge=2**20, description="memory a worker may reserve for re-send buffers")
    resend_keep_s: float = Field(30, ge=0, description="how long a re-send buffer outlives its acknowledged end")
    provider_timeout_s: float = Field(60, gt=0, description="longest silence of a provider before its answer is failed")
    generation_timeout_s: float = Field(1800, gt=0, description="total deadline of one attempt")
    drain_s: float = Field(20, ge=0, description="how long a worker that ends lets its generations finish")

    # -- models
    default_model: str = Field("local", description="the model of a request that names none")
    routes: dict[str, str] = Field(
        {"claude*": "anthropic", "local": "local"}, description="model pattern → provider; first match wins (JSON)"
    )
    default_max_tokens: int = Field(1024, ge=1, description="max_tokens of a request that names none")
    local_model_preload: bool = Field(False, description="load the local model when the worker starts")

    # -- the front-end
    host: str = Field("127.0.0.1", description="address to listen on; loopback only while AUTH is off")
    port: int = Field(8000, ge=0, le=65_535, description="port to listen on; 0 picks a free one")
    auth: Literal["off"] = Field("off", description="who may call; off: everybody on this machine")
    max_viewers: int = Field(10_000, ge=1, description="most viewers of one front-end")
    hub_bytes: int = Field(256 * 2**20, ge=2**20, description="memory all rooms of a front-end may hold")
    room_bytes: int = Field(16 * 2**20, ge=2**16, description="memory one room may hold; older entries are re-read")
    heartbeat_s: float = Field(15, gt=0, description="a comment goes to a viewer that had nothing for this long")
    slow_viewer_s: float = Field(30, gt=0, description="a viewer whose socket takes nothing for this long is cut")
    drain_window_s: float = Field(
        1.0, ge=0, description="a front-end that ends sends its viewers away spread over this"
    )
    retry_ms: int = Field(1000, ge=100, description="shortest reconnect delay told to viewers; jitter doubles it")
    max_body_bytes: int = Field(4 * 2**20, ge=1024, description="largest request body")
    long_poll_timeout_s: float = Field(60, gt=0, description="longest ?wait_s=")
    delete_timeout_s: float = Field(10, gt=0, description="longest wait of a deletion for the generation's end")
    presence_ttl_s: float = Field(15, gt=0, description="a front-end's viewers count for this long after its last word")

    # -- the CLI and the rest
    url: str = Field("http://127.0.0.1:8000", description="the front-end the CLI speaks to")
    api_key: str | None = Field(None, description="the key the CLI sends")
    workers: int = Field(1, ge=0, description="workers that `up` starts")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="least level that is logged")

    @field_validator("redis_url")
    @classmethod
    def _scheme_is_served(cls, value: str | None) -> str | None:
        if value and not value.startswith(("redis://", "rediss://", "unix://")):
            raise ValueError("REDIS_URL must begin with redis://, rediss:// or unix://")
        return value or None

    @model_validator(mode="after")
    def _bounds_agree(self) -> Settings:
        if self.auth == "off" and self.host not in _LOOPBACK:
            raise ValueError("without keys only a loopback HOST may be used: 127.0.0.1, ::1 or localhost")
        if self.room_bytes > self.hub_bytes:
            raise ValueError("ROOM_BYTES must not exceed HUB_BYTES")
        if self.max_bytes > self.buffer_bytes:
            raise ValueError(
                "MAX_BYTES must not exceed BUFFER_BYTES: a worker reserves one stream's bytes before it claims"
            )
        return self
