"""A failover under an answer, over TLS and on both event loops: the calls that hang at the old primary are repeated.

The cluster is one Valkey. It announces itself at one of two TLS relays, which are the old and the new primary.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
import uvloop

from broadcaster import Broadcaster
from broadcaster.client.stream import EntryReceived
from broadcaster.core.events import TextDelta
from tests.support.log.redis_sentinel import execute_at
from tests.support.log.valkey import start_valkey
from tests.support.servers.certificates import loopback_certificate, serving_with
from tests.support.servers.ports import draw_ports
from tests.support.servers.redis_relay import RedisRelay, open_redis_relay

DEADLINE_S: Final = 25.0
HANGS_S: Final = 60.0
"""What a call may take at a server that hangs: longer than the test."""


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    """Of a cluster of one server."""
    port, bus_port = draw_ports(2)
    options = ("--cluster-enabled", "yes", "--cluster-port", str(bus_port), "--cluster-announce-ip", "127.0.0.1")
    with start_valkey(tmp_path, port=port, options=options):
        execute_at(port, "CLUSTER", "ADDSLOTSRANGE", "0", "16383")
        yield port


@dataclass(frozen=True)
class Primaries:
    """The relays before the server at ``port``."""

    port: int
    old: RedisRelay
    new: RedisRelay

    def announce(self, relay: RedisRelay) -> None:
        """The slots are there from now on."""
        execute_at(self.port, "CONFIG", "SET", "cluster-announce-port", str(relay.port))

    def url(self, certificate: Path) -> str:
        """The URL of the cluster; its certificate is checked."""
        hosts = ",".join(f"127.0.0.1:{relay.port}" for relay in (self.old, self.new))
        return f"rediss+cluster://{hosts}?ssl_ca_certs={certificate}"


@asynccontextmanager
async def primaries(port: int, tls: ssl.SSLContext) -> AsyncIterator[Primaries]:
    """Two, of which the old one serves."""
    target = f"redis://127.0.0.1:{port}"
    async with open_redis_relay(target, tls=tls) as old, open_redis_relay(target, tls=tls) as new:
        both = Primaries(port, old, new)
        both.announce(old)
        await until(lambda: b"cluster_state:ok" in execute_at(port, "CLUSTER", "INFO"))
        yield both


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.mark.second_engine
@pytest.mark.parametrize("loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_an_answer_over_tls_outlives_a_primary_that_hangs_and_is_replaced(
    port: int, tmp_path: Path, loop_factory: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    async def publish() -> tuple[str, str]:
        certificate = loopback_certificate(tmp_path)
        async with (
            primaries(port, serving_with(certificate)) as both,
            Broadcaster.from_url(both.url(certificate), redis_timeout_s=HANGS_S, drain_s=0) as broadcaster,
        ):

            async def tokens() -> AsyncIterator[str]:
                yield "one "
                await until(lambda: b"one " in b"".join(both.old.writes))
                both.old.close()
                yield "two "
                await until(lambda: b"two " in b"".join(both.old.writes))
                both.announce(both.new)
                yield "three"

            async with asyncio.timeout(DEADLINE_S):
                watching = asyncio.create_task(watched(broadcaster))
                result = await broadcaster.publish(tokens(), id="answer")
                assert not both.old.is_open
                return result.text, await watching

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        assert runner.run(publish()) == ("one two three", "one two three")


async def watched(broadcaster: Broadcaster) -> str:
    """The text that a reader gets."""
    text = ""
    async for each in broadcaster.events("answer", wait_s=DEADLINE_S):
        assert isinstance(each, EntryReceived)
        if isinstance(each.event, TextDelta):
            text += each.event.delta
    return text
