"""Where the client of many servers sends what, and what it makes of their answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from typing import Final

import pytest
from redis import exceptions as rex

from broadcaster.errors import LogUnavailable
from broadcaster.log.feeds.lapses import Lapses
from broadcaster.log.jobs.claims import ClaimPolicy, Claims
from broadcaster.log.redis.connect import LogConnection, identities
from broadcaster.log.redis.scripts import SCRIPTS, ScriptCall, run_all
from broadcaster.log.redis.topology.key_slots import SLOTS, slot_of
from broadcaster.log.redis.topology.nodes import NodeLimits
from broadcaster.log.redis.topology.placed_client import PlacedRedis
from broadcaster.log.redis.url import RedisUrl
from broadcaster.log.streams import terminals
from broadcaster.log.streams.presence import Abandonment
from tests.support.log.given_placement import GivenPlacement
from tests.support.servers.scripted_server import Reply, ScriptedServer, open_scripted

LIMITS: Final = NodeLimits(timeout_s=2.0, connect_timeout_s=2.0, max_connections=4)
ROLE: Final[Reply] = [b"master", 0, []]
KNOWN: Final[dict[str, Reply]] = {
    "CLIENT ID": 7,
    "ROLE": ROLE,
    "INFO server": b"run_id:abc\r\n",
    "TIME": [b"1", b"0"],
}
LOADING: Final = rex.BusyLoadingError("LOADING Redis is loading the dataset in memory")
TRYAGAIN: Final = rex.ResponseError("TRYAGAIN Multiple keys request during rehashing of slot")


def name(server: ScriptedServer) -> str:
    return f"127.0.0.1:{server.port}"


@asynccontextmanager
async def client_of(routes: GivenPlacement, *, patience_s: float = 0.0) -> AsyncIterator[PlacedRedis]:
    """A client whose routes are the test's."""
    client = PlacedRedis(RedisUrl.parse("redis+cluster://127.0.0.1:1"), routes, LIMITS, patience_s=patience_s)
    try:
        yield client
    finally:
        await client.aclose()


@pytest.fixture
async def servers() -> AsyncIterator[list[ScriptedServer]]:
    """Four that accept connections and reply PONG."""
    async with AsyncExitStack() as stack:
        opened = [await stack.enter_async_context(open_scripted(CLIENT=b"OK", PING=b"PONG")) for _ in range(4)]
        for each in opened:
            each.replies["GET k"] = name(each).encode()
        yield opened


def cluster_replies(*owners: tuple[int, int, ScriptedServer]) -> dict[str, Reply]:
    slots: Reply = [[first, last, [b"127.0.0.1", server.port, b"id"]] for first, last, server in owners]
    return {"CLUSTER INFO": b"cluster_state:ok", "CLUSTER SLOTS": slots}


async def test_callers_that_drop_the_same_servers_at_once_do_not_collide(servers: list[ScriptedServer]) -> None:
    routes = GivenPlacement(name(servers[0]))
    keys = {f"k{number}": name(server) for number, server in enumerate(servers)}
    routes.give(keys)
    async with client_of(routes) as client:
        for each in (await client.primaries()).values():
            assert await each.ping()
        serving = name(servers[0])
        routes.on_refresh = lambda: routes.give(dict.fromkeys(keys, serving))
        routes.doubt(serving)

        found = await asyncio.gather(*(client.primaries() for _ in range(5)))

        assert [set(each) for each in found] == [{serving}] * 5


async def test_a_call_that_a_server_does_not_even_read_ends_when_its_connection_is_closed() -> None:
    """What was written stays in our buffer: a connection that waited for it would never be closed."""
    reading = asyncio.Event()
    over = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while b"large" not in (data := await reader.read(4096)):
            writer.write(b"+OK\r\n" * data.count(b"CLIENT"))
        reading.set()
        reader._transport.pause_reading()  # type: ignore[attr-defined]  # as a process that stands still
        await over.wait()
        writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=4096)
    routes, limits = GivenPlacement(f"127.0.0.1:{server.sockets[0].getsockname()[1]}"), LIMITS._replace(timeout_s=60)
    client = PlacedRedis(RedisUrl.parse("redis+cluster://127.0.0.1:1"), routes, limits, patience_s=0.0)
    async with aclosing(client):
        call = asyncio.ensure_future(client.set("large", bytes(64 * 2**20)))
        async with asyncio.timeout(30):
            await reading.wait()
            await client.aclose()
            with pytest.raises(rex.ConnectionError):
                await call
    over.set()
    server.close()
    await server.wait_closed()


