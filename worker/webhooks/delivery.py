"""One delivery of a webhook, from a generation or a feed that is over to its receiver.

| what is found | what becomes of it |
|---|---|
| the webhook was delivered before, or the stream has expired | done |
| the stream is not over (Redis lost its end), or a new one took its id | open: it is checked later |
| the caller did not subscribe to this end | ``skipped`` |
| the settings do not allow the host (any more) | ``gave_up`` |
| its receiver fails or is slow, and has its share of this worker's calls | later; this does not count as an attempt |
| the receiver accepts it | ``delivered`` |
| the receiver refuses, or the attempts are used up | ``gave_up`` |
| anything else | retried after the back-off (webhooks/schedule.py) |

An attempt is counted before it begins, so that a webhook that crashes every worker is given up in the end. A call is
made only if the lease lasts for all of it: no two workers call at the same time. The worker logs the host, never the
rest of the URL.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from broadcaster import __version__
from broadcaster.errors import LogUnavailable, WebhookNotAllowed
from broadcaster.log.jobs.webhooks import CHECK_EVERY_MS, EndLapsed, PendingWebhooks, TakenWebhook, WebhookSettled
from broadcaster.log.streams.reader import Meta, Streams
from broadcaster.log.streams.webhook_meta import WebhookMeta, WebhookState
from broadcaster.observability.counting import LONG_S, Buckets
from broadcaster.observability.limits import limit_reached
from broadcaster.observability.logs import get_logger
from broadcaster.webhooks.schedule import DeliveryVerdict, back_off_s, verdict_of
from broadcaster.webhooks.signature import sign
from broadcaster.webhooks.url import WebhookHosts, WebhookUrl
from worker.webhooks.body import encode_body, read_answer
from worker.webhooks.post import PostFailed, WebhookResponse

_log = get_logger(__name__)

# A lease lasts this much longer than one call: for reading the log and recording the end.
LEASE_MARGIN_S: Final = 10.0
_WRITE_RETRY_S: Final = 0.25
_RECHECK_MS: Final = 1000
_HOST_FAILS_S: Final = 5.0
_MAX_FAILING_HOSTS: Final = 1000
# A response after more than this share of the timeout is slow: the backlog of a receiver that responds just before the
# timeout would hold all of a worker's calls.
_SLOW_SHARE: Final = 0.25
_MESSAGE_ID_CHARS: Final = 32
_OUTCOMES: Final = {
    WebhookState.DELIVERED: "delivered",
    WebhookState.PENDING: "later",
    WebhookState.GAVE_UP: "gave_up",
    WebhookState.SKIPPED: "skipped",
}


class Poster(Protocol):
    """Calls a receiver; see worker/webhooks/post.py."""

    async def post(self, url: WebhookUrl, *, headers: Mapping[str, str], body: bytes) -> WebhookResponse: ...


@dataclass(frozen=True, slots=True)
class DeliveryBounds:
    """``per_failing_host``: concurrent calls to a host that did not respond last, or slowly; the rest is for others."""

    timeout_s: float
    max_attempts: int
    max_bytes: int
    per_failing_host: int

    @property
    def lease_s(self) -> float:
        """How long this worker has a webhook that it took."""
        return self.timeout_s + LEASE_MARGIN_S


@dataclass(frozen=True, slots=True)
class End:
    """How a delivery ended; ``delay_s`` before the next attempt when it is still pending."""

    state: WebhookState
    attempt: int = 0
    status: int | None = None
    fault: str | None = None
    delay_s: float = 0.0


@dataclass(eq=False, repr=False)
class WebhookDelivery:
    """See the module's table. Every call raises LogUnavailable if Redis is away: the lease then lapses."""

    pending: PendingWebhooks
    streams: Streams
    end_lapsed: EndLapsed
    hosts: WebhookHosts
    poster: Poster
    secrets: Sequence[bytes]
    bounds: DeliveryBounds
    outcomes: Counter[str] = field(default_factory=lambda: Counter(dict.fromkeys(_OUTCOMES.values(), 0)), init=False)
    attempt_s: Buckets = field(default_factory=lambda: Buckets(LONG_S), init=False)
    _calls: Counter[str] = field(default_factory=Counter, init=False)
    _failing: set[str] = field(default_factory=set, init=False)

    async def deliver(self, taken: TakenWebhook, *, taken_at_s: float) -> None:
        """Make one attempt; ``taken_at_s`` is the loop's time just before the webhook was taken."""
        meta = await self.streams.meta(taken.generation_id)
        if meta is None:
            _log.warning("webhook_dropped", stream=taken.generation_id, why="its stream is known no more")
        if meta is None or meta.webhook is None or meta.webhook.state is not WebhookState.PENDING:
            await self.pending.settle(taken, WebhookSettled.DONE)
        elif not meta.is_over:
            await self.pending.settle(taken, WebhookSettled.OPEN, delay_ms=CHECK_EVERY_MS)
        elif meta.status not in meta.webhook.events:
            await self._finish(taken, meta, End(WebhookState.SKIPPED), until_s=taken_at_s + self.bounds.lease_s)
        else:
            await self._deliver(taken, meta, meta.webhook, taken_at_s=taken_at_s)

    async def check_promised(self) -> None:
        """See ``PendingWebhooks.check_promised``."""
        await self.pending.check_promised(self.streams, end_lapsed=self.end_lapsed)

    async def give_back(self, taken: TakenWebhook) -> None:
        """Let another worker take it at once."""
        await self.pending.settle(taken, WebhookSettled.RETRY)

    async def _deliver(self, taken: TakenWebhook, meta: Meta, webhook: WebhookMeta, *, taken_at_s: float) -> None:
        until_s = taken_at_s + self.bounds.lease_s
        try:
            url = self.hosts.admit(webhook.url)
        except WebhookNotAllowed:
            await self._finish(taken, meta, End(WebhookState.GAVE_UP, fault="not_allowed"), until_s=until_s)
            return
        if url.host in self._failing and self._calls[url.host] >= self.bounds.per_failing_host:
            delay_ms = int(_HOST_FAILS_S * random.uniform(500, 1500))
            await self.pending.settle(taken, WebhookSettled.RETRY, delay_ms=delay_ms)
            return
        self._calls[url.host] += 1
        begun_at = asyncio.get_running_loop().time()
        try:
            end = await self._attempt(meta, url, call_by_s=until_s - self.bounds.timeout_s)
        finally:
            self._calls -= Counter([url.host])
        if end is None:
            await self.pending.settle(taken, WebhookSettled.RETRY, delay_ms=_RECHECK_MS)
            return
        self.attempt_s.observe(asyncio.get_running_loop().time() - begun_at)
        await self._finish(taken, meta, end, until_s=until_s)

    async def _attempt(self, meta: Meta, url: WebhookUrl, *, call_by_s: float) -> End | None:
        """One call and its result; None if the meta has changed: then another row of the table applies."""
        attempt = await self.pending.begin(meta.id, created_ms=meta.created_ms, max_attempts=self.bounds.max_attempts)
        if attempt == 0:
            return None
        if attempt < 0:
            limit_reached("WEBHOOK_MAX_ATTEMPTS")
            return End(WebhookState.GAVE_UP, self.bounds.max_attempts, fault="attempts_spent")
        answer = await read_answer(self.streams, meta.id)
        if meta.kind != "generation" and await self._is_replaced(meta):
            return None
        body = encode_body(meta, answer, max_bytes=self.bounds.max_bytes)
        if asyncio.get_running_loop().time() > call_by_s:
            return self._end(DeliveryVerdict.RETRY, attempt, fault="slow_log")
        try:
            response = await self.poster.post(url, headers=self._headers(meta, body), body=body)
        except PostFailed as failed:
            self._fails(url.host)
            if failed.fault == "timeout":
                limit_reached("WEBHOOK_TIMEOUT_S")
            verdict = DeliveryVerdict.GIVE_UP if failed.is_final else DeliveryVerdict.RETRY
            return self._end(verdict, attempt, fault=failed.fault)
        if response.took_s > _SLOW_SHARE * self.bounds.timeout_s:
            self._fails(url.host)
        else:
            self._failing.discard(url.host)
        verdict = verdict_of(response.status)
        return self._end(verdict, attempt, status=response.status, requested_s=response.retry_after_s)

    async def _is_replaced(self, meta: Meta) -> bool:
        """Whether another feed has the id now: then what was read of the log may be that one's."""
        now = await self.streams.meta(meta.id)
        return now is None or now.created_ms != meta.created_ms

    def _fails(self, host: str) -> None:
        if len(self._failing) >= _MAX_FAILING_HOSTS:
            self._failing.clear()
        self._failing.add(host)

    def _end(
        self,
        verdict: DeliveryVerdict,
        attempt: int,
        *,
        status: int | None = None,
        fault: str | None = None,
        requested_s: float = 0,
    ) -> End:
        if verdict is DeliveryVerdict.DELIVERED:
            return End(WebhookState.DELIVERED, attempt, status)
        if verdict is not DeliveryVerdict.GIVE_UP and attempt >= self.bounds.max_attempts:
            limit_reached("WEBHOOK_MAX_ATTEMPTS")
            verdict = DeliveryVerdict.GIVE_UP
        if verdict is DeliveryVerdict.GIVE_UP:
            return End(WebhookState.GAVE_UP, attempt, status, fault)
        delay_s = back_off_s(attempt, luck=random.random(), requested_s=requested_s)
        return End(WebhookState.PENDING, attempt, status, fault, delay_s)

    def _headers(self, meta: Meta, body: bytes) -> dict[str, str]:
        message_id, timestamp_s = _message_id(meta), int(time.time())
        return {
            "content-type": "application/json",
            "user-agent": f"broadcaster/{__version__}",
            "webhook-id": message_id,
            "webhook-timestamp": str(timestamp_s),
            "webhook-signature": sign(self.secrets, message_id=message_id, timestamp_s=timestamp_s, body=body),
        }

    async def _finish(self, taken: TakenWebhook, meta: Meta, end: End, *, until_s: float) -> None:
        """Count and log the end, record it in the meta, then settle the webhook; retried until the lease ends."""
        self.outcomes[_OUTCOMES[end.state]] += 1
        _log_end(end, meta)
        outcome, delay_ms = WebhookSettled.DONE, 0
        if end.state is WebhookState.PENDING:
            outcome, delay_ms = WebhookSettled.RETRY, int(end.delay_s * 1000)
        while True:
            try:
                await self.pending.record_attempt(
                    meta.id, end.state, created_ms=meta.created_ms, status=end.status, fault=end.fault
                )
                await self.pending.settle(taken, outcome, delay_ms=delay_ms)
                return
            except LogUnavailable:
                if asyncio.get_running_loop().time() > until_s:
                    raise
                await asyncio.sleep(_WRITE_RETRY_S)


def _message_id(meta: Meta) -> str:
    """The same for every attempt by any worker.

    Other feeds had this id before, or have it for another tenant; an expired generation had it if it is reused.
    """
    if meta.kind == "generation" and not meta.has_reused_id:
        return f"msg_{meta.id}"
    return f"msg_{hashlib.sha256(f'{meta.id} {meta.created_ms}'.encode()).hexdigest()[:_MESSAGE_ID_CHARS]}"


def _log_end(end: End, meta: Meta) -> None:
    fields = {"stream": meta.id, "host": _host_of(meta), "attempt": end.attempt, "status": end.status}
    if end.state is WebhookState.SKIPPED:
        return
    if end.state is WebhookState.DELIVERED:
        _log.info("webhook_delivered", **fields)
    elif end.state is WebhookState.PENDING:
        _log.info("webhook_later", **fields, fault=end.fault, delay_s=round(end.delay_s, 1))
    else:
        _log.warning("webhook_given_up", **fields, fault=end.fault)


def _host_of(meta: Meta) -> str | None:
    """None when its URL is one that this version does not read."""
    try:
        return None if meta.webhook is None else WebhookUrl.parse(meta.webhook.url).host
    except WebhookNotAllowed:
        return None
