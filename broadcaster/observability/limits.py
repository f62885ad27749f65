"""The limits that were reached: each place that refuses, cuts or delays something because of a setting counts it here.

One count for the process, as its log is one: limits are enforced in every room, by functions as well as by objects.
``LimitName`` lists the settings that are limits. tests/guards/test_limits.py proves that each has its place, and that
every other setting is known to be none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Literal, TypeAlias, get_args

LimitName: TypeAlias = Literal[
    "ADDRESS_VIEWERS",
    "BODY_MIN_BYTES_PER_S",
    "BODY_TIMEOUT_S",
    "BUDGET_TOKENS_PER_DAY",
    "BUFFER_BYTES",
    "CONCURRENCY",
    "CONNECTION_LIFETIME_S",
    "COUNT_WAIT_S",
    "CREDENTIAL_VIEWERS",
    "DELETE_TIMEOUT_S",
    "DRAIN_S",
    "DRAIN_WINDOW_S",
    "EMBEDDED_MAX_MEMORY_BYTES",
    "FEED_APPEND_RATE",
    "GENERATION_TIMEOUT_S",
    "HEAD_TIMEOUT_S",
    "HEAD_WAIT_S",
    "HUB_BYTES",
    "LEASE_TTL_S",
    "LOG_REFUSALS_PER_S",
    "LONG_POLL_TIMEOUT_S",
    "MAX_ATTEMPTS",
    "MAX_BODY_BYTES",
    "MAX_BODY_VALUES",
    "MAX_BYTES",
    "MAX_CONNECTIONS",
    "MAX_EVENTS",
    "MAX_EVENT_BYTES",
    "MAX_JSON_BYTES",
    "MAX_METADATA_BYTES",
    "MAX_QUEUE",
    "MAX_STEPS",
    "MAX_VIEWERS",
    "MAX_WEBHOOKS",
    "METRICS_CONNECTIONS",
    "PROVIDER_ERROR_BYTES",
    "PROVIDER_ERROR_TIMEOUT_S",
    "PROVIDER_RETRIES",
    "PROVIDER_RETRY_CAP_S",
    "PROVIDER_TIMEOUT_S",
    "PUSH_MAX_BYTES",
    "QUEUE_TIMEOUT_S",
    "REDIS_CONNECTIONS",
    "REDIS_TIMEOUT_S",
    "ROOM_BYTES",
    "SLOW_VIEWER_S",
    "STALL_TIMEOUT_S",
    "TENANT_APPENDS_PER_S",
    "TENANT_FEEDS",
    "TENANT_JSON_BYTES",
    "TENANT_LONG_POLLS",
    "TENANT_QUEUED",
    "TENANT_REQUESTS_PER_S",
    "TENANT_RUNNING",
    "TENANT_SLOT_SHARE",
    "TENANT_STORED_BYTES",
    "TENANT_VIEWERS",
    "TENANT_WEBHOOKS",
    "TOKEN_MAX_S",
    "TOOL_CONCURRENCY",
    "TOOL_TIMEOUT_S",
    "WEBHOOK_CONCURRENCY",
    "WEBHOOK_MAX_ATTEMPTS",
    "WEBHOOK_MAX_BYTES",
    "WEBHOOK_TIMEOUT_S",
    "WORKER_MEMORY_BYTES",
]

LIMITS: Final[tuple[LimitName, ...]] = get_args(LimitName)

REACHED: Final[Counter[str]] = Counter(dict.fromkeys(LIMITS, 0))
"""How often this process has reached each limit. A limit that was never reached counts 0, so that rates begin there."""


def limit_reached(limit: LimitName) -> None:
    """This limit has refused, cut or delayed something."""
    REACHED[limit] += 1


@contextmanager
def counting_refusals(limit: LimitName, refusal: type[Exception]) -> Iterator[None]:
    """For a rule that may not count by itself, because it is pure: this error means that the limit was reached."""
    try:
        yield
    except refusal:
        limit_reached(limit)
        raise
