"""The cheap append (append_next.lua) writes what append would write, and nothing where append has to decide."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisAway

from broadcaster.core.batching import Code, StopRequest
from broadcaster.core.events import FORMAT_VERSION, Event, Finish, TextDelta, encode_event
from broadcaster.log.jobs.claims import Claim
from broadcaster.log.jobs.lease import LeaseKeeper
from broadcaster.log.redis.scripts import SCRIPTS, ScriptCall, run_all
from broadcaster.log.streams import appender as appending
from broadcaster.log.streams import terminals
from broadcaster.log.streams.appender import AppendBounds, Appender
from broadcaster.log.streams.writer import StreamWriter, WriterEnd
from tests.support.log.log_world import World, delta, until

FINISH = encode_event(Finish())
NEXT, FULL = "append_next", "append"


class Calls:
    """Stands before the server and notes each script with its code; ``loses`` replies of one after they were given."""

    def __init__(self) -> None:
        self.made: list[tuple[str, Any]] = []
        self.loses = ""

    async def run_all(self, redis: Any, calls: Sequence[ScriptCall]) -> list[Any]:
        replies = await run_all(redis, calls)
        names = [call.script.name for call in calls]
        self.made += zip(names, map(code_of, replies), strict=True)
        if self.loses in names:
            self.loses = ""
            raise RedisAway("the reply was lost")
        return replies


def code_of(reply: Any) -> Any:
    if isinstance(reply, Exception):
        return type(reply).__name__
    return reply if isinstance(reply, int) else reply[0]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    calls = Calls()
    monkeypatch.setattr(appending, "run_all", calls.run_all)
    return calls


@pytest.fixture
async def writer(world: World, appender: Appender, keeper: LeaseKeeper, calls: Calls) -> StreamWriter:
    """The writer of a first attempt, whose log has "a" and "b"; the second was appended cheaply."""
    return await begun(world, appender, keeper, calls)


async def begun(world: World, appender: Appender, keeper: LeaseKeeper, calls: Calls) -> StreamWriter:
    writer = await world.writer(*await world.granted(), appender, keeper)
    for seq, text in enumerate("ab", start=1):
        await write(writer, text, acked_seq=seq)
    assert calls.made == [(FULL, 1), (NEXT, 1)]
    calls.made.clear()
    return writer


async def write(writer: StreamWriter, *texts: str, acked_seq: int) -> None:
    writer.write([text(each) for each in texts])
    await until(lambda: writer.acked_seq == acked_seq)


def text(value: str) -> Event:
    return TextDelta(id="0", delta=value)


async def run_next(world: World, stream_id: str, epoch: int, first_seq: int, events: Sequence[bytes]) -> Any:
    """The script, with what a worker would send of a log in which everything is a delta of one letter."""
    name = world.keys
    keys = [name.log(stream_id), name.meta(stream_id), name.live(stream_id)]
    before = (first_seq - 1) * len(delta("a"))
    return await SCRIPTS[NEXT].run(world.redis, keys, epoch, first_seq, before, FORMAT_VERSION, *events)


@pytest.mark.parametrize("count", [1, 4])
async def test_entries_pushes_and_bytes_are_those_of_append(world: World, count: int) -> None:
    written, pushed = [], []
    for is_cheap in (False, True):
        stream_id, claim = await world.granted()
        await world.append(stream_id, claim.epoch, 1, [delta("a")])
        batch = [delta("b" * nth) for nth in range(1, count + 1)]
        pubsub = world.redis.pubsub()
        await pubsub.ssubscribe(world.keys.live(stream_id))
        await pubsub.get_message(timeout=20)
        if is_cheap:
            assert await run_next(world, stream_id, claim.epoch, 2, batch) == 1
        else:
            assert (await world.append(stream_id, claim.epoch, 2, batch)).code is Code.APPENDED
        message = await pubsub.get_message(timeout=20)
        pushed.append(message["data"].replace(b"%d" % claim.epoch, b"EPOCH"))
        await pubsub.aclose()
        rows = await world.redis.xrange(world.keys.log(stream_id))
        written.append([(row.replace(b"%d" % claim.epoch, b"EPOCH"), fields) for row, fields in rows])
    assert written[0] == written[1]
    assert len(written[0]) == 1 + count
    assert pushed[0] == pushed[1]


async def test_a_usual_append_costs_four_cheap_commands(world: World, writer: StreamWriter) -> None:
    await world.redis.config_resetstat()
    await write(writer, "c", acked_seq=3)
    stats = await world.redis.info("commandstats")
    ran = {name: row["calls"] for name, row in stats.items() if not name.endswith(("evalsha", "resetstat", "info"))}
    assert ran == {"cmdstat_hmget": 1, "cmdstat_xlen": 1, "cmdstat_xadd": 1, "cmdstat_spublish": 1}


async def fence(world: World, stream_id: str, claim: Claim) -> None:
    await world.redis.hset(world.keys.meta(stream_id), "epoch", claim.epoch + 1)


async def lose_meta(world: World, stream_id: str, claim: Claim) -> None:
    await world.redis.delete(world.keys.meta(stream_id))


async def lose_tail(world: World, stream_id: str, claim: Claim) -> None:
    await world.lose_after(stream_id, 1)


async def overtake(world: World, stream_id: str, claim: Claim) -> None:
    """As many entries as before, but the newest is of an epoch that the meta does not know."""
    await world.lose_after(stream_id, 1)
    entry = {"e": delta("other"), "v": FORMAT_VERSION, "b": 1}
    await world.redis.xadd(world.keys.log(stream_id), entry, id=f"{claim.epoch + 1}-2")


async def stop(world: World, stream_id: str, claim: Claim) -> None:
    await world.redis.hset(world.keys.meta(stream_id), "stop", "abandoned")


async def close(world: World, stream_id: str, claim: Claim) -> None:
    await world.lose_after(stream_id, 1)
    assert (await world.append(stream_id, claim.epoch, 2, [FINISH])).code is Code.APPENDED


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize(
    ("spoil", "code", "stop_requested"),
    [
        (fence, Code.FENCED, StopRequest.NONE),
        (close, Code.CLOSED, StopRequest.NONE),
        (lose_tail, Code.REWOUND, StopRequest.NONE),
        (overtake, Code.FENCED, StopRequest.NONE),
        (lose_meta, Code.FORGOTTEN, StopRequest.NONE),
        (stop, Code.APPENDED, StopRequest.ABANDONED),
    ],
)
async def test_it_writes_and_pushes_nothing_where_append_has_to_decide(
    world: World,
    spoil: Callable[[World, str, Claim], Awaitable[None]],
    code: Code,
    stop_requested: StopRequest,
    count: int,
) -> None:
    stream_id, claim = await world.granted()
    await world.append(stream_id, claim.epoch, 1, [delta("a"), delta("b")])
    await spoil(world, stream_id, claim)
    before = await world.redis.xrange(world.keys.log(stream_id))
    pubsub = world.redis.pubsub()
    await pubsub.ssubscribe(world.keys.live(stream_id))
    await pubsub.get_message(timeout=20)
    batch = [delta("c")] * count
    assert await run_next(world, stream_id, claim.epoch, 3, batch) == -1
    assert await world.redis.xrange(world.keys.log(stream_id)) == before
    await world.redis.spublish(world.keys.live(stream_id), b"the next message")
    message = await pubsub.get_message(timeout=20)
    assert message is not None
    assert message["data"] == b"the next message"
    await pubsub.aclose()
    decided = await world.append(stream_id, claim.epoch, 3, batch)
    assert (decided.code, decided.stop_requested) == (code, stop_requested)


async def test_a_writer_that_is_fenced_writes_nothing_more(world: World, writer: StreamWriter, calls: Calls) -> None:
    await world.lapse(writer.stream_id)
    await World(world.connection, worker="w2").claim(writer.stream_id)
    writer.write([text("zombie")])
    await until(writer.over.is_set)
    assert writer.end_reason is WriterEnd.FENCED
    assert calls.made == [(NEXT, -1), (FULL, Code.FENCED)]
    assert delta("zombie") not in await world.texts(writer.stream_id)


async def test_a_stop_reaches_the_writer_with_the_reply_of_append(
    world: World, writer: StreamWriter, calls: Calls
) -> None:
    await world.redis.hset(world.keys.meta(writer.stream_id), "stop", "abandoned")
    await write(writer, "c", acked_seq=3)
    assert writer.stop_request is StopRequest.ABANDONED
    assert calls.made == [(NEXT, -1), (FULL, Code.APPENDED)]


async def test_a_lost_tail_is_resent_and_the_next_append_is_cheap(
    world: World, writer: StreamWriter, calls: Calls
) -> None:
    await world.lose_after(writer.stream_id, 1)
    await write(writer, "c", acked_seq=3)
    await write(writer, "d", acked_seq=4)
    assert await world.texts(writer.stream_id) == [delta(each) for each in "abcd"]
    assert calls.made == [(NEXT, -1), (FULL, Code.REWOUND), (NEXT, 1), (NEXT, 1)]
    await assert_bytes_add_up(world, writer.stream_id)


async def test_a_lost_grant_is_restored_and_the_same_events_follow(
    world: World, writer: StreamWriter, calls: Calls
) -> None:
    await world.redis.delete(world.keys.meta(writer.stream_id))
    await write(writer, "c", acked_seq=3)
    await write(writer, "d", acked_seq=4)
    assert await world.texts(writer.stream_id) == [delta(each) for each in "abcd"]
    assert calls.made[:2] == [(NEXT, -1), (FULL, Code.FORGOTTEN)]
    assert calls.made[-1] == (NEXT, 1)


@pytest.mark.parametrize("count", [1, 3])
async def test_an_append_whose_reply_was_lost_is_stored_once(
    world: World, writer: StreamWriter, calls: Calls, count: int
) -> None:
    calls.loses = NEXT
    texts = "cde"[:count]
    await write(writer, *texts, acked_seq=2 + count)
    await write(writer, "f", acked_seq=3 + count)
    assert await world.texts(writer.stream_id) == [delta(each) for each in f"ab{texts}f"]
    assert calls.made == [(NEXT, 1), (NEXT, -1), (FULL, Code.DUPLICATE), (NEXT, 1)]
    await assert_bytes_add_up(world, writer.stream_id)


async def test_an_append_whose_second_reply_was_lost_is_stored_once(
    world: World, writer: StreamWriter, calls: Calls
) -> None:
    await world.redis.hset(world.keys.meta(writer.stream_id), "stop", "stopped")
    calls.loses = FULL
    await write(writer, "c", acked_seq=3)
    assert await world.texts(writer.stream_id) == [delta(each) for each in "abc"]
    assert calls.made == [(NEXT, -1), (FULL, Code.APPENDED), (NEXT, -1), (FULL, Code.DUPLICATE)]


async def test_a_server_that_does_not_know_the_script_receives_it(
    world: World, writer: StreamWriter, calls: Calls
) -> None:
    await world.redis.script_flush()
    await write(writer, "c", acked_seq=3)
    assert await world.texts(writer.stream_id) == [delta(each) for each in "abc"]
    assert calls.made == [(NEXT, 1)]


@pytest.mark.parametrize("count", [1, 3])
async def test_a_full_redis_takes_nothing_and_later_everything_once(
    world: World, writer: StreamWriter, calls: Calls, count: int
) -> None:
    texts = "cde"[:count]
    await world.redis.config_set("maxmemory", 1)
    try:
        writer.write([text(each) for each in texts])
        await until(lambda: len(calls.made) >= 4)
    finally:
        await world.redis.config_set("maxmemory", 0)
    assert calls.made[:4] == [(NEXT, -1), (FULL, "OutOfMemoryError")] * 2
    await until(lambda: writer.acked_seq == 2 + count)
    assert await world.texts(writer.stream_id) == [delta(each) for each in f"ab{texts}"]


@pytest.mark.parametrize(
    "bounds",
    [AppendBounds(3, 10**6, 65_536, 60_000), AppendBounds(1000, 3 * len(delta("a")), 65_536, 60_000)],
    ids=["events", "bytes"],
)
async def test_append_decides_what_goes_beyond_a_bound(world: World, bounds: AppendBounds, calls: Calls) -> None:
    async with Appender(world.connection, bounds) as appender:
        writer = await begun(world, appender, world.keeper(appender), calls)
        await write(writer, "c", acked_seq=3)
        writer.write([text("d")])
        await until(lambda: writer.is_complete)
    assert writer.end_reason is WriterEnd.FULL
    assert calls.made == [(NEXT, 1), (FULL, Code.FULL), (FULL, Code.APPENDED)]
    expected = [*(delta(each) for each in "abc"), terminals.STREAM_FULL]
    assert await world.texts(writer.stream_id) == expected


async def test_a_batch_over_the_bound_of_a_push_is_pushed_as_a_poke(
    world: World, writer: StreamWriter, calls: Calls
) -> None:
    pubsub = world.redis.pubsub()
    await pubsub.ssubscribe(world.keys.live(writer.stream_id))
    await pubsub.get_message(timeout=20)
    await write(writer, "x" * 70_000, acked_seq=3)
    poke = await pubsub.get_message(timeout=20)
    assert poke is not None
    assert poke["data"] == b"1 %d 3 1" % writer.epoch
    await pubsub.aclose()
    assert calls.made == [(FULL, Code.APPENDED)]


async def test_append_begins_the_log_and_ends_it(world: World, writer: StreamWriter, calls: Calls) -> None:
    assert await world.redis.pttl(world.keys.log(writer.stream_id)) > 0
    assert await writer.end([text("c"), Finish()], deadline_s=20)
    assert calls.made == [(FULL, Code.APPENDED)]
    meta = await world.streams.meta(writer.stream_id)
    assert meta is not None
    assert meta.status == "finished"


async def test_append_checks_the_tail(writer: StreamWriter, calls: Calls) -> None:
    writer.verify()
    await until(lambda: len(calls.made) > 0)
    assert calls.made == [(FULL, Code.DUPLICATE)]


async def test_append_writes_all_of_a_later_attempt(
    world: World, writer: StreamWriter, appender: Appender, keeper: LeaseKeeper, calls: Calls
) -> None:
    await world.lapse(writer.stream_id)
    claim = await world.claim(writer.stream_id)
    second = await world.writer(writer.stream_id, claim, appender, keeper)
    for seq, each in enumerate("cd", start=claim.last_seq + 1):
        await write(second, each, acked_seq=seq)
    assert calls.made == [(FULL, Code.APPENDED)] * 2
    await assert_bytes_add_up(world, writer.stream_id)


async def assert_bytes_add_up(world: World, stream_id: str) -> None:
    """Each entry holds the event bytes of the log up to it."""
    total = 0
    for _, fields in await world.redis.xrange(world.keys.log(stream_id)):
        total += len(fields[b"e"])
        assert int(fields[b"b"]) == total
