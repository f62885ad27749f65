"""Where the client of many servers sends what, and what it makes of their answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from typing import Final

import pytest
from redis import exceptions as rex

from broadcaster.errors import LogUnavailable
from broadcaster.log import terminals
from broadcaster.log.claims import ClaimPolicy, Claims
from broadcaster.log.connect import LogConnection, identities
from broadcaster.log.key_slots import SLOTS, slot_of
from broadcaster.log.lapses import Lapses
from broadcaster.log.nodes import NodeLimits
from broadcaster.log.presence import Abandonment
from broadcaster.log.redis_url import RedisUrl
from broadcaster.log.routed import RoutedRedis
from broadcaster.log.scripts import STOP, Call, run_all
from tests.support.given_routes import GivenRoutes
from tests.support.telling_server import Answer, TellingServer, open_telling

LIMITS: Final = NodeLimits(timeout_s=2.0, connect_timeout_s=2.0, max_connections=4)
ROLE: Final[Answer] = [b"master", 0, []]
KNOWN: Final[dict[str, Answer]] = {
    "CLIENT ID": 7,
    "ROLE": ROLE,
    "INFO server": b"run_id:abc\r\n",
    "TIME": [b"1", b"0"],
}
LOADING: Final = rex.BusyLoadingError("LOADING Redis is loading the dataset in memory")
AGAIN: Final = rex.ResponseError("TRYAGAIN Multiple keys request during rehashing of slot")


def name(server: TellingServer) -> str:
    return f"127.0.0.1:{server.port}"


@asynccontextmanager
async def client_of(routes: GivenRoutes, *, patience_s: float = 0.0) -> AsyncIterator[RoutedRedis]:
    """A client whose routes are the test's."""
    client = RoutedRedis(RedisUrl.parse("redis+cluster://127.0.0.1:1"), routes, LIMITS, patience_s=patience_s)
    try:
        yield client
    finally:
        await client.aclose()


@pytest.fixture
async def servers() -> AsyncIterator[list[TellingServer]]:
    """Four that greet and say PONG."""
    async with AsyncExitStack() as stack:
        opened = [await stack.enter_async_context(open_telling(CLIENT=b"OK", PING=b"PONG")) for _ in range(4)]
        for each in opened:
            each.answers["GET k"] = name(each).encode()
        yield opened


def cluster_answers(*owners: tuple[int, int, TellingServer]) -> dict[str, Answer]:
    slots: Answer = [[first, last, [b"127.0.0.1", server.port, b"id"]] for first, last, server in owners]
    return {"CLUSTER INFO": b"cluster_state:ok", "CLUSTER SLOTS": slots}


async def test_callers_that_drop_the_same_servers_at_once_do_not_meet(servers: list[TellingServer]) -> None:
    routes = GivenRoutes(name(servers[0]))
    keys = {f"k{number}": name(server) for number, server in enumerate(servers)}
    routes.give(keys)
    async with client_of(routes) as client:
        for each in (await client.primaries()).values():
            assert await each.ping()
        serving = name(servers[0])
        routes.on_look = lambda: routes.give(dict.fromkeys(keys, serving))
        routes.doubt(serving)

        found = await asyncio.gather(*(client.primaries() for _ in range(5)))

        assert [set(each) for each in found] == [{serving}] * 5


async def test_a_call_that_a_server_does_not_even_read_ends_when_its_connection_is_closed() -> None:
    """What was written stays in our buffer: a connection that waited for it would never be closed."""
    reading = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while b"large" not in (data := await reader.read(4096)):
            writer.write(b"+OK\r\n" * data.count(b"CLIENT"))
        reading.set()
        reader._transport.pause_reading()  # type: ignore[attr-defined]  # as a process that stands still
        await asyncio.Event().wait()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=4096)
    routes, limits = GivenRoutes(f"127.0.0.1:{server.sockets[0].getsockname()[1]}"), LIMITS._replace(timeout_s=60)
    client = RoutedRedis(RedisUrl.parse("redis+cluster://127.0.0.1:1"), routes, limits, patience_s=0.0)
    async with aclosing(client):
        call = asyncio.ensure_future(client.set("large", bytes(64 * 2**20)))
        async with asyncio.timeout(30):
            await reading.wait()
            await client.aclose()
            with pytest.raises(rex.ConnectionError):
                await call
    server.close()


