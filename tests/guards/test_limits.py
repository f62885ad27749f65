"""Every limit in the settings has a place that counts it, and every other setting is known to be none."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from broadcaster.observability.limits import LIMITS
from broadcaster.settings import Settings
from tests.guards.source import Module, modules

# Settings that refuse, cut or delay nothing by themselves. A new setting goes here, or into `LimitName`.
NO_LIMITS = {
    "what is where, and what is on": """
        REDIS_URL KEY_PREFIX DATA_DIR REDIS_SERVER TOOLS WEBHOOK_HOSTS WEBHOOK_SECRET DEFAULT_MODEL ROUTES PROVIDERS
        API_KEY_ENVS LOCAL_MODEL_PRELOAD HOST PORT AUTH API_KEYS API_KEYS_FILE CORS_ORIGINS PROCESSES URL API_KEY
        TOKEN_KEYS TOKEN_ISSUERS TRUSTED_PROXIES WORKERS LOG_LEVEL LOG_FORMAT TRACES METRICS_PORT METRICS_HOST
        UNKNOWN_PARAMETERS TRACE_PROVIDERS DURABLE_STREAMS
    """,
    "how long something is kept": "LIVE_TTL_S RETENTION_S IDEMPOTENCY_TTL_S RESEND_KEEP_S",
    "how often, or how soon, something happens": """
        TOKEN_TTL_S TOKEN_NOTICE_S HEARTBEAT_S RETRY_MS MODEL_LIST_S ATTEMPT_BACKOFF_S PROVIDER_COOLDOWN_S
        PRIORITY_HEAD_START_S
    """,
    "what the caller chose (on_abandon), and when it is known": "ABANDON_GRACE_S DISCONNECT_GRACE_S PRESENCE_TTL_S",
    "what a worker requests of the provider": "DEFAULT_MAX_TOKENS FALLBACK_MAX_TOKENS",
}
COUNTING = {"limit_reached", "counting_refusals"}


def places(module: Module) -> Iterator[str]:
    """The limits that a module counts: texts in calls that count, and those of tables and arguments that lead there."""
    if not COUNTING & {node.id for node in ast.walk(module.tree) if isinstance(node, ast.Name)}:
        return
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Constant) and node.value in LIMITS:
            yield node.value


def test_every_limit_is_counted_where_it_acts() -> None:
    sources = [each for each in modules("broadcaster", "worker") if not each.path.endswith("observability/limits.py")]
    counted = {limit for module in sources for limit in places(module)}
    assert not set(LIMITS) - counted


def test_every_setting_is_a_limit_or_known_to_be_none() -> None:
    others = {name for names in NO_LIMITS.values() for name in names.split()}
    settings = {name.upper() for name in Settings.model_fields}
    remedy = "add it to LimitName (observability/limits.py) and count it where it acts, or to NO_LIMITS here"
    assert others | set(LIMITS) == settings, remedy
    assert not others & set(LIMITS)
