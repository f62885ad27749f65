"""Several writers of one feed, interleaved, repeated and killed: dense, and each accepted append once."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broadcaster.core.cursor import Cursor
from broadcaster.core.entry import Entry
from broadcaster.errors import IdempotencyMismatch, StreamClosed, StreamFull
from broadcaster.log.feeds.bounds import KEYS_KEPT, keys_kept
from broadcaster.log.feeds.feeds import FeedConfig, Feeds
from broadcaster.log.redis.connect import LogConnection
from broadcaster.log.streams.reader import Streams
from tests.support.log.feed_writers import BOUNDS, TENANT, text_of

ID = "build-42"
END = b'{"type":"finish"}'
WRITERS = ("a", "b", "c")
PER_WRITER = 150
KILLS = 2


async def start(url: str, name: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.support.log.feed_writers", url, ID, name, str(PER_WRITER)),
        stdout=asyncio.subprocess.PIPE,
    )


async def answered(process: asyncio.subprocess.Process, count: int) -> dict[str, str]:
    """The first answers that it prints, key → id; fewer when it ends before."""
    assert process.stdout is not None
    printed: dict[str, str] = {}
    async with asyncio.timeout(60):
        while len(printed) < count and (line := await process.stdout.readline()).endswith(b"\n"):
            key, _, id = line.decode().strip().partition(" ")
            printed[key] = id
    return printed


async def test_writers_killed_and_restarted_append_everything_once(connection: LogConnection) -> None:
    feeds = Feeds(connection, BOUNDS, streams=Streams(connection))
    await feeds.create(ID, FeedConfig(), tenant=TENANT)
    printed: dict[str, str] = {}

    async def write(name: str) -> None:
        """Kill it in the middle repeatedly, wherever it is between send and answer; then let it end."""
        for kill in range(KILLS):
            process = await start(connection.url, name)
            printed_now = await answered(process, kill * PER_WRITER // (2 * KILLS) + 1)
            process.kill()
            printed_now |= await answered(process, PER_WRITER)
            await process.wait()
            agree(printed_now)
        process = await start(connection.url, name)
        agree(await answered(process, PER_WRITER + 1))
        assert await process.wait() == 0

    def agree(now: dict[str, str]) -> None:
        """An append returns the same id whenever it is sent."""
        assert all(printed.setdefault(key, id) == id for key, id in now.items())

    await asyncio.gather(*(write(name) for name in WRITERS))
    entries = await Streams(connection).read(ID, count=10_000)
    assert [entry.seq for entry in entries] == list(range(1, len(WRITERS) * PER_WRITER + 1))
    assert [entry.cursor for entry in entries] == sorted(entry.cursor for entry in entries)
    events = [entry.event for entry in entries]
    assert sorted(events) == sorted(text_of(name, number) for name in WRITERS for number in range(PER_WRITER))
    for name in WRITERS:
        places = [events.index(text_of(name, number)) for number in range(PER_WRITER)]
        assert places == sorted(places)
    ids = {event: str(entry.cursor) for event, entry in zip(events, entries, strict=True)}
    assert {text_of(*_split(key)): id for key, id in printed.items()} == ids


def _split(key: str) -> tuple[str, int]:
    name, _, number = key.partition(":")
    return name, int(number)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.sampled_from([None, "k1", "k2", "k3"]), st.integers(1, 3), st.integers(0, 2)),
        st.tuples(st.just("lose"), st.integers(1, 3)),
        st.tuples(st.just("close")),
    ),
    max_size=14,
)


class Model:
    """What a feed must hold: a plain list, a dict of keys, and whether it is over."""

    def __init__(self, *, max_events: int, trims: bool) -> None:
        self.max_events = max_events
        self.trims = trims
        self.entries: list[Entry] = []
        self.last = Cursor(0, 0)
        self.keys: dict[str, tuple[list[bytes], list[Cursor]]] = {}
        self.is_over = False

    def expected(self, key: str | None, events: list[bytes]) -> Any:
        """The ids of an earlier append, the error it must fail with, or None: it is appended."""
        if key in self.keys:
            body, ids = self.keys[key]
            return ids if body == events else IdempotencyMismatch
        if self.is_over:
            return StreamClosed
        held = 0 if self.trims else len(self.entries)
        return StreamFull if held + len(events) > self.max_events else None

    def append(self, key: str | None, events: list[bytes], *, ids: list[Cursor]) -> None:
        assert [id.seq for id in ids] == list(range(self.last.seq + 1, self.last.seq + 1 + len(events)))
        assert ids[0] > self.last
        self.entries += [Entry(*id, event) for id, event in zip(ids, events, strict=True)]
        if self.trims:
            self.entries = self.entries[-self.max_events :]
        self.last = ids[-1]
        if key is not None:
            self.keys[key] = events, ids


@settings(max_examples=80, deadline=None)
@given(steps=STEPS, trims=st.booleans())
def test_whatever_order_appends_retries_and_ends_come_in_the_feed_is_what_a_list_would_be(
    redis_url: str, steps: list[Any], trims: bool
) -> None:
    asyncio.run(_play(redis_url, steps, trims=trims))


async def _play(url: str, steps: list[Any], *, trims: bool) -> None:
    model = Model(max_events=4, trims=trims)
    async with LogConnection(url) as connection:
        await connection.redis.flushall()
        streams = Streams(connection)
        feeds = Feeds(connection, BOUNDS, streams=streams)
        config = FeedConfig(max_events=4, on_full="trim" if trims else "refuse")
        await feeds.create(ID, config, tenant=TENANT)
        for number, step in enumerate(steps):
            match step:
                case ("append", key, count, body):
                    # Under a key the body is one of three; without, it is its own.
                    events = [text_of(f"{body}" if key else f"{number}", at) for at in range(count)]
                    expected = model.expected(key, events)
                    append = feeds.append(ID, events, tenant=TENANT, idempotency_key=key)
                    if isinstance(expected, type):
                        with pytest.raises(expected):
                            await append
                        continue
                    taken = await append
                    assert taken.is_new is (expected is None)
                    if expected is None:
                        model.append(key, events, ids=taken.ids)
                    else:
                        assert taken.ids == expected
                case ("lose", count) if len(model.entries) > count and not model.is_over:
                    for entry in model.entries[-count:]:
                        await connection.redis.xdel(connection.keys.log(ID), str(entry.cursor))
                    model.entries = model.entries[:-count]
                    model.last = model.entries[-1].cursor
                case ("close",):
                    ended = await feeds.close(ID, END, tenant=TENANT)
                    if not model.is_over:
                        model.is_over = True
                        model.entries.append(Entry(*ended.last, END))
            assert await streams.read(ID) == model.entries


def test_as_many_keys_are_known_as_a_minute_of_repeating_needs() -> None:
    assert keys_kept(1) == KEYS_KEPT
    assert keys_kept(200) >= 200 * 60