async def test_a_server_that_lost_its_last_slot_receives_no_more_probes(servers: list[ScriptedServer]) -> None:
    left, right = servers[:2]
    for server in (left, right):
        server.replies |= cluster_replies((0, SLOTS - 2, left), (SLOTS - 1, SLOTS - 1, right))
        server.replies |= {**KNOWN, "DEL": 0}
    url = f"redis+cluster://{name(left)}"
    async with LogConnection(url, timeout_s=2.0) as connection:
        probe_key = "bc:{{p-{}}}".format
        found = await identities(connection.redis, probe_key=probe_key, max_age_s=60)
        assert set(found) == {name(left), name(right)}
        moved = rex.ResponseError(f"MOVED {SLOTS - 1} {name(left)}")
        key = next(each for each in map(probe_key, range(10**6)) if connection.server_of(each) == name(right))
        right.replies["GET"] = moved
        left.replies["GET"] = b"v"
        assert await connection.redis.get(key) == b"v"

        async with asyncio.timeout(20):
            assert set(await identities(connection.redis, probe_key=probe_key, max_age_s=60)) == {name(left)}


async def test_the_draw_of_a_key_ends_for_a_server_that_has_lost_its_slots(servers: list[ScriptedServer]) -> None:
    for server in servers[:2]:
        server.replies |= {**KNOWN, "DEL": 0}
    routes = GivenPlacement(name(servers[0]))
    async with client_of(routes) as client, asyncio.timeout(20):
        routes.owners[0] = name(servers[1])

        def give_back(number: int) -> str:
            routes.owners[0] = name(servers[0])
            return f"only-{number}"

        with pytest.raises(rex.ClusterDownError):
            await client.identities(probe_key=give_back, max_age_s=60)


async def test_calls_that_were_executed_are_not_repeated_when_a_later_one_finds_the_server_loading(
    servers: list[ScriptedServer],
) -> None:
    server = servers[0]
    server.replies |= {"SET": b"OK", "GET k": LOADING}
    async with client_of(GivenPlacement(name(server)), patience_s=0.3) as client:
        pipeline = client.pipeline()
        pipeline.set("k", "1")
        pipeline.get("k")
        pipeline.set("k", "2")

        done, loading, lost = await pipeline.execute(raise_on_error=False)

    assert done is True
    assert isinstance(loading, rex.BusyLoadingError)
    assert isinstance(lost, rex.ConnectionError)
    assert not isinstance(lost, rex.BusyLoadingError)
    assert [server.received.count(f"SET k {value}") for value in (1, 2)] == [1, 1]
    assert server.received.count("GET k") > 1


async def test_a_script_reaches_the_server_that_its_slot_migrates_to(
    servers: list[ScriptedServer],
) -> None:
    source, target = servers[:2]
    source.replies["EVALSHA"] = source.replies["EVAL"] = rex.ResponseError(f"ASK 1 {name(target)}")
    target.replies |= {"ASKING": b"OK", "EVALSHA": rex.NoScriptError("NOSCRIPT No matching script."), "EVAL": 1}
    async with client_of(GivenPlacement(name(source))) as client:
        calls = [ScriptCall(SCRIPTS["stop"], ["m", "c"], ["stopped"])] * 2
        assert await run_all(client, calls) == [1, 1]


def key_in(slots: range) -> str:
    """A key of one of these slots."""
    return next(key for key in map("k{}".format, range(10**6)) if slot_of(key.encode()) in slots)


