"""Append (docs/protocol.md §3): each of its ordered answers."""

from __future__ import annotations

import pytest

from broadcaster.core.batching import Code, StopRequest
from broadcaster.core.events import Abort, Attempt, Error, Finish, decode_event, encode_event
from broadcaster.log.jobs.claims import Claim
from broadcaster.log.redis.connect import LogConnection
from tests.support.log.log_world import World, delta

FINISH = encode_event(Finish())


async def test_entries_get_the_epoch_and_dense_seqs_as_their_ids(world: World) -> None:
    stream_id, claim = await world.granted()
    answer = await world.append(stream_id, claim.epoch, 1, [delta("a"), delta("b")])
    assert answer == (Code.APPENDED, claim.epoch, 2, StopRequest.NONE)
    entries = await world.streams.read(stream_id)
    assert [(each.epoch, each.seq, each.event) for each in entries] == [
        (claim.epoch, 1, delta("a")),
        (claim.epoch, 2, delta("b")),
    ]


async def test_an_older_epoch_than_the_grant_is_fenced_even_before_the_new_worker_has_written(world: World) -> None:
    stream_id, claim = await world.granted()
    await world.redis.delete(world.keys.lease(stream_id))
    newer = await World(world.connection, worker="w2").claim(stream_id)
    await world.redis.delete(world.keys.log(stream_id))  # not even the attempt entry is there to fence by
    answer = await world.append(stream_id, claim.epoch, 1, [delta("zombie")])
    assert answer.code is Code.FENCED
    assert newer.epoch > claim.epoch
    assert await world.seqs(stream_id) == []


async def test_an_older_epoch_than_the_last_entry_is_fenced_when_the_meta_is_lost(world: World) -> None:
    stream_id, claim = await world.granted()
    await world.append(stream_id, claim.epoch, 1, [delta("a")])
    await world.redis.delete(world.keys.meta(stream_id))
    assert (await world.append(stream_id, claim.epoch - 1, 2, [delta("zombie")])).code is Code.FENCED


async def test_a_batch_resent_changes_nothing(world: World) -> None:
    stream_id, claim = await world.granted()
    batch = [delta("a"), delta("b")]
    await world.append(stream_id, claim.epoch, 1, batch)
    assert (await world.append(stream_id, claim.epoch, 1, batch)).code is Code.DUPLICATE
    assert await world.texts(stream_id) == batch


async def test_the_missing_rest_of_a_batch_partly_present_is_appended(world: World) -> None:
    stream_id, claim = await world.granted()
    await world.append(stream_id, claim.epoch, 1, [delta("a")])
    answer = await world.append(stream_id, claim.epoch, 1, [delta("a"), delta("b"), delta("c")])
    assert answer == (Code.APPENDED, claim.epoch, 3, StopRequest.NONE)
    assert await world.texts(stream_id) == [delta("a"), delta("b"), delta("c")]


async def test_a_duplicate_is_never_found_across_epochs(world: World) -> None:
    stream_id, claim = await world.granted()
    await world.append(stream_id, claim.epoch, 1, [delta("a"), delta("b")])
    await world.redis.hset(world.keys.meta(stream_id), "epoch", claim.epoch + 5)
    answer = await world.append(stream_id, claim.epoch + 5, 1, [delta("other")])
    assert answer == (Code.REWOUND, claim.epoch, 2, StopRequest.NONE)


@pytest.mark.parametrize("lost", ["gone", "from before the grant"])
async def test_an_append_whose_grant_redis_has_lost_writes_nothing_until_it_is_restored(
    world: World, lost: str
) -> None:
    """A terminal written beside such a meta would leave a generation that is over and has no owner."""
    stream_id, claim = await world.granted()
    await world.append(stream_id, claim.epoch, 1, [delta("a")])
    if lost == "gone":
        await world.redis.delete(world.keys.meta(stream_id))
    else:
        await world.redis.hset(world.keys.meta(stream_id), "epoch", claim.epoch - 1)
    assert await world.append(stream_id, claim.epoch, 2, [FINISH]) == (Code.FORGOTTEN, claim.epoch, 1, StopRequest.NONE)
    assert await world.seqs(stream_id) == [1]


