"""The runner between two attempts: what happens there is known to the attempt that follows."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from broadcaster.core.batching import StopRequest
from broadcaster.core.events import Abort, Error, Event, Finish, decode_event, encode_event
from broadcaster.core.providers.model_routing import ModelRoutes
from broadcaster.core.requests.stream_ids import LOCAL_TENANT
from broadcaster.errors import LogUnavailable, ProviderFailed
from broadcaster.log.jobs.claims import Claim, Claims, Outcome, Why
from broadcaster.log.jobs.generations import GenerationRequest
from broadcaster.log.jobs.queue import GROUP
from broadcaster.log.redis.connect import LogConnection
from broadcaster.log.streams.control import ControlListener
from tests.support.log.log_world import World, until
from tests.worker.test_attempt import HALF, HandProvider
from worker.attempt import AttemptTimes
from worker.engine import Engine, RunnerTimes
from worker.providers.registry import Providers
from worker.runner import Runner
from worker.slots import Slots

STEADY_S = 30.0
CUT = ProviderFailed("cut", reason="provider_disconnected", retryable=True)


class Control:
    """The subscriber of stops, in the test's hands."""

    def __init__(self) -> None:
        self.stop: Callable[[StopRequest], None] = lambda request: None

    def listen(
        self, stream_id: str, on_stop: Callable[[StopRequest], None], *, on_subscribed: Callable[[], None]
    ) -> None:
        self.stop = on_stop

    def forget(self, stream_id: str) -> None:
        self.stop = lambda request: None


class HeldClaims(Claims):
    """Another attempt is claimed, and the test decides the reply: by default that of the log."""

    requested: asyncio.Event
    go_on: asyncio.Event
    answer: Claim | LogUnavailable | None = None

    async def next_attempt(self, stream_id: str, *, epoch: int) -> Claim | None:
        claim = self.answer or await super().next_attempt(stream_id, epoch=epoch)
        self.requested.set()
        await self.go_on.wait()
        if isinstance(claim, LogUnavailable):
            raise claim
        return claim


class Broken:
    """A generation whose provider broke off after half of its answer."""

    def __init__(self, world: World, stream_id: str, engine: Engine, slots: Slots) -> None:
        self.world, self.stream_id, self.slots = world, stream_id, slots
        self.claims, self.control = cast(HeldClaims, engine.claims), cast(Control, engine.control)

    async def ended(self) -> list[Event]:
        """All that is in its log once it is over."""
        async with asyncio.timeout(20):
            while not (await self.world.generations.get(self.stream_id, tenant="local")).is_over:
                await asyncio.sleep(0.01)
        return [decode_event(raw) for raw in await self.world.texts(self.stream_id)]


class NotedClaims(Claims):
    """Each claim is noted: whether it might take over, and what it came to."""

    noted: list[tuple[bool, Outcome]]

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
        claim = await super().claim(
            stream_id, may_take_over=may_take_over, answered_s=answered_s, leapt_s=leapt_s, usage=usage, nonce=nonce
        )
        self.noted.append((may_take_over, claim.outcome))
        return claim


@asynccontextmanager
async def running(
    world: World, claims: Claims, provider: HandProvider, *, timeout_s: float = 60
) -> AsyncIterator[tuple[Engine, Slots]]:
    """A runner that takes what is new, beside a steadiness that has just begun."""
    await world.queue.create_group()
    reader = world.reader()
    async with world.appender() as appender:
        engine = Engine(
            world.queue,
            reader,
            claims,
            world.streams,
            appender,
            world.keeper(appender),
            world.steadiness,
            cast("ControlListener", Control()),
            Providers(ModelRoutes({"m": "hand"}), {"hand": lambda: provider}),
        )
        times = RunnerTimes(10, 0.0, AttemptTimes(generation_timeout_s=timeout_s, append_deadline_s=60))
        slots = Slots(concurrency=1, buffer_bytes=world.max_bytes, max_bytes=world.max_bytes)
        steadiness = asyncio.create_task(world.steadiness.run())
        taking = asyncio.create_task(Runner(engine, slots, times=times, max_bytes=world.max_bytes).take_new())
        try:
            yield engine, slots
        finally:
            for task in (taking, steadiness):
                task.cancel()
            await asyncio.wait({taking, steadiness})
            await reader.aclose()


@asynccontextmanager
async def broken(connection: LogConnection, *, timeout_s: float = 60) -> AsyncIterator[Broken]:
    world, provider = World(connection, lease_ms=10_000), HandProvider()
    claims = HeldClaims(connection, world.policy, owner=world.worker)
    claims.requested, claims.go_on = asyncio.Event(), asyncio.Event()
    async with running(world, claims, provider, timeout_s=timeout_s) as (engine, slots):
        stream_id = await world.create(on_provider_loss="retry")
        provider.given.put_nowait(HALF)
        provider.given.put_nowait(CUT)
        yield Broken(world, stream_id, engine, slots)


async def test_nothing_is_taken_over_before_redis_was_seen_steady_though_its_job_is_new(
    connection: LogConnection,
) -> None:
    world = World(connection, lease_ms=10_000)
    stream_id, _ = await World(connection, worker="w2").granted()
    await world.lapse(stream_id)
    claims = NotedClaims(connection, world.policy, owner=world.worker)
    claims.noted = []
    async with running(world, claims, HandProvider()) as (_, slots):
        await until(lambda: bool(claims.noted) and slots.free == 1)
    assert claims.noted == [(False, Outcome.LAPSED)]