async def test_a_server_that_lost_its_last_slot_is_asked_nothing_more(servers: list[TellingServer]) -> None:
    left, right = servers[:2]
    for server in (left, right):
        server.answers |= cluster_answers((0, SLOTS - 2, left), (SLOTS - 1, SLOTS - 1, right))
        server.answers |= {**KNOWN, "DEL": 0}
    url = f"redis+cluster://{name(left)}"
    async with LogConnection.open(url, timeout_s=2.0) as connection:
        probe_key = "bc:{{p-{}}}".format
        found = await identities(connection.redis, probe_key=probe_key, look_within_s=60)
        assert set(found) == {name(left), name(right)}
        moved = rex.ResponseError(f"MOVED {SLOTS - 1} {name(left)}")
        key = next(each for each in map(probe_key, range(10**6)) if connection.server_of(each) == name(right))
        right.answers["GET"] = moved
        left.answers["GET"] = b"v"
        assert await connection.redis.get(key) == b"v"

        async with asyncio.timeout(5):
            assert set(await identities(connection.redis, probe_key=probe_key, look_within_s=60)) == {name(left)}


async def test_nobody_draws_for_ever_for_a_server_that_has_no_slot_any_more(servers: list[TellingServer]) -> None:
    for server in servers[:2]:
        server.answers |= {**KNOWN, "DEL": 0}
    routes = GivenRoutes(name(servers[0]))
    async with client_of(routes) as client, asyncio.timeout(20):
        routes.owners[0] = name(servers[1])

        def give_back(number: int) -> str:
            routes.owners[0] = name(servers[0])
            return f"only-{number}"

        with pytest.raises(rex.ClusterDownError):
            await client.identities(probe_key=give_back, look_within_s=60)


async def test_calls_that_were_executed_are_not_sent_again_when_a_later_one_finds_the_server_loading(
    servers: list[TellingServer],
) -> None:
    server = servers[0]
    server.answers |= {"SET": b"OK", "GET k": LOADING}
    async with client_of(GivenRoutes(name(server)), patience_s=0.3) as client:
        pipeline = client.pipeline()
        pipeline.set("k", "1")
        pipeline.get("k")
        pipeline.set("k", "2")

        done, loading, lost = await pipeline.execute(raise_on_error=False)

    assert done is True
    assert isinstance(loading, rex.BusyLoadingError)
    assert isinstance(lost, rex.ConnectionError)
    assert not isinstance(lost, rex.BusyLoadingError)
    assert [server.asked.count(f"SET k {value}") for value in (1, 2)] == [1, 1]
    assert server.asked.count("GET k") > 1


async def test_a_script_heals_where_a_server_without_slots_is_asked_for_one_that_it_is_given(
    servers: list[TellingServer],
) -> None:
    source, target = servers[:2]
    source.answers["EVALSHA"] = source.answers["EVAL"] = rex.ResponseError(f"ASK 1 {name(target)}")
    target.answers |= {"ASKING": b"OK", "EVALSHA": rex.NoScriptError("NOSCRIPT No matching script."), "EVAL": 1}
    async with client_of(GivenRoutes(name(source))) as client:
        calls = [Call(STOP, ["m", "c"], ["stopped"])] * 2
        assert await run_all(client, calls) == [1, 1]


def key_in(slots: range) -> str:
    """A key of one of these slots."""
    return next(key for key in map("k{}".format, range(10**6)) if slot_of(key.encode()) in slots)


