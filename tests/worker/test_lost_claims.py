"""A claim that Redis carried out and whose answer was lost costs nothing: no lease, no attempt, no ending."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from broadcaster.core.events import Attempt, Error, Finish, TextDelta, decode_event
from broadcaster.log.redis.connect import LogConnection
from tests.support.log.log_world import World, until
from tests.support.log.valkey import start_valkey
from tests.support.servers.redis_relay import Moment, open_redis_relay
from tests.worker.test_attempt import HandProvider
from tests.worker.test_runner import running

WHOLE = TextDelta(id="0", delta="whole")
CLAIM = b"\r\nmax_attempts\r\n"
READ_OF_META = b"HGETALL"


@pytest.mark.parametrize("on_worker_loss", ["retry", "fail"])
@pytest.mark.parametrize("lost", [CLAIM, READ_OF_META], ids=["the claim's answer", "the answer of what follows it"])
async def test_a_generation_whose_claims_reply_was_lost_runs_under_that_very_claim(
    tmp_path: Path, lost: bytes, on_worker_loss: str
) -> None:
    async with AsyncExitStack() as stack:
        server = stack.enter_context(start_valkey(tmp_path, port=0))
        relay = await stack.enter_async_context(open_redis_relay(server.url))
        seen = World(await stack.enter_async_context(LogConnection(server.url)))
        world = World(await stack.enter_async_context(LogConnection(relay.url, patience_s=0)), lease_ms=10_000)
        await seen.granted()  # the server knows the script from here on
        await seen.redis.delete(seen.keys.ready)
        provider = HandProvider()
        provider.given.put_nowait([WHOLE])
        provider.given.put_nowait([Finish()])
        provider.given.put_nowait(None)
        async with running(world, world.claims, provider) as (_, slots):
            relay.cut_at(lost, Moment.AFTER)
            stream_id = await seen.create(on_worker_loss=on_worker_loss)
            await until(lambda: provider.requested == 1 and slots.free == 1)
        assert relay.responses_lost == 1
        events = [decode_event(raw) for raw in await seen.texts(stream_id)]
        assert [event for event in events if isinstance(event, Attempt | TextDelta | Error)] == [WHOLE]
        meta = await seen.generations.get(stream_id, tenant="local")
        assert (meta.status, meta.attempts) == ("finished", 1)