class BrokenClaims(NotedClaims):
    """Redis breaks (its clock steps) between the last probe and the first claim, which finds the lease lapsed."""

    lapse: Callable[[], Awaitable[None]]

    async def claim(self, stream_id: str, **options: Any) -> Claim:
        if not self.noted:
            await self.lapse()
        return await super().claim(stream_id, **options)


async def test_a_lease_that_was_seen_missing_after_a_break_that_no_probe_had_met_is_not_taken_over(
    connection: LogConnection,
) -> None:
    world = World(connection, lease_ms=3000)
    claims = BrokenClaims(connection, world.policy, owner=world.worker)
    claims.noted = []

    async def lapse() -> None:
        probing: list[str] = []
        while not probing:  # each probe ends with a removal
            probing = [each["id"] for each in await connection.redis.client_list() if each["cmd"] == "del"]
        await until(lambda: world.steadiness.is_steady, STEADY_S)
        await world.lapse(stream_id)
        for each in probing:
            await connection.redis.client_kill_filter(_id=each)

    claims.lapse = lapse
    stream_id, _ = await World(connection, worker="w2", lease_ms=60_000).granted()
    async with running(world, claims, HandProvider()) as (_, slots):
        await until(lambda: bool(claims.noted) and slots.free == 1, STEADY_S)
    assert claims.noted == [(False, Outcome.LAPSED)]


async def test_a_stop_that_comes_between_two_attempts_ends_the_second(connection: LogConnection) -> None:
    async with broken(connection) as generation:
        await until(generation.claims.requested.is_set)
        generation.control.stop(StopRequest.ABANDONED)  # received, and not in the log: Redis may be full
        generation.claims.go_on.set()
        assert (await generation.ended())[-1] == Abort(reason="abandoned")


@pytest.mark.parametrize("is_granted", [False, True], ids=["nothing was granted", "the answer was lost"])
async def test_a_stop_ends_the_claim_of_another_attempt_unless_it_may_be_granted_already(
    connection: LogConnection, *, is_granted: bool
) -> None:
    async with broken(connection) as generation:
        unknown = Claim(Outcome.UNKNOWN, 0, 0, 0, Why.NOT)
        generation.claims.answer = LogUnavailable("away") if is_granted else unknown
        generation.claims.go_on.set()
        await until(generation.claims.requested.is_set)
        if is_granted:
            meta = await generation.world.generations.get(generation.stream_id, tenant="local")
            await Claims.next_attempt(generation.claims, generation.stream_id, epoch=meta.epoch)
        generation.control.stop(StopRequest.STOPPED)
        if is_granted:
            generation.claims.answer = None
        assert (await generation.ended())[-1] == Abort(reason="stopped")


async def test_a_fenced_attempt_leaves_its_job_to_the_worker_that_has_the_stream_now(connection: LogConnection) -> None:
    async with broken(connection) as generation:
        world, stream_id = generation.world, generation.stream_id
        generation.claims.answer = Claim(Outcome.LEASED, 0, 0, 0, Why.NOT)
        await until(generation.claims.requested.is_set)
        generation.claims.go_on.set()
        await until(lambda: generation.slots.free == 1)
        pending = await world.redis.xpending(world.keys.ready, GROUP)
        assert pending["pending"] == 1
        assert await world.queue.newest_open(10) == [stream_id]


async def test_another_attempt_is_claimed_until_the_generations_time_is_up(connection: LogConnection) -> None:
    async with broken(connection, timeout_s=1) as generation:
        generation.claims.answer = LogUnavailable("away")
        generation.claims.go_on.set()
        end = (await generation.ended())[-1]
        assert isinstance(end, Error)
        assert end.code == CUT.reason


@pytest.mark.parametrize("when", ["before its job came again", "while it runs"])
async def test_a_finished_answer_has_its_webhook_due_and_no_job_though_the_queue_lost_both(
    connection: LogConnection, when: str
) -> None:
    world, provider = World(connection, lease_ms=10_000), HandProvider()
    await world.queue.create_group()
    stream_id = await world.create(webhook={"url": "https://hooks.example.com/h"})
    if when == "before its job came again":
        claim = await world.claim(stream_id)
        await world.append(stream_id, claim.epoch, 1, [encode_event(Finish())])
        await world.redis.delete(world.keys.webhooks_promised)
    async with running(world, world.claims, provider) as (engine, slots):
        if when == "while it runs":
            await until(lambda: stream_id in engine.keeper.leased)
            await world.redis.delete(*await world.redis.keys("bc:{jobs}:*"))
            await engine.keeper.renew()
            await world.redis.delete(world.keys.webhooks_promised)
            provider.given.put_nowait([Finish()])
            provider.given.put_nowait(None)
        async with asyncio.timeout(20):
            while await world.redis.zrange(world.keys.webhooks_due, 0, -1) != [stream_id.encode()]:
                await asyncio.sleep(0.01)
        await until(lambda: slots.free == 1)
    assert await world.redis.xlen(world.keys.ready) == 0
    assert await world.queue.newest_open(10) == []


async def test_what_a_caller_wrote_in_place_of_a_model_is_in_no_line(
    connection: LogConnection, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    world = World(connection, lease_ms=10_000)
    model = "gpt-x\nforged_line of-the-caller"
    async with running(world, world.claims, HandProvider()) as (_, slots):
        request = GenerationRequest(model=model, request={"messages": []})
        created = await world.generations.create(request, tenant=LOCAL_TENANT)
        async with asyncio.timeout(20):
            while not (await world.generations.get(created.id, tenant=LOCAL_TENANT)).is_over:
                await asyncio.sleep(0.01)
        await until(lambda: slots.free == 1)
    assert "attempt_started" in caplog.text
    assert "of-the-caller" not in caplog.text
