"""The settings as keywords of ``from_url``. Printed by ``python -m tests.guards.test_options``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict


class PublisherSettingOptions(TypedDict, total=False):
    """The settings that ``sync.Publisher.from_url`` takes by keyword; docs/settings.md describes them."""

    log_level: Literal["debug", "info", "warning", "error"]
    log_format: Literal["json", "console"] | None
    log_refusals_per_s: int
    traces: Literal["off", "otlp"]
    trace_providers: Literal["own", "all", "none"]
    max_body_bytes: int
    max_body_values: int
    unknown_parameters: Literal["refuse", "drop"]
    max_metadata_bytes: int
    count_wait_s: float
    max_json_bytes: int
    max_connections: int | None
    connection_lifetime_s: float
    head_timeout_s: float
    body_timeout_s: float
    body_min_bytes_per_s: int
    tenant_queued: int | None
    budget_tokens_per_day: int | None
    priority_head_start_s: float
    tenant_running: int | None
    tenant_slot_share: float
    tenant_viewers: int | None
    credential_viewers: int | None
    address_viewers: int | None
    trusted_proxies: int
    tenant_long_polls: int | None
    tenant_feeds: int
    tenant_webhooks: int | None
    tenant_stored_bytes: int | None
    tenant_requests_per_s: float | None
    tenant_appends_per_s: float | None
    tenant_json_bytes: int | None
    provider_error_bytes: int
    provider_error_timeout_s: float
    model_list_s: float
    worker_memory_bytes: int | None
    embedded_max_memory_bytes: int | None
    token_keys: str | None
    token_issuers: str | None
    token_ttl_s: float
    token_max_s: float
    token_notice_s: float
    key_prefix: str
    data_dir: str
    redis_server: str | None
    redis_timeout_s: float
    redis_connections: int
    live_ttl_s: float
    retention_s: float
    max_events: int
    max_bytes: int
    max_event_bytes: int
    feed_append_rate: float
    push_max_bytes: int
    max_queue: int
    queue_timeout_s: float
    lease_ttl_s: float
    stall_timeout_s: float
    max_attempts: int
    attempt_backoff_s: float
    idempotency_ttl_s: float
    concurrency: int
    resend_keep_s: float
    provider_timeout_s: float
    provider_retries: int
    provider_retry_cap_s: float
    provider_cooldown_s: float
    generation_timeout_s: float
    drain_s: float
    tools: str | None
    max_steps: int
    tool_timeout_s: float
    tool_concurrency: int
    webhook_hosts: Sequence[str]
    webhook_secret: str | None
    webhook_timeout_s: float
    webhook_max_attempts: int
    webhook_concurrency: int
    webhook_max_bytes: int
    max_webhooks: int
    default_model: str
    routes: Mapping[str, str | Sequence[str]]
    providers: Mapping[str, Mapping[str, Any]]
    api_key_envs: Mapping[str, Sequence[str]]
    default_max_tokens: int | None
    fallback_max_tokens: int
    local_model_preload: bool
    host: str
    port: int
    auth: Literal["off", "keys"]
    api_keys: str | None
    api_keys_file: str | None
    cors_origins: Sequence[str]
    durable_streams: bool
    processes: int
    max_viewers: int
    hub_bytes: int
    room_bytes: int
    heartbeat_s: float
    slow_viewer_s: float
    drain_window_s: float
    retry_ms: int
    head_wait_s: float
    long_poll_timeout_s: float
    delete_timeout_s: float
    presence_ttl_s: float
    abandon_grace_s: float
    disconnect_grace_s: float
    api_key: str | None
    workers: int
    metrics_port: int | None
    metrics_host: str
    metrics_connections: int


class SettingOptions(PublisherSettingOptions, total=False):
    """The settings that ``from_url`` takes by keyword; docs/settings.md describes them."""

    buffer_bytes: int
