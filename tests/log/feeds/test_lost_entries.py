"""An append behind an entry that Redis has lost writes nothing: the loss is proven for any number of writers."""

from __future__ import annotations

import pytest

from broadcaster.core.cursor import Cursor
from broadcaster.log.feeds.refusals import EntriesLost
from broadcaster.log.redis.connect import LogConnection
from tests.log.tail.test_feeds_watched import until_later
from tests.support.apps.feed_job import FINISH, ID, Job, note
from tests.support.log.feed_writers import TENANT


@pytest.fixture
async def job(connection: LogConnection) -> Job:
    """A publisher whose feed is open."""
    job = Job(connection)
    assert await job.create()
    return job


async def append_behind(job: Job, known: Cursor) -> Cursor:
    return (await job.feeds.append(ID, [note("next")], tenant=TENANT, after=known)).last


async def is_refused(job: Job, known: Cursor) -> bool:
    """Whether an append and the end are refused behind this entry, and leave nothing in the log."""
    held = await job.held()
    with pytest.raises(EntriesLost):
        await append_behind(job, known)
    with pytest.raises(EntriesLost):
        await job.feeds.close(ID, FINISH, tenant=TENANT, after=known)
    return await job.held() == held and not (await job.meta()).is_over


async def snapshot(job: Job) -> dict[str, bytes]:
    return {key: await job.redis.dump(key) for key in await job.redis.keys("*")}


async def restore(job: Job, snapshot: dict[str, bytes]) -> None:
    await job.redis.flushdb()
    for key, dump in snapshot.items():
        await job.redis.restore(key, 0, dump)


async def test_an_append_behind_the_entries_of_other_writers_is_accepted(job: Job) -> None:
    (known,) = await job.append(note(1))
    (other,) = await job.append(note(2))
    assert (await append_behind(job, known)).seq == 3
    assert (await append_behind(job, other)).seq == 4


async def test_a_log_that_ends_before_the_known_entry_has_lost_it(job: Job) -> None:
    await job.append(note(1))
    older = await snapshot(job)
    (known,) = await job.append(note(2))
    await restore(job, older)
    assert await is_refused(job, known)


async def test_other_writers_that_have_filled_the_numbers_of_lost_entries_hide_no_loss(job: Job) -> None:
    await job.append(note(1))
    older = await snapshot(job)
    (known,) = await job.append(note(2))
    await restore(job, older)
    await until_later(job.redis, known.epoch)
    await job.append(*map(note, range(5)))
    assert await is_refused(job, known)


async def test_a_recreated_feed_has_lost_the_entries_of_the_one_before(job: Job) -> None:
    (known,) = await job.append(note(1))
    await job.redis.flushdb()
    await until_later(job.redis, known.epoch)
    await job.create(max_events=2, on_full="trim")
    assert await is_refused(job, known)
    for number in range(5):  # the first entries are trimmed: the log alone no longer shows that it is another one
        await job.append(note(number))
    assert await is_refused(job, known)


async def test_an_entry_that_was_trimmed_is_not_lost(connection: LogConnection) -> None:
    job = Job(connection)
    await job.create(max_events=2, on_full="trim")
    (known,) = await job.append(note(1))
    await job.append(*map(note, range(2)))
    assert (await append_behind(job, known)).seq == 4


async def test_an_entry_whose_log_has_expired_is_not_lost(job: Job) -> None:
    (known,) = await job.append(note(1))
    await job.redis.delete(job.keys.log(ID))
    assert (await append_behind(job, known)).seq == 2


async def test_a_repeated_append_gets_its_ids_also_when_it_is_behind_a_lost_entry(job: Job) -> None:
    ids = await job.append(note(1), key="k")
    repeated = await job.feeds.append(ID, [note(1)], tenant=TENANT, idempotency_key="k", after=Cursor(ids[0].epoch, 9))
    assert (repeated.ids, repeated.is_new) == (ids, False)
