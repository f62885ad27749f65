"""A relay before a real server: what it forgets is half open, and what it loses is one push, whole."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from tests.hunt.system.relay import HuntRelay, open_relay, reply_end
from tests.hunt.system.servers import port_of
from tests.support.log.valkey import start_valkey

LIMIT_S = 10.0


@pytest.fixture
async def relay(tmp_path: Path) -> AsyncIterator[HuntRelay]:
    with start_valkey(tmp_path, port=0) as server:
        async with asyncio.timeout(LIMIT_S), open_relay(port_of(server)) as relay:
            yield relay


@asynccontextmanager
async def _open(relay: HuntRelay) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", relay.port)
    writer.write(b"PING\r\n")
    assert await reader.readexactly(7) == b"+PONG\r\n"
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def test_a_forgotten_connection_stays_open_and_silent_until_the_relay_is_healed(relay: HuntRelay) -> None:
    async with _open(relay) as (reader, writer):
        relay.forget(1.0, seed=0)
        writer.write(b"PING\r\n")
        async with _open(relay):  # a new one works, and what the old one sent had the time to be answered
            assert not reader.at_eof()
            assert not reader._buffer  # type: ignore[attr-defined]
        relay.heal()
        assert await reader.read() == b""


@pytest.mark.parametrize("share", [0.0, 1.0])
async def test_pushes_of_live_channels_are_lost_whole_and_the_rest_passes(relay: HuntRelay, share: float) -> None:
    async with _open(relay) as (reader, writer), _open(relay) as (_, sender):
        for channel, answer in ((b"bc:{a}:live", b":1\r\n"), (b"probe", b":2\r\n")):
            writer.write(b"SSUBSCRIBE %s\r\n" % channel)
            await reader.readuntil(answer)
        relay.lose(share, seed=0)
        sender.write(b"SPUBLISH bc:{a}:live 1\r\nSPUBLISH bc:{a}:live 22\r\nSPUBLISH probe 333\r\n")
        received = await reader.readuntil(b"333\r\n")
    assert (b":live" in received) == (share == 0.0)
    assert received.count(b"*3\r\n") == (3 if share == 0.0 else 1)


def test_a_reply_that_is_cut_anywhere_is_not_whole() -> None:
    for raw in (b"+OK\r\n", b":12\r\n", b"$-1\r\n", b"*3\r\n$1\r\na\r\n:4\r\n*1\r\n$2\r\n\r\n\r\n"):
        assert reply_end(raw, 0) == len(raw)
        assert [reply_end(raw[:at], 0) for at in range(len(raw))] == [None] * len(raw)
