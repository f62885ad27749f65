"""The subscriber connection: how it is dialled, kept up, and kept in line with what is wanted."""

from __future__ import annotations

import asyncio
import random
import ssl
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import hiredis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadcaster.core.cursor import START, Cursor
from broadcaster.core.entry import Entry
from broadcaster.core.notices import StallReason
from broadcaster.errors import LogUnavailable, SetupError
from broadcaster.log.connect import LogConnection
from broadcaster.log.feed import Feed
from broadcaster.log.feed_address import NodeAddress
from broadcaster.log.feed_options import FeedTimes
from broadcaster.log.feed_session import Session
from broadcaster.log.streams import Streams, Tail
from tests.support.feed_log import DEADLINE_S, PUSHES_ONLY, Room, Writer, open_feed, until
from tests.support.relay import open_relay
from tests.support.valkey import ValkeyServer, start_valkey

P = TypeVar("P", bound=asyncio.Protocol)


@pytest.fixture(scope="module")
def server() -> Iterator[ValkeyServer]:
    with tempfile.TemporaryDirectory(prefix="bc-") as folder, start_valkey(Path(folder)) as running:
        yield running


@pytest.fixture(scope="module")
def certificate() -> Iterator[Path]:
    """A folder with ``cert.pem`` and ``key.pem`` for 127.0.0.1."""
    with tempfile.TemporaryDirectory(prefix="bc-") as folder:
        subprocess.run(
            [
                *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
                *("-keyout", f"{folder}/key.pem", "-out", f"{folder}/cert.pem", "-days", "2"),
                *("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"),
            ],
            check=True,
            capture_output=True,
        )
        yield Path(folder)


# ------------------------------------------------------------------------------------------------------------ addresses


def test_a_url_says_where_and_as_whom() -> None:
    assert NodeAddress.from_url("redis://me:p%40ss@example.test:7000/3") == NodeAddress(
        "example.test", 7000, username="me", password="p@ss"
    )
    assert NodeAddress.from_url("unix:///run/redis.sock?db=2").path == "/run/redis.sock"
    assert NodeAddress.from_url("redis://").port == 6379


def test_a_password_is_sent_and_never_shown() -> None:
    address = NodeAddress.from_url("redis://me:secret@example.test")

    assert address.greeting() == ("AUTH", "me", "secret")
    assert NodeAddress.from_url("redis://:secret@example.test").greeting() == ("AUTH", "secret")
    assert NodeAddress.from_url("redis://example.test").greeting() == ()
    assert "secret" not in repr(address)


