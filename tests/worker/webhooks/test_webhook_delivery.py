"""The delivery's table, on a real log and a receiver on a real socket."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Mapping
from datetime import datetime

import pytest
import structlog
from standardwebhooks import WebhookVerificationError

from broadcaster.log.jobs.webhooks import TakenWebhook
from broadcaster.log.redis.connect import LogConnection
from broadcaster.webhooks.url import WebhookUrl
from tests.support.apps.webhook_world import TEXT, WebhookWorld, open_webhook_world
from tests.support.log.log_world import TENANT, World, until
from tests.support.servers.webhook_receiver import SECRET, Call, Receiver, Reply, open_receiver
from worker.webhooks.post import WebhookResponse


@pytest.fixture
async def hooks(connection: LogConnection) -> AsyncIterator[WebhookWorld]:
    world = World(connection)
    await world.queue.create_group()
    async with open_webhook_world(world) as opened:
        yield opened


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with open_receiver() as opened:
        yield opened


@pytest.mark.parametrize("status", ["finished", "failed", "aborted"])
async def test_the_receiver_gets_the_whole_answer_for_every_end(
    hooks: WebhookWorld, receiver: Receiver, status: str
) -> None:
    stream_id = await hooks.over(receiver.url, status=status)
    assert await hooks.step() == 1
    assert await hooks.recorded(stream_id) == ("delivered", 1, 200, None)
    assert await hooks.due_in_s(stream_id) is None
    (call,) = receiver.calls
    recorded = call.verify()
    meta = await hooks.world.generations.get(stream_id, tenant=TENANT)
    assert datetime.fromisoformat(recorded["timestamp"]).timestamp() == pytest.approx((meta.ended_ms or 0) / 1000)
    assert (recorded["type"], call.target) == (f"generation.{status}", "/hook?token=s3cret")
    error = {"code": "provider_error", "message": "the provider failed"} if status == "failed" else None
    assert recorded["data"] == {
        "id": stream_id,
        "status": status,
        "model": "m",
        "attempt": 1,
        "created_at": meta.created_ms / 1000,
        "started_at": (meta.started_ms or 0) / 1000,
        "ended_at": (meta.ended_ms or 0) / 1000,
        "error": error,
        "metadata": {"chat": 42},
        "events_url": f"/v1/streams/{stream_id}/events",
        "usage": {"inputTokens": 3, "outputTokens": 2},
        "text": TEXT,
        "reasoning": "",
        "parts": [{"type": "text", "text": TEXT, "state": "done"}],
        "truncated": False,
    }


async def test_the_representation_of_a_courier_shows_no_signing_secret(hooks: WebhookWorld) -> None:
    shown = f"{hooks.courier.run!r} {hooks.courier!r} {hooks.delivery!r}"
    assert "WebhookCourier" in shown
    assert all(repr(secret) not in shown for secret in hooks.delivery.secrets)


async def test_a_changed_body_or_another_secret_does_not_verify(hooks: WebhookWorld, receiver: Receiver) -> None:
    await hooks.over(receiver.url)
    await hooks.step()
    (call,) = receiver.calls
    for changed, secret in [
        (Call(call.target, call.headers, call.body.replace(b"the answer", b"another one")), SECRET),
        (Call(call.target, {**call.headers, "webhook-id": "msg_other"}, call.body), SECRET),
        (call, base64.b64encode(b"x" * 24).decode()),
    ]:
        with pytest.raises(WebhookVerificationError):
            changed.verify(secret)


async def test_two_failures_and_a_success_are_three_attempts_of_one_message(
    hooks: WebhookWorld, receiver: Receiver
) -> None:
    receiver.script.extend([Reply(500), Reply(503, headers={"retry-after": "60"}), Reply(200)])
    stream_id = await hooks.over(receiver.url)
    waits: list[float] = []
    for recorded in [("pending", 1, 500, None), ("pending", 2, 503, None), ("delivered", 3, 200, None)]:
        await hooks.step()
        assert await hooks.recorded(stream_id) == recorded
        waits.append(await hooks.due_in_s(stream_id) or 0)
    assert 0.5 < waits[0] < 1.3
    assert 55 < waits[1] <= 60
    assert await hooks.step() == 0
    assert {call.headers["webhook-id"] for call in receiver.calls} == {f"msg_{stream_id}"}
    assert len({call.body for call in receiver.calls}) == 1
    for call in receiver.calls:
        call.verify()


async def test_a_repeated_request_that_begins_anew_under_an_expired_id_is_another_message(
    hooks: WebhookWorld, receiver: Receiver
) -> None:
    receiver.script.extend([Reply(200), Reply(500), Reply(200)])
    stream_id = await hooks.over(receiver.url, status="failed", idempotency_key="nightly")
    await hooks.step()
    keys = hooks.world.keys
    await hooks.world.redis.delete(keys.meta(stream_id), keys.log(stream_id), keys.lease(stream_id))
    assert await hooks.over(receiver.url, idempotency_key="nightly") == stream_id
    assert [await hooks.step(), await hooks.step()] == [1, 1]
    first, second, third = (call.headers["webhook-id"] for call in receiver.calls)
    assert first == f"msg_{stream_id}"
    assert first != second == third


async def test_a_receiver_that_requests_an_hour_gets_a_pause_of_ten_minutes(
    hooks: WebhookWorld, receiver: Receiver
) -> None:
    receiver.default = Reply(429, headers={"retry-after": "3600"})
    stream_id = await hooks.over(receiver.url)
    await hooks.step()
    assert 590 < (await hooks.due_in_s(stream_id) or 0) <= 600


@pytest.mark.parametrize("status", [410, 400, 404, 307])
async def test_a_receiver_that_refuses_is_not_called_a_second_time(
    hooks: WebhookWorld, receiver: Receiver, status: int
) -> None:
    receiver.default = Reply(status, headers={"location": receiver.url})
    stream_id = await hooks.over(receiver.url)
    await hooks.step()
    assert await hooks.recorded(stream_id) == ("gave_up", 1, status, None)
    assert await hooks.step() == 0
    assert len(receiver.calls) == 1


async def test_the_last_attempt_that_fails_gives_up(hooks: WebhookWorld, receiver: Receiver) -> None:
    receiver.default = Reply(500)
    stream_id = await hooks.over(receiver.url)
    for attempt in range(1, 5):
        await hooks.step()
        assert (await hooks.recorded(stream_id))[:2] == ("gave_up" if attempt == 4 else "pending", attempt)
    assert await hooks.step() == 0


async def test_attempts_that_workers_died_of_are_spent(hooks: WebhookWorld, receiver: Receiver) -> None:
    stream_id = await hooks.over(receiver.url)
    created_ms = (await hooks.world.generations.get(stream_id, tenant=TENANT)).created_ms
    for _ in range(4):
        await hooks.world.webhooks.begin(stream_id, created_ms=created_ms, max_attempts=4)
    await hooks.step()
    assert await hooks.recorded(stream_id) == ("gave_up", 4, None, "attempts_spent")
    assert receiver.calls == []


async def test_a_receiver_that_hangs_costs_one_timeout_and_one_attempt(connection: LogConnection) -> None:
    async with (
        open_receiver(default=Reply(hangs=True)) as receiver,
        open_webhook_world(World(connection), timeout_s=0.2) as hooks,
    ):
        stream_id = await hooks.over(receiver.url)
        await hooks.step()
        assert await hooks.recorded(stream_id) == ("pending", 1, None, "timeout")


async def test_a_receiver_that_is_down_is_called_when_it_is_up(hooks: WebhookWorld) -> None:
    async with open_receiver() as first:
        url, port = first.url, first.port
    stream_id = await hooks.over(url)
    await hooks.step()
    assert await hooks.recorded(stream_id) == ("pending", 1, None, "unreachable")
    async with open_receiver(port=port) as receiver:
        await hooks.step()
        assert len(receiver.calls) == 1
    assert await hooks.recorded(stream_id) == ("delivered", 2, 200, None)


async def test_an_end_without_a_subscription_is_skipped(hooks: WebhookWorld, receiver: Receiver) -> None:
    stream_id = await hooks.over(receiver.url, status="aborted", events=["finished", "failed"])
    await hooks.step()
    assert await hooks.recorded(stream_id) == ("skipped", 0, None, None)
    assert (await hooks.step(), receiver.calls) == (0, [])
    assert +hooks.delivery.outcomes == {"skipped": 1}


async def test_a_host_that_is_listed_no_more_is_not_called_and_logged(hooks: WebhookWorld, receiver: Receiver) -> None:
    stream_id = await hooks.over(receiver.url.replace("127.0.0.1", "[::1]"))
    with structlog.testing.capture_logs() as logs:
        await hooks.step()
    assert await hooks.recorded(stream_id) == ("gave_up", 0, None, "not_allowed")
    assert +hooks.delivery.outcomes == {"gave_up": 1}
    shown = [(line["event"], line["host"], line["fault"]) for line in logs]
    assert shown == [("webhook_given_up", "::1", "not_allowed")]


async def test_an_address_that_may_not_be_reached_is_final(connection: LogConnection) -> None:
    async def rebound(host: str, port: int) -> list[str]:
        return ["169.254.169.254"]

    async with open_webhook_world(World(connection), resolve=rebound) as hooks:
        stream_id = await hooks.over("https://localhost/")
        await hooks.step()
        assert await hooks.recorded(stream_id) == ("gave_up", 1, None, "address_refused")


async def test_a_delivered_webhook_is_not_sent_twice_however_often_it_is_promised(
    hooks: WebhookWorld, receiver: Receiver
) -> None:
    stream_id = await hooks.over(receiver.url)
    await hooks.step()
    for _ in range(3):
        await hooks.world.webhooks.promise(stream_id, tenant=TENANT)
        await hooks.world.queue.close_open([stream_id], webhooks_of=[stream_id])
        assert await hooks.step() == 1
    assert len(receiver.calls) == 1
    assert await hooks.due_in_s(stream_id) is None


async def test_a_generation_whose_end_was_lost_is_promised_once_more(hooks: WebhookWorld, receiver: Receiver) -> None:
    stream_id = await hooks.over(receiver.url)
    await hooks.world.redis.hset(hooks.world.keys.meta(stream_id), "status", "running")
    await hooks.step()
    assert await hooks.due_in_s(stream_id) is None
    assert await hooks.world.redis.zscore(hooks.world.keys.webhooks_promised, stream_id) is not None
    assert receiver.calls == []


async def test_a_generation_that_is_known_no_more_is_dropped(hooks: WebhookWorld, receiver: Receiver) -> None:
    stream_id = await hooks.over(receiver.url)
    await hooks.world.redis.delete(hooks.world.keys.meta(stream_id))
    assert (await hooks.step(), await hooks.step()) == (1, 0)


async def test_beyond_the_bound_the_answer_is_left_out_and_then_the_metadata(
    connection: LogConnection, receiver: Receiver
) -> None:
    async with open_webhook_world(World(connection), max_bytes=700) as hooks:
        await hooks.over(receiver.url, metadata={"chat": "x" * 200})
        await hooks.step()
        await hooks.over(receiver.url, metadata={"chat": "x" * 700})
        await hooks.step()
    first, second = (call.verify()["data"] for call in receiver.calls)
    assert "text" not in first
    assert "parts" not in first
    assert (first["truncated"], first["usage"], first["metadata"]) == (
        True,
        {"inputTokens": 3, "outputTokens": 2},
        {"chat": "x" * 200},
    )
    assert (second["truncated"], second["metadata"]) == (True, {})
    assert all(len(call.body) <= 700 for call in receiver.calls)


async def test_without_the_log_the_end_is_read_from_the_meta(hooks: WebhookWorld, receiver: Receiver) -> None:
    stream_id = await hooks.over(receiver.url, status="failed")
    await hooks.world.redis.delete(hooks.world.keys.log(stream_id))
    await hooks.step()
    recorded = receiver.calls[0].verify()
    assert (recorded["type"], recorded["data"]["truncated"]) == ("generation.failed", True)
    assert recorded["data"]["error"] == {"code": "provider_error", "message": "the provider failed"}


async def test_a_lease_too_short_for_the_call_makes_none(hooks: WebhookWorld, receiver: Receiver) -> None:
    stream_id = await hooks.over(receiver.url)
    (taken,) = await hooks.world.webhooks.take(1, lease_ms=60_000)
    long_ago_s = asyncio.get_running_loop().time() - hooks.delivery.bounds.lease_s
    await hooks.delivery.deliver(taken, taken_at_s=long_ago_s)
    assert await hooks.recorded(stream_id) == ("pending", 1, None, "slow_log")
    assert receiver.calls == []


async def test_of_two_workers_with_the_same_webhook_the_later_finds_it_delivered(
    hooks: WebhookWorld, receiver: Receiver
) -> None:
    await hooks.over(receiver.url)
    (taken,) = await hooks.world.webhooks.take(1, lease_ms=60_000)
    now_s = asyncio.get_running_loop().time()
    await hooks.delivery.deliver(taken, taken_at_s=now_s)
    await hooks.delivery.deliver(TakenWebhook(taken.generation_id, 1), taken_at_s=now_s)
    assert len(receiver.calls) == 1


async def test_a_receiver_that_fails_has_its_share_and_no_more(connection: LogConnection, receiver: Receiver) -> None:
    async with (
        open_receiver(default=Reply(hangs=True)) as hanging,
        open_webhook_world(World(connection), timeout_s=0.5) as hooks,
    ):
        await hooks.over(hanging.url)
        await hooks.step()
        for _ in range(6):
            await hooks.over(hanging.url)
        fine = await hooks.over(receiver.url.replace("127.0.0.1", "localhost"))
        await hooks.step()
        assert len(hanging.calls) == 1 + 2
        assert (await hooks.recorded(fine))[0] == "delivered"


class HeldPoster:
    """Calls to the address 127.0.0.1 end when the test releases them, others at once.

    ``took_s``: when their response came; None: at their end.
    """

    def __init__(self, *, took_s: float | None = None) -> None:
        self.held = 0
        self.took_s = took_s
        self.released = asyncio.Event()

    async def post(self, url: WebhookUrl, *, headers: Mapping[str, str], body: bytes) -> WebhookResponse:
        if url.host != "127.0.0.1":
            return WebhookResponse(204, 0)
        self.held += 1
        begun_at = asyncio.get_running_loop().time()
        await self.released.wait()
        waited_s = asyncio.get_running_loop().time() - begun_at
        return WebhookResponse(503, 0, waited_s if self.took_s is None else self.took_s)


async def test_a_receiver_that_answers_slowly_has_its_share_and_no_more(connection: LogConnection) -> None:
    async with open_webhook_world(World(connection), timeout_s=0.4) as hooks:
        poster = hooks.delivery.poster = HeldPoster()
        backlog = [await hooks.over("http://127.0.0.1:1/")]
        asyncio.get_running_loop().call_later(0.2, poster.released.set)
        await hooks.step()
        poster.released.clear()
        backlog += [await hooks.over("http://127.0.0.1:1/") for _ in range(6)]
        fine = await hooks.over("http://localhost:1/")
        delivering = asyncio.create_task(hooks.step())
        async with asyncio.timeout(5):
            while (await hooks.recorded(fine))[0] != "delivered" or await postponed(hooks, backlog) < 5:
                await asyncio.sleep(0.01)
        assert poster.held == 1 + 2
        poster.released.set()
        await delivering


async def test_a_receiver_that_answers_at_once_and_ends_its_connection_late_is_not_slow(
    connection: LogConnection,
) -> None:
    async with open_webhook_world(World(connection), timeout_s=0.4) as hooks:
        poster = hooks.delivery.poster = HeldPoster(took_s=0.01)
        await hooks.over("http://127.0.0.1:1/")
        asyncio.get_running_loop().call_later(0.2, poster.released.set)
        await hooks.step()
        poster.released.clear()
        for _ in range(4):
            await hooks.over("http://127.0.0.1:1/")
        delivering = asyncio.create_task(hooks.step())
        await until(lambda: poster.held >= 1 + 4)
        poster.released.set()
        await delivering


async def postponed(hooks: WebhookWorld, ids: list[str]) -> int:
    """How many of them have been put back, so that they are due before a lease would lapse."""
    due = [await hooks.due_in_s(each) for each in ids]
    return sum(each is not None and each < hooks.delivery.bounds.lease_s * 0.75 for each in due)


async def test_no_log_line_holds_a_secret_or_the_rest_of_the_url(hooks: WebhookWorld, receiver: Receiver) -> None:
    receiver.script.extend([Reply(500), Reply(410)])
    with structlog.testing.capture_logs() as lines:
        first = await hooks.over(receiver.url)
        await hooks.step()
        await hooks.step()
        second = await hooks.over(receiver.url)
        await hooks.step()
    assert [(line["event"], line["stream"]) for line in lines if "stream" in line] == [
        ("webhook_later", first),
        ("webhook_given_up", first),
        ("webhook_delivered", second),
    ]
    for secret in ("s3cret", "hook?", SECRET, SECRET.removeprefix("whsec_"), "c2Vj", TEXT):
        assert secret not in str(lines)
