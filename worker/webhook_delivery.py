"""One delivery of a webhook, from a generation that is over to a receiver that knows it.

| what is found | what becomes of it |
|---|---|
| nothing is owed: told before, or the generation is known no more | done |
| the generation is not over (Redis lost its end) | open: it is looked at again later |
| the caller did not ask to be told of this end | ``skipped`` |
| the settings do not let it go there (any more) | ``gave_up`` |
| its receiver fails, and has its share of this worker's calls already | later; this is no attempt |
| the receiver takes it | ``delivered`` |
| the receiver refuses, or the attempts are spent | ``gave_up`` |
| anything else | again, after the back-off (core/webhook_schedule.py) |

An attempt is counted before anything is done for it, so that a webhook nobody can deliver is given up in the end. The
call is made only while the lease lasts for the whole of it: no two workers call at the same time. What this process
logs holds the host, never the rest of the URL.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import structlog

from broadcaster import __version__
from broadcaster.core.webhook_schedule import Verdict, back_off_s, verdict_of
from broadcaster.core.webhook_signature import sign
from broadcaster.core.webhook_url import WebhookHosts, WebhookUrl
from broadcaster.errors import LogUnavailable, WebhookNotAllowed
from broadcaster.log.streams import Meta, Streams
from broadcaster.log.webhook_meta import WebhookMeta, WebhookState
from broadcaster.log.webhooks import LOOK_MS, PendingWebhooks, TakenWebhook, WebhookSettled
from worker.webhook_body import encode_body, read_answer
from worker.webhook_post import Answer, PostFailed

_log = structlog.get_logger(__name__)

# What a lease holds beyond one call: reading the log, writing down the end.
LEASE_MARGIN_S: Final = 10.0
_WRITE_AGAIN_S: Final = 0.25
_LOOK_AGAIN_MS: Final = 1000
_HOST_FAILS_S: Final = 5.0
_FAILING_HOSTS_KEPT: Final = 1000


class Poster(Protocol):
    """Calls a receiver; see worker/webhook_post.py."""

    async def post(self, url: WebhookUrl, *, headers: Mapping[str, str], body: bytes) -> Answer: ...


@dataclass(frozen=True, slots=True)
class DeliveryBounds:
    """``per_failing_host`` calls at once to a host that gave no answer last: it must leave room for the others."""

    timeout_s: float
    max_attempts: int
    max_bytes: int
    per_failing_host: int

    @property
    def lease_s(self) -> float:
        """How long a taken webhook is ours."""
        return self.timeout_s + LEASE_MARGIN_S


@dataclass(frozen=True, slots=True)
class End:
    """How a delivery ended; ``delay_s`` before the next attempt when it is still pending."""

    state: WebhookState
    attempt: int = 0
    status: int | None = None
    fault: str | None = None
    delay_s: float = 0.0


class WebhookDelivery:
    """See the module's table. Every call raises LogUnavailable when Redis goes away: then the lease lapses."""

    def __init__(
        self,
        pending: PendingWebhooks,
        streams: Streams,
        *,
        hosts: WebhookHosts,
        poster: Poster,
        secrets: Sequence[bytes],
        bounds: DeliveryBounds,
    ) -> None:
        self.bounds = bounds
        self._pending = pending
        self._streams = streams
        self._hosts = hosts
        self._poster = poster
        self._secrets = secrets
        self._calls: Counter[str] = Counter()
        self._failing: set[str] = set()

    async def deliver(self, taken: TakenWebhook, *, taken_at_s: float) -> None:
        """Bring it one step further; ``taken_at_s`` is the loop's time just before it was taken."""
        meta = await self._streams.meta(taken.generation_id)
        if meta is None:
            _log.warning("webhook_dropped", stream=taken.generation_id, why="its generation is known no more")
        if meta is None or meta.webhook is None or meta.webhook.state is not WebhookState.PENDING:
            await self._pending.settle(taken, WebhookSettled.DONE)
        elif not meta.is_over:
            await self._pending.settle(taken, WebhookSettled.OPEN, delay_ms=LOOK_MS)
        elif meta.status not in meta.webhook.events:
            await self._write_down(taken, End(WebhookState.SKIPPED), until_s=taken_at_s + self.bounds.lease_s)
        else:
            await self._deliver(taken, meta, meta.webhook, taken_at_s=taken_at_s)

    async def give_back(self, taken: TakenWebhook) -> None:
        """Let another worker take it at once."""
        await self._pending.settle(taken, WebhookSettled.AGAIN)

    async def _deliver(self, taken: TakenWebhook, meta: Meta, webhook: WebhookMeta, *, taken_at_s: float) -> None:
        until_s = taken_at_s + self.bounds.lease_s
        try:
            url = self._hosts.admit(webhook.url)
        except WebhookNotAllowed:
            await self._write_down(taken, End(WebhookState.GAVE_UP, fault="not_allowed"), until_s=until_s)
            return
        if url.host in self._failing and self._calls[url.host] >= self.bounds.per_failing_host:
            delay_ms = int(_HOST_FAILS_S * random.uniform(500, 1500))
            await self._pending.settle(taken, WebhookSettled.AGAIN, delay_ms=delay_ms)
            return
        self._calls[url.host] += 1
        try:
            end = await self._attempt(meta, url, call_by_s=until_s - self.bounds.timeout_s)
        finally:
            self._calls -= Counter([url.host])
        if end is None:
            await self._pending.settle(taken, WebhookSettled.AGAIN, delay_ms=_LOOK_AGAIN_MS)
            return
        _tell_log(end, meta, url)
        await self._write_down(taken, end, until_s=until_s)

    async def _attempt(self, meta: Meta, url: WebhookUrl, *, call_by_s: float) -> End | None:
        """One call and what it means; None when its meta changed meanwhile: then the table has another row."""
        attempt = await self._pending.begin(meta.id, max_attempts=self.bounds.max_attempts)
        if attempt == 0:
            return None
        if attempt < 0:
            return End(WebhookState.GAVE_UP, self.bounds.max_attempts, fault="attempts_spent")
        answer = await read_answer(self._streams, meta.id)
        body = encode_body(meta, answer, max_bytes=self.bounds.max_bytes)
        if asyncio.get_running_loop().time() > call_by_s:
            return self._end(Verdict.AGAIN, attempt, fault="slow_log")
        try:
            answered = await self._poster.post(url, headers=self._headers(meta, body), body=body)
        except PostFailed as failed:
            self._fails(url.host)
            verdict = Verdict.GIVE_UP if failed.is_final else Verdict.AGAIN
            return self._end(verdict, attempt, fault=failed.fault)
        self._failing.discard(url.host)
        verdict = verdict_of(answered.status)
        return self._end(verdict, attempt, status=answered.status, asked_s=answered.retry_after_s)

    def _fails(self, host: str) -> None:
        if len(self._failing) >= _FAILING_HOSTS_KEPT:
            self._failing.clear()
        self._failing.add(host)

    def _end(
        self, verdict: Verdict, attempt: int, *, status: int | None = None, fault: str | None = None, asked_s: float = 0
    ) -> End:
        if verdict is Verdict.DELIVERED:
            return End(WebhookState.DELIVERED, attempt, status)
        if verdict is Verdict.GIVE_UP or attempt >= self.bounds.max_attempts:
            return End(WebhookState.GAVE_UP, attempt, status, fault)
        delay_s = back_off_s(attempt, luck=random.random(), asked_s=asked_s)
        return End(WebhookState.PENDING, attempt, status, fault, delay_s)

    def _headers(self, meta: Meta, body: bytes) -> dict[str, str]:
        # Built on the generation's id alone: every attempt, by whichever worker, has the same one.
        message_id, timestamp_s = f"msg_{meta.id}", int(time.time())
        return {
            "content-type": "application/json",
            "user-agent": f"broadcaster/{__version__}",
            "webhook-id": message_id,
            "webhook-timestamp": str(timestamp_s),
            "webhook-signature": sign(self._secrets, message_id=message_id, timestamp_s=timestamp_s, body=body),
        }

    async def _write_down(self, taken: TakenWebhook, end: End, *, until_s: float) -> None:
        """First what is known of it, then that nothing (or the next attempt) is owed; tried until the lease ends."""
        outcome = WebhookSettled.AGAIN if end.state is WebhookState.PENDING else WebhookSettled.DONE
        while True:
            try:
                await self._pending.tell(taken.generation_id, end.state, status=end.status, fault=end.fault)
                await self._pending.settle(taken, outcome, delay_ms=int(end.delay_s * 1000))
                return
            except LogUnavailable:
                if asyncio.get_running_loop().time() > until_s:
                    raise
                await asyncio.sleep(_WRITE_AGAIN_S)


def _tell_log(end: End, meta: Meta, url: WebhookUrl) -> None:
    told = {"stream": meta.id, "host": url.host, "attempt": end.attempt, "status": end.status}
    if end.state is WebhookState.DELIVERED:
        _log.info("webhook_delivered", **told)
    elif end.state is WebhookState.PENDING:
        _log.info("webhook_later", **told, fault=end.fault, delay_s=round(end.delay_s, 1))
    else:
        _log.warning("webhook_given_up", **told, fault=end.fault)