async def test_nothing_follows_a_terminal_event(world: World) -> None:
    for terminal in (Finish(), Error(error_text="x", code="y"), Abort(reason="stopped")):
        stream_id, claim = await world.granted()
        await world.append(stream_id, claim.epoch, 1, [delta("a"), encode_event(terminal)])
        assert (await world.append(stream_id, claim.epoch, 3, [delta("late")])).code is Code.CLOSED
        assert await world.seqs(stream_id) == [1, 2]


async def test_a_batch_beyond_the_logs_tail_returns_rewound_and_where_the_log_ends(world: World) -> None:
    stream_id, claim = await world.granted()
    await world.append(stream_id, claim.epoch, 1, [delta("a")])
    assert await world.append(stream_id, claim.epoch, 3, [delta("c")]) == (
        Code.REWOUND,
        claim.epoch,
        1,
        StopRequest.NONE,
    )
    assert await world.seqs(stream_id) == [1]


async def test_an_empty_append_checks_whether_the_tail_is_still_there(world: World) -> None:
    stream_id, claim = await world.granted()
    assert (await world.append(stream_id, claim.epoch, 1, [])).code is Code.DUPLICATE
    await world.append(stream_id, claim.epoch, 1, [delta("a"), delta("b")])
    assert (await world.append(stream_id, claim.epoch, 3, [])).code is Code.DUPLICATE
    await world.redis.xdel(world.keys.log(stream_id), f"{claim.epoch}-2")
    assert (await world.append(stream_id, claim.epoch, 3, [])).code is Code.REWOUND


async def test_a_batch_over_the_bound_is_refused_whole_and_the_terminal_event_is_always_admitted(
    connection: LogConnection,
) -> None:
    for world in (World(connection, max_events=3), World(connection, max_bytes=2 * len(delta("a")) + 5)):
        stream_id, claim = await world.granted()
        await world.append(stream_id, claim.epoch, 1, [delta("a"), delta("b")])
        answer = await world.append(stream_id, claim.epoch, 3, [delta("c"), delta("d")])
        assert answer == (Code.FULL, claim.epoch, 2, StopRequest.NONE)
        assert await world.seqs(stream_id) == [1, 2]
        assert (await world.append(stream_id, claim.epoch, 3, [FINISH])).code is Code.APPENDED


@pytest.mark.parametrize("bounded", ["events", "bytes"])
@pytest.mark.parametrize("begins", ["claim", "again", "rebase"])
async def test_void_entries_do_not_end_an_answer_that_fits(
    connection: LogConnection, bounded: str, begins: str
) -> None:
    world = world_of_six(connection, bounded)
    stream_id, claim = await world.granted()
    await world.append(stream_id, claim.epoch, 1, [delta("a")] * 5)
    newer = await begin_anew(world, stream_id, begins, epoch=claim.epoch)
    assert (await world.append(stream_id, newer.epoch, 7, [delta("b")] * 4)).code is Code.APPENDED
    assert (await world.append(stream_id, newer.epoch, 11, [delta("b")] * 2)).code is Code.FULL


@pytest.mark.parametrize("bounded", ["events", "bytes"])
async def test_all_attempts_together_hold_four_times_what_one_may(connection: LogConnection, bounded: str) -> None:
    world = world_of_six(connection, bounded)
    stream_id, claim = await world.granted()
    last_seq = 0
    while (await world.append(stream_id, claim.epoch, last_seq + 1, [delta("a")] * 4)).code is Code.APPENDED:
        await world.lapse(stream_id)
        claim = await world.claim(stream_id)
        last_seq = claim.last_seq
    *held, announced = await world.texts(stream_id)
    assert decode_event(announced) == Attempt(attempt=claim.attempt)
    amount, most = (len(held), 6) if bounded == "events" else (sum(map(len, held)), world.max_bytes)
    assert 3 * most < amount <= 4 * most
    assert (await world.append(stream_id, claim.epoch, last_seq + 1, [FINISH])).code is Code.APPENDED


