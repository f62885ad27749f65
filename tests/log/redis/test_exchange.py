"""A write full of commands: its replies are read as redis-py reads them, and connections are shared in order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis import exceptions as rex
from redis.asyncio.connection import Connection

from broadcaster.log.redis.connection_types import CONNECTION_TYPES, CommandConnection
from broadcaster.log.redis.pool import NodePool
from broadcaster.log.redis.topology.nodes import Command, Node, NodeLimits, NotSent, pool_options
from tests.support.log.log_world import until

OURS: Any = CONNECTION_TYPES[Connection]

ERRORS = st.sampled_from([b"-ERR no\r\n", b"-NOSCRIPT none\r\n", b"-MOVED 1 127.0.0.1:1\r\n", b"-LOADING it\r\n"])
PLAIN = st.one_of(
    st.integers(-(2**40), 2**40).map(b":%d\r\n".__mod__),
    st.binary(max_size=200).map(lambda text: b"$%d\r\n%b\r\n" % (len(text), text)),
    st.sampled_from([b"+OK\r\n", b"$-1\r\n", b"*-1\r\n"]),
    ERRORS,
)
ANSWERS = st.recursive(
    PLAIN,
    lambda inner: st.lists(inner, max_size=4).map(lambda all_: b"*%d\r\n" % len(all_) + b"".join(all_)),
    max_leaves=8,
)


@asynccontextmanager
async def connected(kind: type[Connection], pieces: Sequence[bytes]) -> AsyncIterator[Any]:
    """A connection to a server that sends these pieces, each when the one before has been read, and then no more."""

    async def reply_later(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        await replied.wait()
        writer.close()

    replied = asyncio.Event()
    server = await asyncio.start_server(reply_later, "127.0.0.1", 0)
    connection = kind(port=server.sockets[0].getsockname()[1], protocol=2, driver_info=None)
    connection.socket_timeout = 5.0
    await connection.connect_check_health(check_health=False)
    try:
        yield connection
    finally:
        replied.set()
        await connection.disconnect(nowait=True)
        server.close()


async def read_as_redis_py_does(connection: Connection, count: int) -> list[object]:
    replies: list[object] = []
    for _ in range(count):
        try:
            replies.append(await connection.read_response())
        except rex.ResponseError as error:
            replies.append(error)
    return replies


async def read_in_an_exchange(connection: CommandConnection, count: int) -> list[object]:
    replies: list[object] = []
    await connection.exchange([("PING",)] * count, replies)
    return replies


async def outcome(replies: Awaitable[list[object]]) -> object:
    """The replies, errors by their type and text; or the error that ended it."""
    try:
        return repr(await replies)
    except rex.RedisError as error:
        return type(error), str(error)


@settings(deadline=None)  # each example opens two connections
@given(answers=st.lists(ANSWERS, min_size=1, max_size=6), data=st.data())
def test_replies_are_read_as_redis_py_reads_them(answers: list[bytes], data: st.DataObject) -> None:
    whole = b"".join(answers)
    cut = data.draw(st.integers(0, len(whole)))
    pieces = [piece for piece in (whole[:cut], whole[cut:]) if piece]

    async def both() -> tuple[object, object]:
        async with connected(OURS, pieces) as ours, connected(Connection, pieces) as theirs:
            return (
                await outcome(read_in_an_exchange(ours, len(answers))),
                await outcome(read_as_redis_py_does(theirs, len(answers))),
            )

    read, expected = asyncio.run(both())
    assert read == expected


async def test_replies_before_a_break_are_kept() -> None:
    async with connected(OURS, [b"+OK\r\n-LOADING it\r\n"]) as connection:
        replies: list[object] = []
        with pytest.raises(rex.BusyLoadingError):
            await connection.exchange([("PING",)] * 3, replies)
        assert replies == [b"OK"]


@asynccontextmanager
async def served(*pieces: bytes) -> AsyncIterator[tuple[Node, list[asyncio.StreamWriter]]]:
    """A node with two connections at most, whose server sends these pieces for the first bytes of each connection."""
    writers: list[asyncio.StreamWriter] = []

    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        await reader.read(1)
        for piece in pieces:
            writer.write(piece)
        await reader.read()
        writer.close()

    server = await asyncio.start_server(reply, "127.0.0.1", 0)
    pool = NodePool(
        connection_class=OURS,
        port=server.sockets[0].getsockname()[1],
        redis_connect_func=on_connect,
        **pool_options(NodeLimits(timeout_s=0.2, connect_timeout_s=0.2, max_connections=2)),
    )
    node = Node("it", pool, timeout_s=0.2)
    try:
        yield node, writers
    finally:
        await node.aclose()
        server.close()


async def on_connect(connection: Connection) -> None:
    connection._parser.on_connect(connection)


PING = Command(("PING",))


async def test_a_reply_of_which_only_a_part_has_come_has_the_deadline_of_the_write() -> None:
    async with served(b"+OK\r\n$5\r\nab") as (node, writers):
        with pytest.raises(rex.TimeoutError):
            await node.send([PING, PING])
        await until(writers[0].is_closing)


async def test_bytes_that_are_no_reply_end_the_connection() -> None:
    async with served(b"+OK\r\nnonsense\r\n") as (node, writers):
        with pytest.raises(rex.InvalidResponse):
            await node.send([PING, PING])
        await until(writers[0].is_closing)


async def test_a_connection_with_a_reply_too_many_is_not_used_for_the_next_write() -> None:
    async with served(b"+PONG\r\n+more\r\n") as (node, writers):
        assert await node.send([PING]) == [True]
        assert await node.send([PING]) == [True]
        assert len(writers) == 2


async def test_a_write_for_which_no_connection_becomes_free_was_not_sent_and_the_next_one_gets_one() -> None:
    async with served(b"+PONG\r\n") as (node, writers):
        held = [await node.pool.acquire() for _ in range(2)]
        with pytest.raises(NotSent, match="No connection available"):
            await node.send([PING])
        assert not writers
        node.pool.put_back(held[0])
        assert await node.send([PING]) == [True]


async def test_connections_are_given_out_in_order_and_none_is_lost_with_what_waited_for_it() -> None:
    pool = NodePool(connection_class=OURS, max_connections=1)
    first = await pool.acquire()
    waiting = [asyncio.create_task(pool.acquire()) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    pool.put_back(first)
    waiting[1].cancel()  # after it was given the connection
    assert await waiting[2] is first
    assert [each.cancelled() for each in waiting] == [True, True, False]
    late = [asyncio.create_task(pool.acquire()) for _ in range(2)]
    await asyncio.sleep(0)
    assert not any(each.done() for each in late)
    for each in late:
        pool.put_back(first)
        assert await each is first


@pytest.mark.parametrize(
    ("interval_s", "commands"), [(0, [b"GET", b"GET"]), (60, [b"PING", b"GET", b"GET", b"PING", b"GET"])]
)
async def test_an_idle_connection_is_checked_as_often_as_the_url_requests(
    interval_s: int, commands: list[bytes]
) -> None:
    received: list[bytes] = []

    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            for command in data.split(b"*")[1:]:
                received.extend(name for name in (b"GET", b"PING") if name in command)
                writer.write(b"+PONG\r\n" if b"PING" in command else b"+OK\r\n")
        writer.close()

    server = await asyncio.start_server(reply, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    node = Node.of_url(f"redis://127.0.0.1:{port}/?health_check_interval={interval_s}", NodeLimits(5, 5, 1))
    await node.send([Command(("GET", "k"))])
    await node.send([Command(("GET", "k"))])
    if interval_s:
        connection = await node.pool.acquire()
        connection.next_health_check -= interval_s + 1
        node.pool.put_back(connection)
        await node.send([Command(("GET", "k"))])
    assert received == commands
    await node.aclose()
    server.close()


async def test_a_server_that_accepts_and_sends_nothing_is_described() -> None:
    async with served() as (node, _):
        node.pool.connection_kwargs["redis_connect_func"] = None
        with pytest.raises(rex.ConnectionError, match=r"it: .*\w"):
            await node.send([PING])
