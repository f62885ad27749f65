"""Claim, release and end: the right to write a stream (docs/protocol.md §2, §4)."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from broadcaster.core.events import FORMAT_VERSION
from broadcaster.log.redis.connect import LogConnection
from broadcaster.log.redis.scripts import SCRIPTS, Argument, StoredScript
from broadcaster.log.streams import terminals
from broadcaster.observability.limits import LimitName, limit_reached

# The back-off doubles from attempt to attempt, up to this: viewers wait for the next one.
ATTEMPT_BACKOFF_CAP_MS: Final = 60_000


class Outcome(IntEnum):
    """The result of a claim."""

    GRANTED = 1
    ENDED = 2
    OVER = 0
    LEASED = -1
    LAPSED = -2
    UNKNOWN = -3
    NOTHING_TO_END = -5
    WAITING = -6
    ENDING = -7


class Why(IntEnum):
    """Why a stream was ended by a claim; ATTEMPTS_SPENT also of one that was over before."""

    NOT = 0
    STOPPED = 1
    WORKER_LOST = 2
    ATTEMPTS_SPENT = 3
    QUEUE_TIMEOUT = 4
    STATE_LOST = 5
    REQUESTED = 6


@dataclass(frozen=True, slots=True)
class Claim:
    """The reply: with GRANTED, ``epoch`` is the right to write from ``last_seq`` + 1 on; with WAITING, the claim may be
    repeated in ``wait_ms``."""

    outcome: Outcome
    epoch: int
    last_seq: int
    attempt: int
    why: Why
    wait_ms: int = 0


@dataclass(frozen=True, slots=True)
class ClaimPolicy:
    """Bounds of every claim. A process that runs no attempts needs no back-off (0: none)."""

    lease_ttl_s: float
    live_ttl_s: float
    queue_timeout_s: float
    max_attempts: int
    attempt_backoff_s: float = 0.0


_LIMITS: Final[Mapping[Why, LimitName]] = {Why.ATTEMPTS_SPENT: "MAX_ATTEMPTS", Why.QUEUE_TIMEOUT: "QUEUE_TIMEOUT_S"}

_REFUSED: Final = 2  # the code of next_attempt.lua
_USAGE_UNKNOWN: Final = b"?"

_LONGEST_S: Final = 1e9  # beyond any generation's age


class Claims:
    """Every method raises LogUnavailable while Redis cannot answer; each is safe to repeat."""

    def __init__(self, connection: LogConnection, policy: ClaimPolicy, *, owner: str) -> None:
        self._redis = connection.redis
        self._impatient = connection.impatient
        self._keys = connection.keys
        self._policy = policy
        self._owner = owner

    @property
    def lease_ms(self) -> int:
        """How long a worker's lease lasts."""
        return _ms(self._policy.lease_ttl_s)

    @property
    def queue_timeout_s(self) -> float:
        """How long a generation may wait for its first attempt."""
        return self._policy.queue_timeout_s

    async def claim(
        self,
        stream_id: str,
        *,
        may_take_over: bool,
        answered_s: float = math.inf,
        leapt_s: float = 0.0,
        usage: bytes | None = b"",
        nonce: str = "",
    ) -> Claim:
        """Request the right to run the generation.

        ``may_take_over``: this process has seen Redis answer for one lease, and has checked that after it saw the lease
        missing: a call that Redis carries out after a pause would find every lease lapsed. Without it a running
        generation is left alone even when its lease is missing (LAPSED). For the same reason nothing here repeats a
        claim. A caller that repeats a claim whose reply was lost passes the same ``nonce``, and gets the same grant.

        A queued generation is left alone (LAPSED) as well when it is older than ``answered_s``, the time for which
        Redis has answered since its last break: its grant may be what was lost.

        A generation whose queue time-out is over is ended only with ``may_take_over``, and otherwise left alone as
        well. ``leapt_s`` is how far Redis's clock has stepped forward meanwhile, which does not count as waiting.

        When no attempt may follow, the generation is ended, after an event ``usage`` if there is one (see endings.py).
        None: a generation that has entries is not ended before its usage is known (ENDING).
        """
        policy = self._policy
        return await self._run(
            SCRIPTS["claim"],
            stream_id,
            may_take_over=int(may_take_over),
            answered_ms=_ms(answered_s),
            max_attempts=policy.max_attempts,
            queue_timeout_ms=_ms(policy.queue_timeout_s) + _ms(leapt_s),
            backoff_ms=_ms(policy.attempt_backoff_s),
            max_backoff_ms=ATTEMPT_BACKOFF_CAP_MS,
            jitter=random.uniform(0.5, 1.0),
            nonce=nonce,
            usage=_USAGE_UNKNOWN if usage is None else usage,
            abort=terminals.STOPPED,
            worker_lost=terminals.WORKER_LOST,
            attempts_spent=terminals.ATTEMPTS_SPENT,
            queue_timeout=terminals.QUEUE_TIMEOUT,
            state_lost=terminals.STATE_LOST,
        )

    async def end(
        self,
        stream_id: str,
        terminal: bytes | None,
        *,
        may_take_over: bool,
        answered_s: float = math.inf,
        usage: bytes = b"",
    ) -> Claim:
        """End a stream that has no worker: with ``abort`` if a stop was requested, otherwise with ``terminal``.

        ``usage`` is written before it, in place of the worker's.
        """
        return await self._run(
            SCRIPTS["end_stream"],
            stream_id,
            may_take_over=int(may_take_over),
            answered_ms=_ms(answered_s),
            usage=usage,
            abort=terminals.STOPPED,
            state_lost=terminals.STATE_LOST,
            terminal=terminal or b"",
        )

    async def rebase(self, stream_id: str, *, epoch: int) -> Claim:
        """A newer epoch for the worker that has ``epoch``: Redis lost entries that an earlier attempt had written."""
        return await self._run(SCRIPTS["rebase"], stream_id, epoch=epoch)

    async def next_attempt(self, stream_id: str, *, epoch: int) -> Claim | None:
        """Another attempt for the worker that has ``epoch``, whose provider broke off: its lease and its job stay.

        GRANTED like any other attempt; LEASED or OVER when the stream is not this worker's any more; UNKNOWN while its
        meta is lost and not restored yet. None: refused, because a stop was requested or the attempts are spent; the
        caller ends the stream.
        """
        name, policy = self._keys, self._policy
        keys = [name.log(stream_id), name.meta(stream_id), name.lease(stream_id), name.live(stream_id)]
        bounds = (self.lease_ms, policy.max_attempts, _ms(policy.live_ttl_s))
        code, granted, last_seq, attempt = await SCRIPTS["next_attempt"].run(
            self._redis, keys, self._owner, epoch, *bounds, FORMAT_VERSION
        )
        return None if code == _REFUSED else Claim(Outcome(code), granted, last_seq, attempt, Why.NOT)

    async def release(self, stream_id: str, *, epoch: int) -> bool:
        """Give the right back (drain). False: it was not this worker's any more."""
        keys = [self._keys.lease(stream_id), self._keys.meta(stream_id), self._keys.log(stream_id)]
        return bool(await SCRIPTS["release"].run(self._redis, keys, self._owner, epoch))

    async def _run(self, script: StoredScript, stream_id: str, **arguments: Argument) -> Claim:
        """Run one of the scripts that read their arguments by name."""
        name, policy = self._keys, self._policy
        keys = [name.log(stream_id), name.meta(stream_id), name.lease(stream_id), name.live(stream_id)]
        arguments |= {
            "worker": self._owner,
            "lease_ms": self.lease_ms,
            "live_ttl_ms": _ms(policy.live_ttl_s),
            "version": FORMAT_VERSION,
        }
        flat = [part for pair in arguments.items() for part in pair]
        outcome, granted, last_seq, attempt, why, wait_ms = await script.run(self._impatient, keys, *flat)
        claim = Claim(Outcome(outcome), granted, last_seq, attempt, Why(why), wait_ms)
        if claim.outcome is Outcome.ENDED and claim.why in _LIMITS:
            limit_reached(_LIMITS[claim.why])
        return claim


def _ms(duration_s: float) -> int:
    return int(min(duration_s, _LONGEST_S) * 1000)
