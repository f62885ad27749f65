"""The hub: rooms open once and close in time, bounds are kept, and every viewer that is sent away learns why."""

import asyncio
import dataclasses
import gc
import time
import tracemalloc

import pytest

from broadcaster.core.cursor import Cursor
from broadcaster.core.notices import StallReason
from broadcaster.core.sse import SseDecoder
from broadcaster.errors import Busy, LogUnavailable
from broadcaster.hub.replay.resolve import Finished
from broadcaster.hub.stop_reasons import StopReason
from tests.hub.conftest import LIMITS
from tests.hub.support import DEADLINE_S, answer, join, text, texts, turns


async def until(condition) -> None:
    """Deadlines of the hub are met by its tick: check once a turn."""
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            await asyncio.sleep(0.005)


def bye(reason: str) -> tuple[str, dict]:
    return ("hub.bye", {"reason": reason, "reconnect": True})


async def test_viewers_that_join_at_once_share_one_room_and_wait_for_one_opening(hub, tail):
    tail.is_readable.clear()
    joining = [asyncio.create_task(join(hub)) for _ in range(50)]
    await turns()
    assert not any(task.done() for task in joining)
    tail.is_readable.set()
    await asyncio.gather(*joining)
    assert tail.histories == ["g"]
    assert hub.viewers() == {"g": 50}


async def test_a_log_that_does_not_respond_in_time_is_reported(hub, tail):
    tail.is_readable.clear()
    with pytest.raises(LogUnavailable):
        await hub.join("g", cursor=None, timeout_s=0.01)
    assert hub.viewers() == {}


async def test_a_viewer_that_gives_up_does_not_take_the_opening_from_the_others(hub, tail):
    tail.is_readable.clear()
    patient, hasty = asyncio.create_task(join(hub)), asyncio.create_task(join(hub))
    await turns()
    hasty.cancel()
    await turns()
    tail.is_readable.set()
    await patient
    assert tail.histories == ["g"]


async def test_a_tail_that_gives_up_is_reported_and_the_next_viewer_retries(hub, tail):
    tail.fault = OSError("no route")
    with pytest.raises(LogUnavailable):
        await join(hub)
    tail.fault = None
    await join(hub)
    assert tail.histories == ["g", "g"]


async def test_a_warm_room_serves_a_returning_viewer_without_a_read_and_then_closes(open_hub, tail):
    hub = open_hub(dataclasses.replace(LIMITS, linger_s=0.2))
    tail.log["g"] = texts(5, 1, 3)
    (await join(hub)).viewer.leave()
    resumed = await join(hub, after="5-2")
    resumed.pull_all()
    assert list(resumed.witness.entries) == [3]
    assert tail.histories == ["g"]
    resumed.viewer.leave()
    await until(lambda: not tail.sinks)
    assert hub.statistics()[:3] == (0, 0, 0)


async def test_no_viewer_joins_a_finished_stream_at_its_end_and_its_room_still_closes(open_hub, tail):
    hub = open_hub(dataclasses.replace(LIMITS, linger_s=0.1))
    tail.log["g"] = answer(2)
    assert isinstance(await hub.join("g", cursor=Cursor(5, 2), timeout_s=1), Finished)
    await until(lambda: not tail.sinks)


async def test_one_viewer_too_many_is_refused_resumably(open_hub, tail):
    hub = open_hub(dataclasses.replace(LIMITS, max_viewers=2))
    first = await join(hub)
    tail.is_readable.clear()
    arriving = asyncio.create_task(join(hub, "other"))  # counts before it is in
    await turns()
    with pytest.raises(Busy) as caught:
        await join(hub)
    refused = hub.refuse(caught.value)
    (message,) = SseDecoder().decode(refused.block)
    assert refused.reason is StopReason.LIMIT
    assert message.event == "hub.bye"
    assert hub.limits.retry_ms <= (message.retry_ms or 0) <= 2 * hub.limits.retry_ms
    tail.is_readable.set()
    await arriving
    first.viewer.leave()
    await join(hub)


async def test_the_room_left_longest_ago_makes_place_and_watched_ones_do_not(open_hub, tail):
    hub = open_hub(dataclasses.replace(LIMITS, max_rooms=2))
    for name in "ab":
        (await join(hub, name)).viewer.leave()
    await join(hub, "c")
    assert sorted(tail.sinks) == ["b", "c"]
    await join(hub, "b")
    with pytest.raises(Busy):
        await join(hub, "d")


async def test_the_refusal_for_an_unavailable_log_has_its_reason(hub):
    assert hub.refuse(LogUnavailable("away")).reason is StopReason.LOG_UNAVAILABLE