def test_a_tls_url_checks_the_server_unless_told_otherwise() -> None:
    strict = NodeAddress.from_url("rediss://example.test").tls
    loose = NodeAddress.from_url("rediss://example.test?ssl_cert_reqs=none").tls

    assert strict is not None
    assert (strict.verify_mode, strict.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert loose is not None
    assert (loose.verify_mode, loose.check_hostname) == (ssl.CERT_NONE, False)


@pytest.mark.parametrize(
    "url", ["http://example.test", "rediss://h?ssl_cert_reqs=maybe", "rediss://h?ssl_ca_certs=/no"]
)
def test_a_url_that_cannot_be_used_is_a_matter_of_set_up(url: str) -> None:
    with pytest.raises(SetupError):
        NodeAddress.from_url(url)


# -------------------------------------------------------------------------------------------------------------- dialling


async def test_it_comes_up_over_tcp_with_a_password() -> None:
    with tempfile.TemporaryDirectory(prefix="bc-") as folder:
        with start_valkey(Path(folder), port=0, options=("--requirepass", "secret")) as guarded:
            async with open_feed(guarded.url.replace("redis://", "redis://:secret@")) as world:
                room, _ = await world.watch_live("s")
                await room.holds(await world.writer.append("s"))


async def test_a_wrong_password_is_told_as_unavailable() -> None:
    with tempfile.TemporaryDirectory(prefix="bc-") as folder:
        with start_valkey(Path(folder), port=0, options=("--requirepass", "secret")) as guarded:
            right = guarded.url.replace("redis://", "redis://:secret@")
            wrong = NodeAddress.from_url(guarded.url.replace("redis://", "redis://:wrong@"))
            async with open_feed(right, dialer=wrong) as world:
                room, watch = world.watch("s")
                await room.until(lambda: room.stall is StallReason.LOG_UNAVAILABLE)

                watch.close()
                with pytest.raises(LogUnavailable):
                    await watch.synced()


async def test_it_comes_up_over_tls_and_checks_the_certificate(server: ValkeyServer, certificate: Path) -> None:
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    async with open_relay(server.url, tls=serving) as relay:
        trusted = f"rediss://127.0.0.1:{relay.port}?ssl_ca_certs={certificate / 'cert.pem'}"
        async with open_feed(server.url, dialer=NodeAddress.from_url(trusted)) as world:
            room, _ = await world.watch_live("s")
            await room.holds(await world.writer.append("s"))

        unknown = NodeAddress.from_url(f"rediss://127.0.0.1:{relay.port}")
        async with open_feed(server.url, dialer=unknown) as world:
            room, _ = world.watch("s")
            await room.until(lambda: room.stall is StallReason.LOG_UNAVAILABLE)


async def test_a_server_that_confirms_nothing_is_dialled_again(server: ValkeyServer) -> None:
    times = FeedTimes(connect_s=0.1, backoff_first_s=0.01, backoff_cap_s=0.02)
    async with open_relay(server.url) as relay:
        relay.is_deaf = True
        async with open_feed(server.url, dialer=NodeAddress.from_url(relay.url), times=times) as world:
            _, watch = world.watch("s")
            await until(lambda: relay.connections >= 3)

            relay.is_deaf = False

            async with asyncio.timeout(DEADLINE_S):
                await watch.synced()


class StumblingDialer:
    """A dialer with a fault of its own, at first."""

    def __init__(self, url: str, errors: Sequence[Exception]) -> None:
        self._address = NodeAddress.from_url(url)
        self._errors = list(errors)

    async def dial(self, create_protocol: Callable[[], P]) -> P:
        if self._errors:
            raise self._errors.pop(0)
        return await self._address.dial(create_protocol)

    def greeting(self) -> tuple[str, ...]:
        return self._address.greeting()


async def test_whatever_a_dialer_raises_it_is_asked_again(server: ValkeyServer) -> None:
    dialer = StumblingDialer(server.url, [OSError("refused"), RuntimeError("a fault"), UnicodeError("idna")])
    async with open_feed(server.url, dialer=dialer) as world:
        await world.watch_live("s")


def test_the_back_off_doubles_is_capped_and_jittered() -> None:
    times = FeedTimes(backoff_first_s=0.1, backoff_cap_s=2.0)
    rng = random.Random(1)

    longest = [max(times.backoff_s(failures, rng) for _ in range(300)) for failures in range(1, 9)]
    shortest = [min(times.backoff_s(failures, rng) for _ in range(300)) for failures in range(1, 9)]

    for failures, (low, high) in enumerate(zip(shortest, longest, strict=True), start=1):
        full = min(2.0, 0.1 * 2 ** (failures - 1))
        assert full / 2 <= low < 0.6 * full
        assert 0.9 * full < high <= full
    assert times.backoff_s(10_000, rng) <= 2.0


# --------------------------------------------------------------------------------------------------------- several nodes


class TwoLogs:
    """Streams of two servers, told apart by their ids."""

    def __init__(self, logs: Sequence[Streams]) -> None:
        self._logs = logs

    async def read(self, stream_id: str, *, after: Cursor = START, count: int = 1000) -> list[Entry]:
        return await self._logs[_node_of(stream_id)].read(stream_id, after=after, count=count)

    async def tails(self, stream_ids: Sequence[str]) -> list[Tail]:
        return [(await self._logs[_node_of(stream_id)].tails([stream_id]))[0] for stream_id in stream_ids]


def _node_of(name: str) -> int:
    """The node of a stream id, or of a channel by its hash tag."""
    tag = name.partition("{")[2].partition("}")[0] or name
    return sum(tag.encode()) % 2


async def test_each_node_has_its_connection_and_its_streams(server: ValkeyServer) -> None:
    with tempfile.TemporaryDirectory(prefix="bc-") as folder, start_valkey(Path(folder)) as other:
        async with LogConnection.open(server.url) as first, LogConnection.open(other.url) as second:
            connections = [first, second]
            times = FeedTimes(probe_every_s=0.02, probe_s=0.5)
            async with Feed.open(
                [NodeAddress.from_url(server.url), NodeAddress.from_url(other.url)],
                TwoLogs([Streams(first), Streams(second)]),
                keys=first.keys,
                publish_probe=lambda channel, word: connections[_node_of(channel)].redis.spublish(channel, word),
                node_of=_node_of,
                times=times,
            ) as feed:
                rooms = {name: Room() for name in ("n1", "n2", "n3", "n4")}
                for name, room in rooms.items():
                    watch = feed.watch(name, room)
                    await watch.synced()
                    writer = Writer(connections[_node_of(name)])
                    await room.holds(await writer.append(name, 2))
                assert feed.stats.connects == 2
                assert feed.stats.probe_failures == 0


# ------------------------------------------------------------------------------------------------ the feed's own failure


class BrokenRandom(random.Random):
    """A fault inside the feed's own loops, when the test says so."""

    is_broken = False

    def uniform(self, a: float, b: float) -> float:
        if self.is_broken:
            raise ArithmeticError("no more numbers")
        return super().uniform(a, b)


async def test_a_feed_that_fails_tells_its_rooms_and_whoever_opened_it(server: ValkeyServer) -> None:
    rng = BrokenRandom()
    room = Room()
    with pytest.raises(ExceptionGroup) as raised:
        async with LogConnection.open(server.url) as connection:
            await connection.redis.flushall()
            async with Feed.open(
                [NodeAddress.from_url(server.url)],
                Streams(connection),
                keys=connection.keys,
                publish_probe=connection.redis.spublish,
                times=PUSHES_ONLY,
                rng=rng,
            ) as feed:
                watch = feed.watch("s", room)
                await watch.synced()
                rng.is_broken = True
                await connection.redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")

                await room.until(lambda: room.stall is StallReason.LOG_UNAVAILABLE)
                assert watch.is_closed
                with pytest.raises(LogUnavailable):
                    feed.watch("t", room)

    assert raised.group_contains(ArithmeticError)


async def test_a_room_that_fails_when_it_is_told_of_a_stall_harms_nobody(server: ValkeyServer) -> None:
    times = FeedTimes(tail_check_min_s=0.02, tail_check_max_s=0.03, stall_notice_s=0.0)
    async with open_feed(server.url, times=times) as world:
        room, _ = await world.watch_live("s")
        other, _ = await world.watch_live("t")

        def fail(name: str) -> None:
            raise RuntimeError("the sink fails")

        room.on_call = fail
        for name in ("s", "t"):
            await world.writer.set_worker(name, leased=False)

        await other.until(lambda: other.stall is StallReason.WORKER_LOST)
        await until(lambda: world.feed.stats.crashes == 1)


# ---------------------------------------------------------------------------------------------------- wanted and confirmed


@dataclass
class Ear:
    """A listener that remembers when the server had it subscribed."""

    subscriptions: int = 0
    heard: list[bytes] = field(default_factory=list)

    def push(self, payload: bytes) -> None:
        self.heard.append(payload)

    def subscribed(self) -> None:
        self.subscriptions += 1

    def lost(self) -> None:
        self.subscriptions = 0


class Wire(asyncio.Transport):
    """A transport to a server in miniature, which takes one command and says one word at a time."""

    def __init__(self) -> None:
        super().__init__()
        self._commands = hiredis.Reader()
        self.answers: list[bytes] = []
        self.channels: set[bytes] = set()
        self.was_aborted = False

    def write(self, data: Any) -> None:
        self._commands.feed(bytes(data))

    def abort(self) -> None:
        self.was_aborted = True

    def take_command(self) -> bool:
        command = self._commands.gets()
        if not command:
            return False
        kind, channel = command
        self.channels.symmetric_difference_update({channel})
        kind = kind.lower()
        assert (kind == b"ssubscribe") == (channel in self.channels), "a command that changes nothing"
        self.answers.append(b"*3\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n:1\r\n" % (len(kind), kind, len(channel), channel))
        return True

    def publish(self, channel: bytes) -> None:
        if channel in self.channels:
            self.answers.append(b"*3\r\n$8\r\nsmessage\r\n$%d\r\n%s\r\n$1\r\nx\r\n" % (len(channel), channel))


@given(st.lists(st.sampled_from(["a+", "a-", "b+", "b-", "turn", "serve", "hear"]), max_size=40))
async def test_the_server_ends_up_with_what_is_wanted_and_every_listener_is_told(actions: list[str]) -> None:
    wanted: dict[bytes, Ear] = {}
    session = Session(wanted, reply_bytes=1000)
    wire = Wire()
    session.connection_made(wire)
    session.start(())

    async def act(action: str) -> None:
        channel = action[:1].encode()
        if action.endswith("+") and channel not in wanted:
            wanted[channel] = Ear()
            session.change(channel)
        elif action.endswith("-") and channel in wanted:
            del wanted[channel]
            session.change(channel)
        elif action == "turn":
            await asyncio.sleep(0)
        elif action == "serve":
            wire.take_command()
        elif action == "hear" and wire.answers:
            session.data_received(wire.answers.pop(0))

    for action in actions:
        await act(action)
    for action in ["turn", *["serve", "hear"] * 60]:
        await act(action)
    for channel in wanted:
        wire.publish(channel)
        await act("hear")

    assert wire.channels == set(wanted)
    assert all(ear.subscriptions >= 1 and ear.heard[-1:] == [b"x"] for ear in wanted.values())
    assert not wire.was_aborted


async def test_a_change_after_the_end_is_without_effect() -> None:
    session = Session({}, reply_bytes=1000)
    wire = Wire()
    session.connection_made(wire)
    session.drop("enough")
    session.drop("again")

    session.change(b"a")
    await asyncio.sleep(0)
    session.connection_lost(None)

    assert (wire.was_aborted, session.reason, wire.take_command()) == (True, "enough", False)
