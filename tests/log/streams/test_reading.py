"""Reading a stream while it is written: two reads of Redis are not one moment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from broadcaster.core.cursor import START, Cursor
from broadcaster.core.events import Finish, encode_event
from broadcaster.core.requests.titles import TITLE_CHARS
from broadcaster.log.jobs.generations import GenerationRequest
from broadcaster.log.redis.connect import LogConnection
from broadcaster.log.streams.reader import Meta, Streams
from tests.support.log.log_world import World, delta

WHOLE = [delta("a"), delta("b"), encode_event(Finish())]


class EndsAfterTheFirstRead:
    """Redis as one reader sees it whose stream is written, terminal and all, right after its first XRANGE."""

    def __init__(self, world: World, stream_id: str, epoch: int, *, first_seq: int) -> None:
        self._world = world
        self._rest: tuple[str, int, int] | None = (stream_id, epoch, first_seq)

    async def xrange(self, *args: Any, **options: Any) -> Any:
        rows = await self._world.redis.xrange(*args, **options)
        if self._rest is not None:
            stream_id, epoch, first_seq = self._rest
            self._rest = None
            await self._world.append(stream_id, epoch, first_seq, WHOLE[first_seq - 1 :])
        return rows

    def __getattr__(self, name: str) -> Any:
        return getattr(self._world.redis, name)


class LogSeenBy:
    """What ``Streams`` needs of a connection, with the double in place of its client."""

    def __init__(self, world: World, redis: EndsAfterTheFirstRead) -> None:
        self.keys = world.keys
        self.redis = redis


def reader(world: World, stream_id: str, epoch: int, *, first_seq: int) -> Streams:
    seen_by: Any = LogSeenBy(world, EndsAfterTheFirstRead(world, stream_id, epoch, first_seq=first_seq))
    return Streams(seen_by)


async def test_a_stream_that_begins_and_ends_while_it_is_read_has_no_gap(connection: LogConnection) -> None:
    world = World(connection)
    stream_id, claim = await world.granted()
    streams = reader(world, stream_id, claim.epoch, first_seq=1)
    assert [each.event for each in await streams.read(stream_id, after=START)] == WHOLE


async def test_the_rest_of_a_stream_that_ends_while_it_is_read_has_no_gap(connection: LogConnection) -> None:
    world = World(connection)
    stream_id, claim = await world.granted()
    await world.append(stream_id, claim.epoch, 1, WHOLE[:1])
    streams = reader(world, stream_id, claim.epoch, first_seq=2)
    rest = await streams.read(stream_id, after=Cursor(claim.epoch, 1))
    assert [each.event for each in rest] == WHOLE[1:]


async def test_many_streams_are_read_without_their_requests(connection: LogConnection) -> None:
    """A request may be 4 MB, and a sweep reads a thousand generations."""
    world = World(connection)
    request = {"messages": [{"role": "user", "content": "why\nis the sky " + "blue " * 1000}], "metadata": {"a": 1}}
    id = (await world.generations.create(GenerationRequest(model="local", request=request), tenant="a")).id
    whole = await world.streams.meta(id)
    assert whole is not None
    assert whole.request == request
    assert whole.title.startswith("why is the sky blue")
    assert len(whole.title) == TITLE_CHARS
    assert await world.streams.metas([id, "gen_none"]) == [replace(whole, request={}), None]


TEXTS = (
    *("tenant", "model", "worker", "stop", "title", "credential", "dead", "idempotency_key", "request_id", "surface"),
    *("content_type", "media_type", "expires_at", "webhook_fault"),
)
NUMBERS = (
    *("epoch", "attempts", "retention_ms", "lease_ms", "created_ms", "started_ms", "ended_ms", "deleted_ms", "ttl_s"),
    *("has_reused_id", "since_epoch", "webhook_attempts", "webhook_status", "asked_retention_ms"),
)
EVERY_FIELD: Mapping[bytes, bytes] = {
    **{name.encode(): b"a-text" for name in TEXTS},
    **{name.encode(): b"7" for name in NUMBERS},
    b"kind": b"feed",
    b"status": b"finished",
    b"priority": b"low",
    b"request": b'{"max_tokens":1}',
    b"on_worker_loss": b"fail",
    b"on_abandon": b"cancel",
    b"on_provider_loss": b"retry",
    b"terminal": WHOLE[-1],
    b"terminal_id": b"7-9",
    b"durable_tail": b"7-8",
    b"traceparent": b"00-%s-%s-01" % (b"a" * 32, b"b" * 16),
    b"tracestate": b"a=b",
    b"webhook": b'{"url":"https://hooks.example.com/h"}',
    b"webhook_state": b"delivered",
}


class ReadFields(Mapping[bytes, bytes]):
    """A hash that notes which of its fields are read."""

    def __init__(self, fields: Mapping[bytes, bytes]) -> None:
        self._fields = fields
        self.read = set[bytes]()

    def __getitem__(self, name: bytes) -> bytes:
        self.read.add(name)
        return self._fields[name]

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)


def test_every_field_that_is_read_has_a_value_that_is_no_default() -> None:
    fields = ReadFields(EVERY_FIELD)
    whole = Meta.from_hash("gen_1", fields)
    assert fields.read == EVERY_FIELD.keys()
    for name in EVERY_FIELD:
        without = {each: value for each, value in EVERY_FIELD.items() if each != name}
        assert Meta.from_hash("gen_1", without) != whole, name


async def test_of_many_streams_every_field_but_the_request_is_read(connection: LogConnection) -> None:
    world = World(connection)
    id = await world.create()
    await world.redis.hset(world.keys.meta(id), mapping=EVERY_FIELD)
    assert await world.streams.metas([id]) == [replace(Meta.from_hash(id, EVERY_FIELD), request={})]


async def test_where_a_stream_stands_is_read_without_its_newest_event(connection: LogConnection) -> None:
    world = World(connection)
    stream_id, claim = await world.granted()
    await world.append(stream_id, claim.epoch, 1, [delta("x" * 50_000)])
    await world.streams.tails([stream_id])  # the script is loaded
    await world.redis.config_resetstat()
    (tail,) = await world.streams.tails([stream_id])
    assert (tail.last, tail.status, tail.leased) == (Cursor(claim.epoch, 1), "running", True)
    assert (await world.redis.info("stats"))["total_net_output_bytes"] < 10_000