async def test_a_lost_feed_sends_all_viewers_away_resumably_and_new_rooms_open(hub, tail):
    readers = [await join(hub), await join(hub, "other")]
    hub.tail_lost()
    for reader in readers:
        await reader.until_over()
        assert reader.witness.notices[-1] == bye("feed_lost")
        assert reader.viewer.ends_cleanly
        reader.viewer.leave()
    await join(hub)
    assert tail.histories == ["g", "other", "g"]


@pytest.mark.parametrize(
    "broken",
    [
        lambda sink: sink.deliver([text(5, 9)]),
        lambda sink: sink.deliver([text(4, 4)]),
        lambda sink: sink.rewound(Cursor(5, 9)),
    ],
    ids=["a hole", "an older epoch", "a rewind to what was not delivered"],
)
async def test_a_feed_that_breaks_its_promise_costs_the_room_and_delivers_nothing_wrong(hub, tail, broken, caplog):
    tail.log["g"] = texts(5, 1, 3)
    reader = await join(hub)
    broken(tail.sinks["g"])
    await turns()
    await reader.until_over()
    assert reader.witness.notices[-1] == bye("feed_lost")
    assert reader.witness.last_seq in (0, 3)
    assert "tail_contract_broken" in caplog.text
    assert not tail.sinks


async def test_a_drain_spreads_the_farewells_over_the_window_each_with_its_own_retry(hub):
    readers = [await join(hub) for _ in range(30)]
    loop = asyncio.get_running_loop()
    begin, notified_at = loop.time(), []

    async def drive(reader) -> None:
        await reader.until_over()
        notified_at.append(loop.time() - begin)
        reader.viewer.leave()

    driving = [asyncio.create_task(drive(reader)) for reader in readers]
    await hub.drain(window_s=0.3)
    await asyncio.gather(*driving)
    assert all(at >= 0.3 * place / 30 - 0.01 for place, at in enumerate(notified_at))
    assert notified_at[0] < notified_at[-1] - 0.1
    assert all(reader.witness.notices[-1] == bye("drain") for reader in readers)
    assert len({reader.witness.retries_ms[-1] for reader in readers}) > 10


async def test_a_viewer_that_is_stuck_during_a_drain_is_cut_at_its_end(hub):
    stuck, cut = await join(hub), asyncio.Event()
    stuck.viewer.on_cut = cut.set
    await hub.drain(window_s=0)
    assert cut.is_set()
    assert not stuck.viewer.ends_cleanly
    assert hub.statistics().stopped == {StopReason.DRAIN: 1}


async def test_no_viewer_enters_during_a_drain_not_even_one_on_its_way(hub, tail):
    tail.is_readable.clear()
    on_the_way = asyncio.create_task(join(hub))
    await turns()
    await hub.drain(window_s=0)
    tail.is_readable.set()
    for attempt in (on_the_way, join(hub)):
        with pytest.raises(Busy) as caught:
            await attempt
        assert hub.refuse(caught.value).reason is StopReason.DRAIN


async def test_a_viewer_that_takes_nothing_is_cut_and_the_others_are_not(open_hub, tail):
    hub = open_hub(dataclasses.replace(LIMITS, slow_viewer_s=0.2))
    stuck, waiting, cut = await join(hub), await join(hub), asyncio.Event()
    stuck.viewer.on_cut = cut.set
    waiting.pull_all()
    assert stuck.viewer.pull(2**16)  # and never more
    following = asyncio.create_task(waiting.until_seq(1))
    async with asyncio.timeout(DEADLINE_S):
        await cut.wait()
    assert stuck.viewer.stop_reason is StopReason.SLOW
    assert stuck.viewer.is_over
    assert not stuck.viewer.ends_cleanly
    assert hub.viewers() == {"g": 1}
    tail.append("g", text(5, 1))
    await following


async def test_a_viewer_that_could_not_drain_while_the_loop_stood_still_is_not_cut(open_hub, tail):
    hub = open_hub(dataclasses.replace(LIMITS, slow_viewer_s=0.4))
    reader = await join(hub)
    reader.pull_all()
    tail.append("g", text(5, 1))
    assert reader.viewer.pull(2**16)
    time.sleep(1)  # noqa: ASYNC251 - the loop stands still
    await turns()
    reader.pull_all()  # its socket has taken it meanwhile
    await hub.turns(0.5)
    assert reader.viewer.stop_reason is None


async def test_a_viewer_that_was_never_driven_is_cut_too(open_hub):
    hub = open_hub(dataclasses.replace(LIMITS, slow_viewer_s=0.1))
    await join(hub)
    await until(lambda: not hub.viewers())


async def test_a_viewer_that_has_taken_what_it_pulled_may_be_as_slow_as_it_likes(open_hub):
    hub = open_hub(dataclasses.replace(LIMITS, slow_viewer_s=0.1))
    slow, stuck, cut = await join(hub), await join(hub), asyncio.Event()
    stuck.viewer.on_cut = cut.set
    assert stuck.viewer.pull(2**16)
    assert slow.viewer.pull(2**16)
    slow.viewer.taken()
    async with asyncio.timeout(20):
        await cut.wait()
    assert slow.viewer.stop_reason is None


