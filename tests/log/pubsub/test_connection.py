"""The subscriber connection: how it is dialled, kept up, and kept in line with what is wanted."""

from __future__ import annotations

import asyncio
import contextlib
import random
import ssl
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

import pytest

from broadcaster.core.backoff import BackOff
from broadcaster.core.cursor import START, Cursor
from broadcaster.core.entry import Entry
from broadcaster.core.notices import StallReason
from broadcaster.errors import LogUnavailable, SetupError
from broadcaster.log.pubsub.connection import SubscriberOptions
from broadcaster.log.redis.address import NodeAddress
from broadcaster.log.redis.connect import LogConnection
from broadcaster.log.streams.reader import Streams
from broadcaster.log.streams.tails import Tail
from broadcaster.log.tail.options import TailTimes
from broadcaster.log.tail.tail import LiveTail
from tests.support.log.given_topology import GivenTopology
from tests.support.log.tail_world import (
    DEADLINE_S,
    NEVER_S,
    NO_PROBES,
    PUSHES_ONLY,
    Room,
    Writer,
    open_tail,
    single,
    subscriber_ids,
    until,
)
from tests.support.log.valkey import start_valkey
from tests.support.servers.certificates import loopback_certificate, serving_with
from tests.support.servers.redis_relay import open_redis_relay

P = TypeVar("P", bound=asyncio.Protocol)


@pytest.fixture(scope="module")
def certificate() -> Iterator[Path]:
    """Of 127.0.0.1, with its key."""
    with tempfile.TemporaryDirectory(prefix="bc-") as folder:
        yield loopback_certificate(Path(folder))


# ------------------------------------------------------------------------------------------------------------ addresses


def test_a_url_names_address_and_user() -> None:
    assert NodeAddress.from_url("redis://me:p%40ss@example.test:7000/3") == NodeAddress(
        "example.test", 7000, username="me", password="p@ss"
    )
    assert NodeAddress.from_url("unix:///run/redis.sock?db=2").path == "/run/redis.sock"
    assert NodeAddress.from_url("redis://").port == 6379


def test_a_password_is_sent_and_never_printed() -> None:
    address = NodeAddress.from_url("redis://me:secret@example.test")

    assert address.greeting() == ("AUTH", "me", "secret")
    assert NodeAddress.from_url("redis://:secret@example.test").greeting() == ("AUTH", "secret")
    assert NodeAddress.from_url("redis://example.test").greeting() == ()
    assert "secret" not in repr(address)


def test_a_tls_url_checks_the_server_unless_switched_off() -> None:
    strict = NodeAddress.from_url("rediss://example.test").tls
    loose = NodeAddress.from_url("rediss://example.test?ssl_cert_reqs=none").tls

    assert strict is not None
    assert (strict.get().verify_mode, strict.get().check_hostname) == (ssl.CERT_REQUIRED, True)
    assert loose is not None
    assert (loose.get().verify_mode, loose.get().check_hostname) == (ssl.CERT_NONE, False)


def test_a_tls_url_bounds_ciphers_versions_and_flags_of_every_connection() -> None:
    options = (
        "ssl_min_version=772&ssl_ciphers=ECDHE-RSA-AES256-GCM-SHA384&ssl_include_verify_flags=VERIFY_CRL_CHECK_LEAF"
    )
    tls = NodeAddress.from_url(f"rediss://example.test?{options}").tls

    assert tls is not None
    assert tls.get().minimum_version is ssl.TLSVersion.TLSv1_3
    assert "ECDHE-RSA-AES128-GCM-SHA256" not in [each["name"] for each in tls.get().get_ciphers()]
    assert tls.get().verify_flags & ssl.VerifyFlags.VERIFY_CRL_CHECK_LEAF


@pytest.mark.parametrize(
    "url", ["http://example.test", "rediss://h?ssl_cert_reqs=maybe", "rediss://h?ssl_ca_certs=/no"]
)
def test_a_url_that_cannot_be_used_is_a_matter_of_set_up(url: str) -> None:
    with pytest.raises(SetupError):
        NodeAddress.from_url(url)


# ------------------------------------------------------------------------------------------------------------ dialling


