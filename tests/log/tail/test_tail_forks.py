"""A log that is trimmed, cut short, continued by another attempt or re-created is reported, exactly and always.

Every repair has its own means (the next push, the reconnect, the probe, the tail check); a test leaves on only the one
that it is about, so that no other can hide its absence. Stalls are left out: these streams have no meta, and a loaded
machine is slow.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Final

import pytest

from broadcaster.core.cursor import START, Cursor
from broadcaster.core.notices import Gap, GapReason
from broadcaster.log.tail.options import TailLimits, TailTimes
from tests.support.log.tail_world import NEVER_S, PUSHES_ONLY, TAILS, Push, TailWorld, open_tail


def without_stalls(times: TailTimes) -> TailTimes:
    return replace(times, silence_s=NEVER_S, stall_notice_s=NEVER_S)


PUSHED: Final = without_stalls(PUSHES_ONLY)
CHECKED: Final = without_stalls(TAILS)


@pytest.fixture
async def world(redis_url: str) -> AsyncIterator[TailWorld]:
    async with open_tail(redis_url, times=PUSHED) as opened:
        yield opened


@pytest.fixture
async def checked(redis_url: str) -> AsyncIterator[TailWorld]:
    """A tail with the tail check as its only means besides pushes and reconnects."""
    async with open_tail(redis_url, times=CHECKED) as opened:
        yield opened


# ------------------------------------------------------------------------------------------------------ trims and forks


async def test_entries_trimmed_before_they_were_read_are_reported_exactly(world: TailWorld) -> None:
    room, _ = await world.watch_live("s")
    written = await world.writer.append("s", 3)
    await room.holds(written)
    written += await world.writer.append("s", 6, push="none")
    await world.connection.redis.xtrim(world.connection.keys.log("s"), maxlen=2, approximate=False)

    written += await world.writer.append("s")

    await room.holds(written[:3] + written[7:])
    assert room.notices == [Gap(GapReason.TRIMMED, at=Cursor(1, 7), first_seq=4, last_seq=7)]


@pytest.mark.parametrize("push", ["events", "poke", "none"])
async def test_a_fork_voids_exactly_what_the_log_no_longer_holds(checked: TailWorld, push: Push) -> None:
    room, _ = await checked.watch_live("s")
    written = await checked.writer.append("s", 3) + await checked.writer.append("s", 4, epoch=2)
    await room.holds(written)

    await checked.writer.lose_tail("s", 3)
    forked = await checked.writer.append("s", 2, epoch=3, seq=5, push=push)

    await room.holds(written[:4] + forked)
    assert room.notices == [("rewound", Cursor(2, 4))]


async def test_a_fork_in_a_long_log_is_traced_in_pages(redis_url: str) -> None:
    async with open_tail(redis_url, times=PUSHED, limits=TailLimits(page=4)) as world:
        room, _ = await world.watch_live("s")
        written = await world.writer.append("s", 30)
        await room.holds(written)

        await world.writer.lose_tail("s", 9)
        forked = await world.writer.append("s", 20, epoch=2, seq=22)

        await room.holds(written[:21] + forked)
        assert room.notices == [("rewound", Cursor(1, 21))]


async def test_a_fork_during_a_lost_connection_is_found_after_it(world: TailWorld) -> None:
    room, _ = await world.watch_live("s")
    written = await world.writer.append("s", 4)
    await room.holds(written)
    await world.writer.lose_tail("s", 2)
    forked = await world.writer.append("s", 6, epoch=2, seq=3, push="none")

    await world.kill_subscribers()

    await room.holds(written[:2] + forked)
    assert room.notices == [("rewound", Cursor(1, 2))]


async def test_a_fork_whose_stem_was_trimmed_reports_the_rewind_and_then_the_gap(world: TailWorld) -> None:
    room, _ = await world.watch_live("s")
    await room.holds(await world.writer.append("s", 5))
    await world.writer.lose_tail("s", 2)
    forked = await world.writer.append("s", 6, epoch=2, seq=4, push="none")
    await world.connection.redis.xtrim(world.connection.keys.log("s"), maxlen=5, approximate=False)

    forked += await world.writer.append("s", epoch=2)

    await room.holds(forked[1:])
    gap = Gap(GapReason.TRIMMED, at=Cursor(2, 4), first_seq=1, last_seq=4)
    assert room.notices == [("rewound", START), gap]


async def test_entries_that_an_older_clock_wrote_over_a_lost_tail_are_delivered_by_the_tail_check(
    checked: TailWorld,
) -> None:
    room, _ = await checked.watch_live("s")
    written = await checked.writer.append("s", 3) + await checked.writer.append("s", epoch=837)
    await room.holds(written)
    await checked.writer.lose_tail("s", 1)

    older = await checked.writer.append("s", epoch=826, seq=4)
    await room.holds(written[:3] + older)
    older += await checked.writer.append("s", 2, epoch=826)

    await room.holds(written[:3] + older)
    assert room.notices == [("rewound", Cursor(1, 3))]


async def test_entries_of_an_older_clock_are_found_when_the_log_is_read_behind_a_lost_entry(world: TailWorld) -> None:
    room, _ = await world.watch_live("s")
    written = await world.writer.append("s", 3) + await world.writer.append("s", epoch=837)
    await room.holds(written)
    await world.writer.lose_tail("s", 1)

    later = await world.writer.append("s", epoch=826, seq=4, push="none")
    later += await world.writer.append("s", epoch=4955, push="none")
    await world.kill_subscribers()

    await room.holds(written[:3] + later)
    assert room.notices == [("rewound", Cursor(1, 3))]


async def test_a_lost_tail_is_kept_while_its_worker_may_resend_it(checked: TailWorld) -> None:
    room, _ = await checked.watch_live("s")
    await checked.writer.set_worker("s")
    written = await checked.writer.append("s", 5)
    await room.holds(written)
    await checked.writer.lose_tail("s", 2)
    lives = room.lives
    await checked.kill_subscribers()
    await room.until(lambda: room.lives > lives)

    for entry in written[3:]:
        await checked.writer.append("s", seq=entry.seq, events=[entry.event])
    written += await checked.writer.append("s")

    await room.holds(written)
    assert room.notices == []


async def test_the_lost_tail_of_an_ended_stream_is_reported_as_void(checked: TailWorld) -> None:
    """A zombie ended the log after a failover lost the grant of the newer epoch: no worker will append to it."""
    room, watch = await checked.watch_live("s")
    written = await checked.writer.append("s", 3) + await checked.writer.append("s", 3, epoch=2)
    await room.holds(written)
    await checked.writer.lose_tail("s", 3)

    end = await checked.writer.append("s", seq=4) + [await checked.writer.finish("s")]

    await room.holds(written[:3] + end)
    assert room.notices == [("rewound", Cursor(1, 3))]
    assert watch.is_over


# ------------------------------------------------------------------------------------------- a log that came back empty


async def test_a_log_that_came_back_empty_voids_nothing_until_something_new_is_written(checked: TailWorld) -> None:
    """The worker will resend it: what was delivered stays, and nothing comes twice."""
    room, _ = await checked.watch_live("s")
    written = await checked.writer.append("s", 3)
    await room.holds(written)
    await checked.connection.redis.flushall()
    lives = room.lives
    await checked.kill_subscribers()
    await room.until(lambda: room.lives > lives)

    for entry in written:
        await checked.writer.append("s", seq=entry.seq, events=[entry.event])
    written += await checked.writer.append("s")

    await room.holds(written)
    assert ("rewound", START) not in room.notices


async def test_a_log_re_created_by_a_newer_epoch_is_reported_as_void_from_the_start(world: TailWorld) -> None:
    room, _ = await world.watch_live("s")
    await room.holds(await world.writer.append("s", 5))
    await world.connection.redis.flushall()

    written = await world.writer.append("s", 2, epoch=2, seq=1)

    await room.holds(written)
    assert room.notices == [("rewound", START)]


async def test_a_log_re_created_without_a_push_is_found_by_the_tail_check(checked: TailWorld) -> None:
    room, _ = await checked.watch_live("s")
    await room.holds(await checked.writer.append("s", 5))
    await checked.connection.redis.flushall()

    written = await checked.writer.append("s", 2, epoch=2, seq=1, push="none")

    await room.holds(written)
    assert room.notices[0] == ("rewound", START)