LEFT_KEY: Final = key_in(range(SLOTS // 2))
RIGHT_KEY: Final = key_in(range(SLOTS // 2, SLOTS))


def halves(servers: list[ScriptedServer]) -> list[ScriptedServer]:
    """Two of them, that share the keys, report so, and have a clock each: 1 s and 2 s after the beginning of time."""
    left, right = servers[:2]
    for seconds, server in enumerate((left, right), 1):
        server.replies |= cluster_replies((0, SLOTS // 2 - 1, left), (SLOTS // 2, SLOTS - 1, right))
        server.replies |= {"TIME": [b"%d" % seconds, b"0"], "GET": b"v"}
    return [left, right]


async def test_a_clock_that_cannot_be_read_is_an_error_only_for_its_keys(servers: list[ScriptedServer]) -> None:
    left, right = halves(servers)
    right.replies["TIME"] = rex.ResponseError("MASTERDOWN Link with MASTER is down")
    async with LogConnection(f"redis+cluster://{name(left)}", patience_s=0.0) as connection:
        pipeline = connection.pipeline()
        pipeline.get(LEFT_KEY)
        pipeline.clock(LEFT_KEY)
        pipeline.clock(RIGHT_KEY)
        assert await pipeline.execute() == [b"v"]
        assert pipeline.now_ms(LEFT_KEY) == 1000
        with pytest.raises(rex.MasterDownError):
            pipeline.now_ms(RIGHT_KEY)


async def test_an_error_of_a_command_is_raised_beside_a_clock_too(servers: list[ScriptedServer]) -> None:
    left, _ = halves(servers)
    left.replies["GET"] = rex.ResponseError("WRONGTYPE")
    async with LogConnection(f"redis+cluster://{name(left)}", patience_s=0.0) as connection:
        pipeline = connection.pipeline()
        pipeline.clock(RIGHT_KEY)
        pipeline.get(LEFT_KEY)
        with pytest.raises(rex.ResponseError, match="WRONGTYPE"):
            await pipeline.execute()


async def test_clocks_are_read_after_a_refresh_when_no_server_is_known_yet(servers: list[ScriptedServer]) -> None:
    left, right = halves(servers)
    async with LogConnection(f"redis+cluster://{name(left)}", patience_s=0.0) as connection:
        pipeline = connection.pipeline()
        for key in (LEFT_KEY, RIGHT_KEY):
            pipeline.clock(key)
        assert await pipeline.execute() == []
        assert (pipeline.now_ms(LEFT_KEY), pipeline.now_ms(RIGHT_KEY)) == (1000, 2000)
        assert [each.received.count("TIME") for each in (left, right)] == [1, 1]


class Always:
    """Implements ``ProbedUptime``."""

    async def confirm(self) -> None:
        return None

    def has_answered_for(self, lease_s: float) -> bool:
        return True


async def test_a_command_that_rests_on_a_lapsed_lease_is_sent_once_and_never_repeated(
    servers: list[ScriptedServer],
) -> None:
    server = servers[0]
    server.replies |= {**cluster_replies((0, SLOTS - 1, server)), "EVALSHA": TRYAGAIN}
    async with LogConnection(f"redis+cluster://{name(server)}", timeout_s=2.0, patience_s=1.0) as connection:
        claims = Claims(connection, ClaimPolicy(0.4, 60, 60, 3), owner="w")
        with pytest.raises(LogUnavailable):
            await claims.claim("g", may_take_over=True)
        with pytest.raises(LogUnavailable):
            await claims.end("g", terminals.NO_WORKER, may_take_over=True)
        with pytest.raises(LogUnavailable):
            await Lapses(connection, steadiness=Always()).end("f", lease_ms=1000)
        assert await Abandonment(connection, grace_s=1, presence_ttl_s=60, steadiness=Always()).check(["g"]) == []
        assert sum(each.startswith("EVALSHA") for each in server.received) == 4

        with pytest.raises(LogUnavailable):
            await claims.release("g", epoch=1)  # what rests on nothing is repeated
        assert sum(each.startswith("EVALSHA") for each in server.received) > 5


@pytest.mark.parametrize("between", ["the old one still", "no server at all"])
async def test_an_impatient_call_does_not_go_to_a_server_that_it_has_just_learned_of(
    servers: list[ScriptedServer], between: str
) -> None:
    old, new = servers[:2]
    routes = GivenPlacement(name(old))
    async with client_of(routes) as client:
        for caller, is_sent in ((client.impatient(), False), (client, True)):
            known = name(old) if between == "the old one still" else None
            routes.owners = [known] * SLOTS
            routes.doubted.add(known)
            routes.on_refresh = lambda: routes.owners.__setitem__(slice(None), [name(new)] * SLOTS)
            new.received.clear()
            if is_sent:
                assert await caller.get("k") == name(new).encode()
            else:
                with pytest.raises(rex.TryAgainError):
                    await caller.get("k")
                assert new.received == []
                assert await caller.get("k") == name(new).encode()  # by then its caller has checked once more
