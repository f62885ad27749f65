"""Where streams stand now: the newest id, the status and the lease of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, TypeVar

from redis.exceptions import RedisError, TryAgainError

from broadcaster.core.cursor import Cursor
from broadcaster.errors import LogUnavailable
from broadcaster.log.redis.connect import LogConnection, log_errors, reply_to
from broadcaster.log.redis.pipeline import raise_first
from broadcaster.log.redis.scripts import SCRIPTS, ScriptCall, run_all

_OPEN: Final = ("queued", "running")  # a generation's stored statuses until its end
_OPEN_FEED: Final = b"queued"  # a feed's stored status until its end (see feeds.py)
_NO_KEY: Final = -2  # PTTL
_FIELDS: Final = ("status", "kind", "lease_ms", "leased_ms", "tenant", "model", "since_epoch")
_T = TypeVar("_T")


class Tail(NamedTuple):
    """The end of a stream as the log has it now; ``status`` as it is stored.

    ``lease_ms`` is the lease of an open feed (None: it has none), ``lease_left_ms`` what is left of it.
    ``is_overlong``: more is left of its lease than that is long, because the clock has stepped back.
    ``since_epoch``: the entries of this creation of a feed have no older epoch; 0: not known.
    """

    last: Cursor | None
    status: str | None
    leased: bool
    now_ms: int
    is_feed: bool = False
    lease_ms: int | None = None
    lease_left_ms: int = 0
    is_overlong: bool = False
    tenant: str = ""
    model: str = ""
    since_epoch: int = 0

    @property
    def is_open(self) -> bool:
        """Whether it is a generation that waits or runs."""
        return self.status in _OPEN and not self.is_feed


async def read_tails(connection: LogConnection, stream_ids: Sequence[str]) -> list[Sequence[Any] | Exception]:
    """A reply for each stream, or its error, in one pipelined round trip.

    A script runs for each: it costs its caller a part of what the commands cost, and leaves the newest event, which may
    be large, in Redis. No script runs while the keys of its stream move to another server: those streams are read by
    commands of one key each, in a second round trip. Raises LogUnavailable when a single server does not answer.
    """
    keys = connection.keys
    calls = [
        ScriptCall(SCRIPTS["stream_tail"], [keys.log(each), keys.meta(each), keys.lease(each)], _FIELDS)
        for each in stream_ids
    ]
    with log_errors():
        replies = await run_all(connection.impatient, calls)
    moving = [at for at, reply in enumerate(replies) if isinstance(reply, TryAgainError)]
    if moving:
        read = await _read_by_commands(connection, [stream_ids[at] for at in moving])
        for at, reply in zip(moving, read, strict=True):
            replies[at] = reply
    return replies


async def _read_by_commands(connection: LogConnection, stream_ids: Sequence[str]) -> list[Sequence[Any] | Exception]:
    keys, pipeline = connection.keys, connection.pipeline()
    for stream_id in stream_ids:
        pipeline.clock(keys.log(stream_id))
        pipeline.xrevrange(keys.log(stream_id), count=1)
        pipeline.pttl(keys.lease(stream_id))
        pipeline.hmget(keys.meta(stream_id), *_FIELDS)
    replies = await reply_to(pipeline.execute(raise_on_error=False))
    found: list[Sequence[Any] | Exception] = []
    for stream_id, *each in zip(stream_ids, replies[0::3], replies[1::3], replies[2::3], strict=True):
        try:
            raise_first(each)
            rows, left_ms, fields = each
            found.append((rows[0][0] if rows else b"", left_ms, pipeline.now_ms(keys.log(stream_id)), fields))
        except RedisError as error:
            found.append(error)
    return found


def tail_of(reply: Sequence[Any]) -> Tail:
    """What a reply of ``read_tails`` says."""
    newest, left_ms, now_ms, (status, kind, lease_ms, leased_ms, tenant, model, since_epoch) = reply
    length_ms = leased_ms or lease_ms  # of a generation's lease, or a feed's
    return Tail(
        Cursor.parse(newest.decode()) if newest else None,
        status.decode() if status is not None else None,
        left_ms != _NO_KEY,
        now_ms,
        kind == b"feed",
        int(lease_ms) if lease_ms is not None and status == _OPEN_FEED else None,
        max(0, left_ms),
        length_ms is not None and left_ms > int(length_ms),
        (tenant or b"").decode(),
        (model or b"").decode(),
        int(since_epoch or 0),
    )


def or_unread(read: Callable[[Any], _T], reply: Any) -> _T | LogUnavailable:
    """What a reply says, or LogUnavailable for an error of a server that does not answer now. Raises other errors."""
    if not isinstance(reply, Exception):
        return read(reply)
    try:
        with log_errors():
            raise reply
    except LogUnavailable as error:
        return error