LEFT_KEY: Final = key_in(range(SLOTS // 2))
RIGHT_KEY: Final = key_in(range(SLOTS // 2, SLOTS))


def halves(servers: list[TellingServer]) -> list[TellingServer]:
    """Two of them, that share the keys, tell so, and have a clock each: 1 s and 2 s after the beginning of time."""
    left, right = servers[:2]
    for seconds, server in enumerate((left, right), 1):
        server.answers |= cluster_answers((0, SLOTS // 2 - 1, left), (SLOTS // 2, SLOTS - 1, right))
        server.answers |= {"TIME": [b"%d" % seconds, b"0"], "GET": b"v"}
    return [left, right]


async def test_a_clock_that_cannot_be_read_is_the_error_of_who_asks_for_it(servers: list[TellingServer]) -> None:
    left, right = halves(servers)
    right.answers["TIME"] = rex.ResponseError("MASTERDOWN Link with MASTER is down")
    async with LogConnection.open(f"redis+cluster://{name(left)}", patience_s=0.0) as connection:
        pipeline = connection.pipeline()
        pipeline.get(LEFT_KEY)
        pipeline.clock(LEFT_KEY)
        pipeline.clock(RIGHT_KEY)
        assert await pipeline.execute() == [b"v"]
        assert pipeline.now_ms(LEFT_KEY) == 1000
        with pytest.raises(rex.MasterDownError):
            pipeline.now_ms(RIGHT_KEY)


async def test_an_error_of_a_command_is_raised_beside_a_clock_too(servers: list[TellingServer]) -> None:
    left, _ = halves(servers)
    left.answers["GET"] = rex.ResponseError("WRONGTYPE")
    async with LogConnection.open(f"redis+cluster://{name(left)}", patience_s=0.0) as connection:
        pipeline = connection.pipeline()
        pipeline.clock(RIGHT_KEY)
        pipeline.get(LEFT_KEY)
        with pytest.raises(rex.ResponseError, match="WRONGTYPE"):
            await pipeline.execute()


async def test_who_knows_no_server_yet_looks_before_it_asks_for_clocks(servers: list[TellingServer]) -> None:
    left, right = halves(servers)
    async with LogConnection.open(f"redis+cluster://{name(left)}", patience_s=0.0) as connection:
        pipeline = connection.pipeline()
        for key in (LEFT_KEY, RIGHT_KEY):
            pipeline.clock(key)
        assert await pipeline.execute() == []
        assert (pipeline.now_ms(LEFT_KEY), pipeline.now_ms(RIGHT_KEY)) == (1000, 2000)
        assert [each.asked.count("TIME") for each in (left, right)] == [1, 1]


class Always:
    """Implements ``Steady``."""

    async def confirm(self) -> None:
        return None

    def has_answered_for(self, lease_s: float) -> bool:
        return True


async def test_what_rests_on_a_lapsed_lease_is_sent_once_and_never_repeated(servers: list[TellingServer]) -> None:
    server = servers[0]
    server.answers |= {**cluster_answers((0, SLOTS - 1, server)), "EVALSHA": AGAIN}
    async with LogConnection.open(f"redis+cluster://{name(server)}", timeout_s=2.0, patience_s=1.0) as connection:
        claims = Claims(connection, ClaimPolicy(400, 60_000, 60_000, 3), owner="w")
        with pytest.raises(LogUnavailable):
            await claims.claim("g", may_take_over=True)
        with pytest.raises(LogUnavailable):
            await claims.end("g", terminals.NO_WORKER, may_take_over=True)
        with pytest.raises(LogUnavailable):
            await Lapses(connection, steadiness=Always()).end("f", lease_ms=1000)
        assert await Abandonment(connection, grace_s=1, presence_ttl_s=60, steadiness=Always()).look(["g"]) == []
        assert sum(each.startswith("EVALSHA") for each in server.asked) == 4

        with pytest.raises(LogUnavailable):
            await claims.release("g", epoch=1)  # what rests on nothing is repeated
        assert sum(each.startswith("EVALSHA") for each in server.asked) > 5


async def test_an_impatient_call_does_not_go_to_a_server_that_it_has_just_learned_of(
    servers: list[TellingServer],
) -> None:
    old, new = servers[:2]
    routes = GivenRoutes(name(old))
    async with client_of(routes) as client:
        for caller, is_sent in ((client.impatient(), False), (client, True)):
            routes.owners = [name(old)] * SLOTS
            routes.doubt(name(old))
            routes.on_look = lambda: routes.owners.__setitem__(slice(None), [name(new)] * SLOTS)
            new.asked.clear()
            if is_sent:
                assert await caller.get("k") == name(new).encode()
            else:
                with pytest.raises(rex.TryAgainError):
                    await caller.get("k")
                assert new.asked == []
                assert await caller.get("k") == name(new).encode()  # by then its caller has looked again