async def test_the_connection_comes_up_over_tcp_with_a_password() -> None:
    with tempfile.TemporaryDirectory(prefix="bc-") as folder:
        with start_valkey(Path(folder), port=0, options=("--requirepass", "secret")) as guarded:
            async with open_tail(guarded.url.replace("redis://", "redis://:secret@")) as world:
                room, _ = await world.watch_live("s")
                await room.holds(await world.writer.append("s"))


async def test_a_wrong_password_is_reported_as_unavailable() -> None:
    with tempfile.TemporaryDirectory(prefix="bc-") as folder:
        with start_valkey(Path(folder), port=0, options=("--requirepass", "secret")) as guarded:
            right = guarded.url.replace("redis://", "redis://:secret@")
            wrong = NodeAddress.from_url(guarded.url.replace("redis://", "redis://:wrong@"))
            async with open_tail(right, dialer=wrong) as world:
                room, watch = world.watch("s")
                await room.until(lambda: room.stall is StallReason.LOG_UNAVAILABLE)

                watch.close()
                with pytest.raises(LogUnavailable):
                    await watch.synced()


@pytest.mark.parametrize("option", ["ssl_ca_certs", "ssl_ca_data"])
async def test_the_connection_comes_up_over_tls_and_checks_the_certificate(
    redis_url: str, certificate: Path, option: str
) -> None:
    async with open_redis_relay(redis_url, tls=serving_with(certificate)) as relay:
        value = certificate if option == "ssl_ca_certs" else quote(Path(f"{certificate}.crt").read_text(), safe="")
        trusted = f"rediss://127.0.0.1:{relay.port}?{option}={value}"
        async with LogConnection(trusted) as commands:
            await commands.ping()
        async with open_tail(redis_url, via=trusted) as world:
            room, _ = await world.watch_live("s")
            await room.holds(await world.writer.append("s"))

        unknown = NodeAddress.from_url(f"rediss://127.0.0.1:{relay.port}")
        async with open_tail(redis_url, dialer=unknown) as world:
            room, _ = world.watch("s")
            await room.until(lambda: room.stall is StallReason.LOG_UNAVAILABLE)


async def test_a_server_that_confirms_nothing_is_reconnected(redis_url: str) -> None:
    options = SubscriberOptions(connect_s=0.1, backoff=BackOff(0.01, 0.02))
    async with open_redis_relay(redis_url) as relay:
        relay.is_deaf = True
        async with open_tail(redis_url, via=relay.url, subscriber=options) as world:
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


async def test_whatever_a_dialer_raises_it_is_retried(redis_url: str) -> None:
    dialer = StumblingDialer(redis_url, [OSError("refused"), RuntimeError("a fault"), UnicodeError("idna")])
    async with open_tail(redis_url, dialer=dialer) as world:
        await world.watch_live("s")


async def test_a_connection_that_worked_is_replaced_at_once(redis_url: str) -> None:
    """The back-off grows with failures in a row, not with the losses of a long life."""
    dialer = StumblingDialer(redis_url, [OSError("refused")] * 5)
    options = replace(NO_PROBES, backoff=BackOff(0.01, NEVER_S))
    async with open_tail(redis_url, dialer=dialer, subscriber=options) as world:
        room, _ = await world.watch_live("s")
        for _ in range(11):
            assert await world.kill_subscribers() == 1
            written = await world.writer.append("s", push="none")
            await room.until(lambda: room.last_seq == written[0].seq)  # noqa: B023


# ------------------------------------------------------------------------------------------------------- several nodes


class TwoLogs:
    """Streams of two servers, distinguished by their ids."""

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


async def test_each_node_has_its_connection_and_its_streams(redis_url: str) -> None:
    with tempfile.TemporaryDirectory(prefix="bc-") as folder, start_valkey(Path(folder)) as other:
        async with LogConnection(redis_url) as first, LogConnection(other.url) as second:
            connections = [first, second]
            options = SubscriberOptions(probe_every_s=0.02, probe_s=0.5)
            probes = [0, 0]

            async def publish(channel: str, payload: bytes) -> None:
                probes[_node_of(channel)] += 1
                await connections[_node_of(channel)].redis.spublish(channel, payload)

            async with LiveTail(
                GivenTopology(
                    {"0": NodeAddress.from_url(redis_url), "1": NodeAddress.from_url(other.url)},
                    lambda channel: str(_node_of(channel)),
                ),
                TwoLogs([Streams(first), Streams(second)]),
                keys=first.keys,
                publish_probe=publish,
                subscriber=options,
            ) as tail:
                rooms = {name: Room() for name in ("n1", "n2", "n3", "n4")}
                for name, room in rooms.items():
                    watch = tail.watch(name, room)
                    await watch.synced()
                    writer = Writer(connections[_node_of(name)])
                    await room.holds(await writer.append(name, 2))
                before = [await subscriber_ids(each.redis) for each in connections]
                await until(lambda: min(probes) > 3)
                assert [await subscriber_ids(each.redis) for each in connections] == before
                assert [len(each) for each in before] == [1, 1]


