"""Claim, release and end: who may write a stream (protocol §2, §4)."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from broadcaster.core.events import FORMAT_VERSION
from broadcaster.log import terminals
from broadcaster.log.connect import LogConnection, log_errors
from broadcaster.log.scripts import AGAIN, CLAIM, RELEASE

# Doubled from attempt to attempt, but nobody who watches waits longer than this for the next one.
ATTEMPT_BACKOFF_CAP_MS: Final = 60_000


class Outcome(IntEnum):
    """What a claim came to."""

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
    ASKED = 6


@dataclass(frozen=True, slots=True)
class Claim:
    """The answer: with GRANTED, ``epoch`` is the right to write from ``last_seq`` + 1 on; with WAITING, it may be asked
    for again in ``wait_ms``."""

    outcome: Outcome
    epoch: int
    last_seq: int
    attempt: int
    why: Why
    wait_ms: int = 0


@dataclass(frozen=True, slots=True)
class ClaimPolicy:
    """Bounds of every claim; durations in milliseconds. Who never runs anything needs no back-off (0: none)."""

    lease_ttl_ms: int
    live_ttl_ms: int
    queue_timeout_ms: int
    max_attempts: int
    attempt_backoff_ms: int = 0

    @classmethod
    def of_seconds(
        cls,
        *,
        lease_ttl_s: float,
        live_ttl_s: float,
        queue_timeout_s: float,
        max_attempts: int,
        attempt_backoff_s: float = 0.0,
    ) -> ClaimPolicy:
        """The same from durations in seconds, as settings have them."""
        return cls(
            int(lease_ttl_s * 1000),
            int(live_ttl_s * 1000),
            int(queue_timeout_s * 1000),
            max_attempts,
            int(attempt_backoff_s * 1000),
        )


_REFUSED: Final = 2  # the code of again.lua
_TO_BE_ASKED_FOR: Final = b"?"
_TERMINALS: Final = (
    terminals.STOPPED,
    terminals.WORKER_LOST,
    terminals.ATTEMPTS_SPENT,
    terminals.QUEUE_TIMEOUT,
    terminals.STATE_LOST,
)

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
        return self._policy.lease_ttl_ms

    @property
    def queue_timeout_s(self) -> float:
        """How long a generation may wait for its first attempt."""
        return self._policy.queue_timeout_ms / 1000

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
        """Ask for the right to run the generation.

        ``may_take_over`` says that this process has seen Redis answer for one lease: without it a generation that is
        said to be running is left alone even when its lease is missing (LAPSED). It must be known after the lease was
        seen missing: a call that Redis carries out after a pause would find every lease lapsed. For the same reason a
        claim is never repeated here. The caller that repeats a claim whose answer was lost does so under the same
        ``nonce``: what was granted under it is granted once more.

        One that is said to wait is left alone (LAPSED) as well when it is older than ``answered_s``, the time for which
        Redis has answered since it broke: its grant may be what was lost.

        One that has waited too long is ended only with ``may_take_over``, and otherwise left alone as well. ``leapt_s``
        is how far Redis's clock has stepped forward meanwhile: it has waited for so much less.

        Where nobody may run it any more it is ended, after an event ``usage`` if there is one (see endings.py). None:
        what was written already is not ended before that is known (ENDING).
        """
        return await self._run(
            stream_id,
            intent="run",
            may_take_over=may_take_over,
            answered_s=answered_s,
            leapt_s=leapt_s,
            usage=_TO_BE_ASKED_FOR if usage is None else usage,
            nonce=nonce,
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
        """End a stream that nobody runs: with a stop asked for as ``abort``, otherwise with ``terminal``.

        ``usage`` is written before it: what is known of an answer whose worker cannot say it any more.
        """
        return await self._run(
            stream_id,
            intent="end",
            may_take_over=may_take_over,
            answered_s=answered_s,
            terminal=terminal or b"",
            usage=usage,
        )

    async def rebase(self, stream_id: str, *, epoch: int) -> Claim:
        """A newer epoch for the holder of ``epoch``: Redis lost entries that an earlier attempt had written."""
        return await self._run(stream_id, intent="rebase", may_take_over=False, epoch=epoch)

    async def again(self, stream_id: str, *, epoch: int) -> Claim | None:
        """Another attempt for the holder of ``epoch``, whose provider broke off: its lease and its job stay.

        GRANTED like any other attempt; LEASED or OVER when the stream is not ours to write any more; UNKNOWN while its
        meta is lost and not restored yet. None: refused, a stop was asked for or the attempts are spent: end it.
        """
        name, policy = self._keys, self._policy
        keys = [name.log(stream_id), name.meta(stream_id), name.lease(stream_id), name.live(stream_id)]
        bounds = (policy.lease_ttl_ms, policy.max_attempts, policy.live_ttl_ms)
        with log_errors():
            code, granted, last_seq, attempt = await AGAIN.run(
                self._redis, keys, self._owner, epoch, *bounds, FORMAT_VERSION
            )
        return None if code == _REFUSED else Claim(Outcome(code), granted, last_seq, attempt, Why.NOT)

    async def release(self, stream_id: str, *, epoch: int) -> bool:
        """Give the right back (drain). False: it was not mine any more."""
        keys = [self._keys.lease(stream_id), self._keys.meta(stream_id), self._keys.log(stream_id)]
        with log_errors():
            return bool(await RELEASE.run(self._redis, keys, self._owner, epoch))

    async def _run(
        self,
        stream_id: str,
        *,
        intent: str,
        may_take_over: bool,
        answered_s: float = math.inf,
        leapt_s: float = 0.0,
        terminal: bytes = b"",
        usage: bytes = b"",
        nonce: str = "",
        epoch: int = 0,
    ) -> Claim:
        name, policy = self._keys, self._policy
        keys = [name.log(stream_id), name.meta(stream_id), name.lease(stream_id), name.live(stream_id)]
        with log_errors():
            outcome, granted, last_seq, attempt, why, wait_ms = await CLAIM.run(
                self._impatient,
                keys,
                self._owner,
                policy.lease_ttl_ms,
                policy.max_attempts,
                policy.live_ttl_ms,
                policy.queue_timeout_ms + int(leapt_s * 1000),
                FORMAT_VERSION,
                int(may_take_over),
                intent,
                epoch,
                *_TERMINALS,
                terminal,
                policy.attempt_backoff_ms,
                ATTEMPT_BACKOFF_CAP_MS,
                random.uniform(0.5, 1.0),
                int(min(answered_s, _LONGEST_S) * 1000),
                nonce,
                usage,
            )
        return Claim(Outcome(outcome), granted, last_seq, attempt, Why(why), wait_ms)
