"""Settings that bound what one client, one tenant or one provider may take from the others.

A ``tenant_…`` bound whose default is None is a share of what all tenants have together: nine tenths, so that the last
tenth stays free for others. The derived share does not apply to the tenant of a server without keys (``local``), which
is alone. A bound that is set applies to every tenant.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class LimitSettings(BaseSettings):
    """A part of ``Settings``, with the unit in the name: ``_s`` seconds, ``_bytes`` bytes."""

    model_config = SettingsConfigDict(defer_build=True)  # ``Settings`` validates it

    # -- requests
    max_body_bytes: int = Field(
        4 * 2**20,
        ge=1024,
        le=256 * 2**20,
        description="largest request body; a request is stored in at most 8 times as many bytes and 64 KiB",
    )
    max_body_values: int = Field(
        100_000,
        ge=1000,
        le=10_000_000,
        description="most JSON values (objects, arrays, members, texts, numbers) in one request body; beyond it 413 "
        "too_many_values",
    )
    unknown_parameters: Literal["refuse", "drop"] = Field(
        "refuse",
        description="refuse: a request to the API of an SDK with a field that is not known here is answered with 400; "
        "drop: the field is left out. Servers of your own receive such fields",
    )
    max_metadata_bytes: int = Field(
        16 * 2**10, ge=2, le=2**20, description="largest `metadata` of a generation or a feed, as JSON"
    )
    count_wait_s: float = Field(
        5,
        gt=0,
        le=60,
        description="how long a count of tokens waits for a worker that sends it to the model's provider; then the "
        "client receives an overloaded error",
    )
    max_json_bytes: int = Field(
        256 * 2**20,
        ge=2**20,
        description="bytes that one front-end may hold of request bodies that are not answered yet, and of JSON "
        "responses that their clients have not read; beyond it 503 busy",
    )

    # -- connections
    max_connections: int | None = Field(
        None,
        ge=10,
        description="most client connections of one front-end; further ones are refused with 503; unset: the process's "
        "limit of descriptors, less 100",
    )
    connection_lifetime_s: float = Field(
        0,
        ge=0,
        description="a native stream's connection is closed at two thirds to all of this age, and the client resumes; "
        "900 spreads viewers over front-ends that were added; 0: never",
    )
    head_timeout_s: float = Field(15, gt=0, description="a connection must have sent a request's head within this")
    body_timeout_s: float = Field(30, gt=0, description="longest silence within a request's body")
    body_min_bytes_per_s: int = Field(
        1024, ge=0, description="slowest rate of a request's body, averaged over BODY_TIMEOUT_S; 0: any"
    )

    # -- tenants
    tenant_queued: int | None = Field(
        None, ge=1, description="most waiting generations of one tenant; unset: nine tenths of MAX_QUEUE"
    )
    budget_tokens_per_day: int | None = Field(
        None,
        ge=0,
        description="tokens that one key may spend in a day (UTC), unless its record names tokens_per_day; then no new "
        "generation is created: 429 budget_spent; unset: any",
    )
    priority_head_start_s: float = Field(
        60,
        ge=1,
        le=3600,
        description="of the waiting generations of a tenant, one of high priority counts as if it had come so much "
        "earlier, and one of low priority as if it had come so much later",
    )
    tenant_running: int | None = Field(
        None, ge=1, description="most running generations of one tenant, over all workers; unset: any"
    )
    tenant_slot_share: float = Field(
        0.9, gt=0, le=1, description="share of a worker's slots that one tenant may hold while keys are in use"
    )
    tenant_viewers: int | None = Field(
        None, ge=1, description="most viewers of one tenant at one front-end; unset: nine tenths of MAX_VIEWERS"
    )
    credential_viewers: int | None = Field(
        None, ge=1, description="most viewers with one key or one token at one front-end; unset: any"
    )
    address_viewers: int | None = Field(
        None,
        ge=1,
        description="most viewers from one address at one front-end, IPv6 by /64; unset: any. Behind proxies set "
        "TRUSTED_PROXIES, or all clients have the proxy's address",
    )
    trusted_proxies: int = Field(
        0,
        ge=0,
        le=10,
        description="proxies before the front-end that write to x-forwarded-for: the client's address is so many from "
        "the right; 0: the header is ignored",
    )
    tenant_long_polls: int | None = Field(
        None,
        ge=1,
        description="most requests of one tenant that wait (`wait_s`, or for an answer that is not streamed) at one "
        "front-end; they count as viewers too; unset: nine tenths of MAX_VIEWERS",
    )
    tenant_feeds: int = Field(10_000, ge=1, description="most open feeds of one tenant")
    tenant_webhooks: int | None = Field(
        None,
        ge=1,
        description="most pending webhooks of one tenant, open feeds included; unset: nine tenths of MAX_WEBHOOKS",
    )
    tenant_stored_bytes: int | None = Field(
        None,
        ge=2**20,
        description="most bytes of events, requests and metadata that Redis keeps for one tenant; unset: half of the "
        "server's maxmemory",
    )
    tenant_requests_per_s: float | None = Field(
        None, gt=0, description="most requests a second of one tenant at one front-end; unset: any"
    )
    tenant_appends_per_s: float | None = Field(
        None, gt=0, description="most events a second that one tenant appends at one front-end; unset: any"
    )
    tenant_json_bytes: int | None = Field(
        None, ge=2**20, description="the share of one tenant in MAX_JSON_BYTES; unset: nine tenths of it"
    )

    # -- providers and this machine
    provider_error_bytes: int = Field(
        64 * 2**10, ge=1024, le=2**20, description="most bytes that a worker reads of a provider's error body"
    )
    provider_error_timeout_s: float = Field(5, gt=0, description="longest read of a provider's error body")
    model_list_s: float = Field(
        300,
        ge=0,
        description="how often a worker reads each provider's list of models for /v1/models; 0: never, and /v1/models "
        "lists the names and patterns of the routes; set it for front-ends too",
    )
    worker_memory_bytes: int | None = Field(
        None,
        ge=128 * 2**20,
        description="memory at which a worker fails the answer that grows most; unset: nine tenths of the container's "
        "limit, or of the machine's memory",
    )
    embedded_max_memory_bytes: int | None = Field(
        None,
        ge=64 * 2**20,
        description="maxmemory of the embedded server, with the policy noeviction; unset: 1 GiB, or a quarter of the "
        "container's limit or of the machine's memory if that is less",
    )
