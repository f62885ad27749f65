"""Settings that contradict one another: each is valid alone, together they break a guarantee."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

from broadcaster.core.providers.model_routing import ModelRoutes
from broadcaster.core.status import META_OUTLIVES_LOG_MS
from broadcaster.errors import SetupError, UnknownModel

if TYPE_CHECKING:
    from broadcaster.settings import Settings

_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})
_META_OUTLIVES_LOG_S: Final = META_OUTLIVES_LOG_MS // 1000
# Our client treats a connection as lost after so long without data; proxies do after 60 s.
_CLIENT_IDLE_S: Final = 45


class Contradiction(NamedTuple):
    """Settings that contradict one another; ``message`` names the variables and the broken guarantee."""

    is_broken: Callable[[Settings], bool]
    message: str


def _has_unrouted_default(settings: Settings) -> bool:
    try:
        ModelRoutes(settings.routes).provider_for(settings.default_model)
    except SetupError:
        return False  # reported separately
    except UnknownModel:
        return True
    return False


CONTRADICTIONS: Final = (
    Contradiction(
        lambda it: it.auth == "off" and it.host not in _LOOPBACK,
        "BROADCASTER_HOST: without keys only a loopback HOST may be used: 127.0.0.1, ::1 or localhost; "
        "for another set BROADCASTER_AUTH=keys and give callers keys (docs/http.md)",
    ),
    Contradiction(
        lambda it: bool(it.metrics_port) and it.metrics_port == it.port and it.metrics_host == it.host,
        "BROADCASTER_METRICS_PORT must differ from BROADCASTER_PORT: metrics have a port of their own",
    ),
    Contradiction(
        lambda it: it.auth == "off" and it.api_keys is not None,
        "BROADCASTER_API_KEYS needs BROADCASTER_AUTH=keys: otherwise no key is required",
    ),
    Contradiction(
        lambda it: it.auth == "off" and it.api_keys_file is not None,
        "BROADCASTER_API_KEYS_FILE needs BROADCASTER_AUTH=keys: otherwise no key is required",
    ),
    Contradiction(
        lambda it: it.auth == "off" and (it.token_keys is not None or it.token_issuers is not None),
        "BROADCASTER_TOKEN_KEYS and BROADCASTER_TOKEN_ISSUERS need BROADCASTER_AUTH=keys: "
        "otherwise no token is required",
    ),
    Contradiction(
        lambda it: it.token_ttl_s > it.token_max_s,
        "BROADCASTER_TOKEN_TTL_S must not exceed BROADCASTER_TOKEN_MAX_S: no front-end would accept such a token",
    ),
    Contradiction(
        lambda it: it.room_bytes > it.hub_bytes, "BROADCASTER_ROOM_BYTES must not exceed BROADCASTER_HUB_BYTES"
    ),
    Contradiction(
        lambda it: it.max_bytes > it.buffer_bytes,
        "BROADCASTER_MAX_BYTES must not exceed BROADCASTER_BUFFER_BYTES: "
        "a worker reserves one stream's bytes before it claims",
    ),
    Contradiction(
        lambda it: it.stall_timeout_s <= it.lease_ttl_s,
        "BROADCASTER_STALL_TIMEOUT_S must exceed BROADCASTER_LEASE_TTL_S: "
        "else a generation is ended before another worker may take it over",
    ),
    Contradiction(
        lambda it: it.attempt_backoff_s >= it.generation_timeout_s,
        "BROADCASTER_ATTEMPT_BACKOFF_S must be below BROADCASTER_GENERATION_TIMEOUT_S: "
        "else a generation is over before its third attempt",
    ),
    Contradiction(
        lambda it: it.live_ttl_s <= it.stall_timeout_s + it.lease_ttl_s,
        "BROADCASTER_LIVE_TTL_S must exceed BROADCASTER_STALL_TIMEOUT_S + BROADCASTER_LEASE_TTL_S: "
        "else the log of a lost worker expires before its end can be written",
    ),
    Contradiction(
        lambda it: it.queue_timeout_s >= it.live_ttl_s + _META_OUTLIVES_LOG_S,
        f"BROADCASTER_QUEUE_TIMEOUT_S must be below BROADCASTER_LIVE_TTL_S + {_META_OUTLIVES_LOG_S}: "
        "else a generation that waits is forgotten before it is ended",
    ),
    Contradiction(
        lambda it: it.resend_keep_s >= _META_OUTLIVES_LOG_S,
        f"BROADCASTER_RESEND_KEEP_S must be below {_META_OUTLIVES_LOG_S}: else a worker brings back what was deleted",
    ),
    Contradiction(
        lambda it: it.heartbeat_s >= _CLIENT_IDLE_S,
        f"BROADCASTER_HEARTBEAT_S must be below {_CLIENT_IDLE_S}: clients take a quiet connection for lost",
    ),
    Contradiction(
        lambda it: it.abandon_grace_s < 3 * it.retry_ms / 1000,
        "BROADCASTER_ABANDON_GRACE_S must not be below three times BROADCASTER_RETRY_MS: "
        "else a viewer that is reconnecting is taken for gone",
    ),
    Contradiction(
        _has_unrouted_default,
        "BROADCASTER_DEFAULT_MODEL has no route in BROADCASTER_ROUTES: "
        "a request that names no model could not be served",
    ),
)


def check_worker(settings: Settings) -> None:
    """For processes that are workers, or start some. Raises SetupError.

    A front-end admits webhooks by their hosts alone and need not know the secret, and it holds no lease.
    """
    if settings.redis_timeout_s > settings.lease_ttl_s / 2:
        raise SetupError(
            "BROADCASTER_REDIS_TIMEOUT_S must not exceed half of BROADCASTER_LEASE_TTL_S: "
            "else a worker cannot repeat a call that hangs before its lease is over"
        )
    if settings.webhook_hosts and settings.webhook_secret is None:
        raise SetupError(
            "BROADCASTER_WEBHOOK_HOSTS needs a BROADCASTER_WEBHOOK_SECRET: receivers must be able to verify the sender"
        )