async def test_each_probe_belongs_to_the_node_of_its_connection(redis_url: str) -> None:
    """In a cluster a node serves only the channels of its own slots."""
    probed: set[str] = set()

    async def publish(channel: str, payload: bytes) -> None:
        probed.add(channel)

    def node_of(channel: str) -> str:
        return str(sum(channel.encode()) % 16)

    async with LogConnection(redis_url) as connection:
        async with LiveTail(
            GivenTopology({str(number): NodeAddress.from_url(redis_url) for number in range(16)}, node_of),
            Streams(connection),
            keys=connection.keys,
            publish_probe=publish,
            times=PUSHES_ONLY,
            subscriber=replace(NO_PROBES, probe_every_s=0.01),
        ):
            await until(lambda: len(probed) == 16)

    assert {node_of(channel) for channel in probed} == {str(number) for number in range(16)}


# ----------------------------------------------------------------------------------------------- the tail's own failure


class BrokenRandom(random.Random):
    """A fault inside the tail's own loops, once ``is_broken`` is set."""

    is_broken = False

    def random(self) -> float:
        if self.is_broken:
            raise ArithmeticError("no more numbers")
        return super().random()


async def test_a_tail_that_fails_notifies_its_rooms_and_raises_where_it_was_opened(redis_url: str) -> None:
    rng = BrokenRandom()
    room = Room()
    with pytest.raises(ExceptionGroup) as raised:
        async with LogConnection(redis_url) as connection:
            await connection.redis.flushall()
            async with LiveTail(
                single(redis_url),
                Streams(connection),
                keys=connection.keys,
                publish_probe=connection.redis.spublish,
                times=PUSHES_ONLY,
                subscriber=NO_PROBES,
                rng=rng,
            ) as tail:
                watch = tail.watch("s", room)
                await watch.synced()
                rng.is_broken = True
                await connection.redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")

                await room.until(lambda: room.stall is StallReason.LOG_UNAVAILABLE)
                assert watch.is_closed
                with pytest.raises(LogUnavailable):
                    tail.watch("t", room)

    assert raised.group_contains(ArithmeticError)


async def test_a_room_that_fails_at_a_stall_notice_disturbs_no_other(redis_url: str) -> None:
    times = TailTimes(tail_check_min_s=0.02, tail_check_max_s=0.03, stall_notice_s=0.0)
    async with open_tail(redis_url, times=times) as world:
        room, _ = await world.watch_live("s")
        other, _ = await world.watch_live("t")

        calls: list[str] = []

        def fail(name: str) -> None:
            calls.append(name)
            raise RuntimeError("the sink fails")

        room.on_call = fail
        for name in ("s", "t"):
            await world.writer.set_worker(name, leased=False)

        await other.until(lambda: other.stall is StallReason.WORKER_LOST)
        await until(lambda: calls == ["stalled"])


async def test_a_client_that_swallows_a_cancellation_does_not_keep_the_tail_from_ending(redis_url: str) -> None:
    publishing = asyncio.Event()

    async def swallow_once(channel: str, payload: bytes) -> None:
        if not publishing.is_set():
            publishing.set()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()

    options = replace(NO_PROBES, probe_every_s=0.01, probe_s=NEVER_S)
    async with LogConnection(redis_url) as connection, asyncio.timeout(DEADLINE_S):
        async with LiveTail(
            single(redis_url),
            Streams(connection),
            keys=connection.keys,
            publish_probe=swallow_once,
            times=PUSHES_ONLY,
            subscriber=options,
        ):
            await publishing.wait()