async def test_a_stuck_viewer_of_a_room_that_closed_is_still_cut(open_hub):
    hub = open_hub(dataclasses.replace(LIMITS, slow_viewer_s=0.1))
    await join(hub)
    hub.tail_lost()
    await until(lambda: hub.statistics().stopped == {StopReason.FEED_LOST: 1})


async def test_viewers_of_a_feed_that_redis_has_lost_are_sent_away_after_the_time_for_that(open_hub, tail):
    hub = open_hub(dataclasses.replace(LIMITS, lost_feed_s=0.1))
    lost, restored = await join(hub, "lost"), await join(hub, "restored")
    for stream_id in ("lost", "restored"):
        tail.sinks[stream_id].stalled(StallReason.STREAM_LOST)
    tail.sinks["restored"].stalled(None)
    lost.pull_all(), restored.pull_all()
    await until(lambda: lost.viewer.stop_reason is StopReason.LOG_GONE)
    lost.pull_all()
    assert lost.viewer.is_over
    await until(lambda: hub.viewers() == {"restored": 1})
    assert restored.viewer.stop_reason is None


async def test_waiting_ends_without_news_when_the_time_is_up_and_with_news_before(open_hub, tail):
    hub = open_hub(dataclasses.replace(LIMITS, heartbeat_s=0.1))
    reader = await join(hub)
    reader.pull_all()
    loop = asyncio.get_running_loop()
    begin = loop.time()
    assert not await reader.viewer.wait(reader.viewer.heartbeat_s)
    assert loop.time() - begin >= 0.1
    assert reader.viewer.heartbeat() == b":\n\n"
    tail.append("g", text(5, 1))
    assert await reader.viewer.wait(60)


async def test_a_wait_shorter_than_a_heartbeat_is_not_stretched_to_the_tick(hub):
    reader = await join(hub)  # heartbeat_s is 60 and the tick 1 s
    reader.pull_all()
    loop = asyncio.get_running_loop()
    begin = loop.time()
    assert not await reader.viewer.wait(0.05)
    assert 0.05 <= loop.time() - begin < 0.9


async def test_news_between_a_pull_and_the_wait_is_not_slept_over(hub, tail):
    reader = await join(hub)
    reader.pull_all()
    tail.append("g", text(5, 1))
    await turns()
    async with asyncio.timeout(DEADLINE_S):
        assert await reader.viewer.wait(60)


async def test_cancelling_one_waiting_viewer_wakes_no_other(hub):
    one, other = await join(hub), await join(hub)
    waits = []
    for reader in (one, other):
        reader.pull_all()
        waits.append(asyncio.create_task(reader.viewer.wait(60)))
    await turns()
    waits[0].cancel()
    await turns()
    assert waits[0].cancelled()
    assert not waits[1].done()
    other.viewer.leave()
    await waits[1]


async def test_leaving_twice_counts_once(hub):
    reader = await join(hub)
    for _ in range(2):
        reader.viewer.leave()
    assert hub.statistics()[0] == 0
    assert hub.statistics().stopped == {StopReason.CLIENT_GONE: 1}


async def test_closing_the_hub_cuts_the_remaining_viewers_and_admits_none(hub, tail):
    reader, cut = await join(hub), asyncio.Event()
    reader.viewer.on_cut = cut.set
    await hub.aclose()
    assert cut.is_set()
    assert not tail.sinks
    with pytest.raises(Busy):
        await join(hub)


async def test_a_viewer_is_small(hub, tail):
    tail.log["g"] = texts(5, 1, 50)
    await join(hub)
    gc.collect()
    tracemalloc.start()
    try:
        viewers = [await hub.join("g", cursor=None, timeout_s=1) for _ in range(1000)]
        for viewer in viewers:
            while viewer.pull(2**16):
                pass
        gc.collect()
        allocated = tracemalloc.take_snapshot()
    finally:
        tracemalloc.stop()
    # What the process allocates elsewhere meanwhile (other threads, the loop itself) is no viewer's.
    of_the_hub = allocated.filter_traces([tracemalloc.Filter(True, "*/broadcaster/hub/*")])
    assert sum(each.size for each in of_the_hub.statistics("filename")) / len(viewers) < 512


def test_every_stop_reason_but_an_end_and_that_of_a_credential_invites_back():
    final = {StopReason.TERMINAL, StopReason.EXPIRED, StopReason.REVOKED, StopReason.TOKEN_EXPIRED}
    assert {reason for reason in StopReason if not reason.reconnect} == final
    assert len({reason.code for reason in StopReason}) == len(StopReason)
