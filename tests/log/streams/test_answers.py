"""Answers are read as redis-py reads them, wherever their bytes are cut, and no slower than it does when none comes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis import exceptions as rex
from redis.asyncio.connection import Connection

from broadcaster.log.redis.connection_types import CONNECTION_TYPES

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


async def read_all(kind: type[Connection], pieces: Sequence[bytes], *, count: int) -> list[object]:
    """What was read, errors by their type and text; nothing more once the connection is given up."""
    results: list[object] = []
    async with connected(kind, pieces) as connection:
        for at in range(count):
            try:
                answer = await connection.read_response(disable_decoding=at % 2 == 0)
            except rex.RedisError as error:
                results.append((type(error), str(error)))
            else:
                results.append([repr(each) for each in answer] if isinstance(answer, list) else answer)
            if not connection.is_connected:
                results.append("given up")
                break
    return results


@settings(deadline=None)  # each example opens two connections
@given(answers=st.lists(ANSWERS, min_size=1, max_size=6), data=st.data())
def test_answers_are_read_as_redis_py_reads_them(answers: list[bytes], data: st.DataObject) -> None:
    whole = b"".join(answers)
    cut = data.draw(st.integers(0, len(whole)))
    pieces = [piece for piece in (whole[:cut], whole[cut:]) if piece]
    ours = CONNECTION_TYPES[Connection]

    async def both() -> tuple[list[object], list[object]]:
        count = len(answers)
        return await read_all(ours, pieces, count=count), await read_all(Connection, pieces, count=count)  # type: ignore[arg-type]

    read, expected = asyncio.run(both())
    assert read == expected


async def test_an_answer_of_which_only_a_part_has_come_still_has_its_deadline() -> None:
    async with connected(CONNECTION_TYPES[Connection], [b"+OK\r\n$5\r\nab"]) as connection:  # type: ignore[arg-type]
        assert await connection.read_response() == b"OK"
        connection.socket_timeout = 0.05
        with pytest.raises(rex.TimeoutError):
            await connection.read_response()
        assert not connection.is_connected


async def test_bytes_that_are_no_answer_end_the_connection() -> None:
    async with connected(CONNECTION_TYPES[Connection], [b"+OK\r\nnonsense\r\n"]) as connection:  # type: ignore[arg-type]
        assert await connection.read_response() == b"OK"
        with pytest.raises(rex.InvalidResponse):
            await connection.read_response()
        assert not connection.is_connected
