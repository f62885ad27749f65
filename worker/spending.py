"""What an attempt has spent, counted for its tenant and credential."""

from __future__ import annotations

from broadcaster.core.events import Usage
from broadcaster.errors import LogUnavailable
from broadcaster.log.access.daily_usage import DailyUsage, Spender
from broadcaster.log.streams.reader import Meta
from broadcaster.observability.logs import get_logger

_log = get_logger(__name__)


async def count_spent(counted: DailyUsage | None, meta: Meta, usage: Usage | None) -> None:
    """Count it. While Redis is away it is not counted, and that is logged."""
    if counted is None:
        return
    try:
        await counted.add(Spender(meta.tenant, meta.credential, meta.model), usage)
    except LogUnavailable:
        _log.warning("usage_not_counted", stream=meta.id)
    except Exception:  # a user of Redis that may not count, for one
        _log.exception("usage_not_counted", stream=meta.id)