def world_of_six(connection: LogConnection, bounded: str) -> World:
    """One whose attempts have room for six deltas."""
    if bounded == "events":
        return World(connection, max_events=6, max_attempts=100)
    return World(connection, max_bytes=6 * len(delta("a")), max_attempts=100)


async def begin_anew(world: World, stream_id: str, begins: str, *, epoch: int) -> Claim:
    """Another attempt, or the same one under a newer epoch: all that was written is void."""
    if begins == "rebase":
        return await world.claims.rebase(stream_id, epoch=epoch)
    if begins == "again":
        claim = await world.claims.next_attempt(stream_id, epoch=epoch)
        assert claim is not None
        return claim
    await world.lapse(stream_id)
    return await world.claim(stream_id)


async def test_the_terminal_event_settles_meta_lease_and_lives_in_the_same_step(world: World) -> None:
    stream_id, claim = await world.granted()
    await world.append(stream_id, claim.epoch, 1, [delta("a"), FINISH])
    meta = await world.streams.meta(stream_id)
    assert meta is not None
    assert (meta.status, meta.terminal, meta.terminal_id) == ("finished", FINISH, (claim.epoch, 2))
    assert await world.redis.exists(world.keys.lease(stream_id)) == 0
    assert 0 < await world.redis.pttl(world.keys.log(stream_id)) <= 30_000
    assert await world.redis.pttl(world.keys.meta(stream_id)) > 3_600_000


async def test_an_open_log_has_a_ttl_from_its_first_entry(world: World) -> None:
    stream_id, claim = await world.granted()
    await world.append(stream_id, claim.epoch, 1, [delta("a")])
    assert await world.redis.pttl(world.keys.log(stream_id)) > 0


@pytest.mark.parametrize("stop", [StopRequest.STOPPED, StopRequest.ABANDONED], ids=lambda stop: stop.reason)
async def test_a_stop_request_is_in_the_reply_and_does_not_close_the_log(world: World, stop: StopRequest) -> None:
    stream_id, claim = await world.granted()
    await world.redis.hset(world.keys.meta(stream_id), "stop", stop.reason)
    assert await world.append(stream_id, claim.epoch, 1, [delta("tail")]) == (Code.APPENDED, claim.epoch, 1, stop)


async def test_a_batch_is_pushed_in_the_same_step_and_a_large_one_as_a_poke(world: World) -> None:
    stream_id, claim = await world.granted()
    pubsub = world.redis.pubsub()
    await pubsub.ssubscribe(world.keys.live(stream_id))
    await pubsub.get_message(timeout=20)
    await world.append(stream_id, claim.epoch, 1, [delta("a"), delta("b")])
    pushed = await pubsub.get_message(timeout=20)
    assert pushed is not None
    assert pushed["data"] == b"1 %d 1 2\n%s\n%s" % (claim.epoch, delta("a"), delta("b"))
    await world.append(stream_id, claim.epoch, 3, [delta("x" * 70_000)])
    poke = await pubsub.get_message(timeout=20)
    assert poke is not None
    assert poke["data"] == b"1 %d 3 1" % claim.epoch
    await pubsub.aclose()


async def test_the_hot_append_is_at_most_four_commands(world: World) -> None:
    stream_id, claim = await world.granted()
    await world.append(stream_id, claim.epoch, 1, [delta("a")])
    await world.redis.config_resetstat()
    await world.append(stream_id, claim.epoch, 2, [delta("b")])
    stats = await world.redis.info("commandstats")
    calls = {name: row["calls"] for name, row in stats.items() if not name.endswith(("evalsha", "resetstat", "info"))}
    assert calls == {"cmdstat_hmget": 1, "cmdstat_xrevrange": 1, "cmdstat_xadd": 1, "cmdstat_spublish": 1}
