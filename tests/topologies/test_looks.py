"""A look that has its answer leaves those who are slower their connections, and leaves nothing behind at the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from typing import Final

import pytest
from redis import exceptions as rex

from broadcaster.log.key_slots import SLOTS
from broadcaster.log.nodes import NodeLimits
from broadcaster.log.redis_url import RedisUrl
from broadcaster.log.routed import RoutedRedis
from broadcaster.log.routes import ASK_S, Routes, create_routes
from tests.support.feed_log import until
from tests.support.telling_server import Answer, TellingServer, open_telling

LOOKS: Final = 5
KINDS: Final = {"cluster": "CLUSTER INFO", "sentinel": "SENTINEL MASTER s"}
"""Of each kind the first question of a look."""


def name(server: TellingServer) -> str:
    return f"127.0.0.1:{server.port}"


def told(kind: str, primary: TellingServer) -> Mapping[str, Answer]:
    """What those say who know: this one serves everything."""
    if kind == "sentinel":
        fields: Answer = [b"ip", b"127.0.0.1", b"port", b"%d" % primary.port, b"config-epoch", b"1"]
        return {"SENTINEL MASTER s": fields}
    slots: Answer = [[0, SLOTS - 1, [b"127.0.0.1", primary.port, b"id"]]]
    return {"CLUSTER INFO": b"cluster_state:ok", "CLUSTER SLOTS": slots}


def routes_by(kind: str, servers: list[TellingServer]) -> Routes:
    return create_routes(RedisUrl.parse(f"redis+{kind}://{','.join(map(name, servers))}/{'s' * (kind == 'sentinel')}"))


def asks_under_way() -> int:
    tasks = [task.get_coro() for task in asyncio.all_tasks()]
    return sum(getattr(each, "__qualname__", "").endswith(("Routes._ask", "._asked_anew")) for each in tasks)


LIMITS: Final = NodeLimits(timeout_s=60, connect_timeout_s=2, max_connections=2)


@pytest.fixture
async def servers() -> AsyncIterator[list[TellingServer]]:
    """Three that may be asked, of which the last never answers yet."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(open_telling(CLIENT=b"OK")) for _ in range(3)]


@pytest.mark.parametrize("kind", KINDS)
async def test_one_that_answers_late_is_asked_again_over_the_same_connection(
    kind: str, servers: list[TellingServer]
) -> None:
    answers = told(kind, servers[0])
    for each in servers[:2]:
        each.answers |= answers
    late, question = servers[2], KINDS[kind]
    routes = routes_by(kind, servers)
    for number in range(1, LOOKS + 1):
        await routes.look(within_s=0)
        await until(lambda: late.asked.count(question) == number)  # noqa: B023  # awaited in this round
        for answer in answers.values():
            late.say(answer)
        await until(lambda: asks_under_way() == 0)
    assert late.connections == 1
    await routes.aclose()


@pytest.mark.parametrize("kind", KINDS)
async def test_one_that_does_not_answer_is_asked_one_thing_at_a_time_and_nothing_is_left_at_the_end(
    kind: str, servers: list[TellingServer]
) -> None:
    for each in servers[:2]:
        each.answers |= told(kind, servers[0])
    routes = routes_by(kind, servers)
    async with asyncio.timeout(ASK_S):
        for _ in range(LOOKS):
            await routes.look(within_s=0)
            await until(lambda: servers[2].connections == 1)
        assert [each.asked.count(KINDS[kind]) for each in servers] == [LOOKS, LOOKS, 1]
        assert asks_under_way() == 1

        await routes.aclose()
    assert asks_under_way() == 0


@pytest.mark.parametrize("kind", KINDS)
async def test_what_a_slow_one_says_to_an_earlier_look_is_no_answer_to_a_later_one(
    kind: str, servers: list[TellingServer]
) -> None:
    before, after = told(kind, servers[0]), told(kind, servers[1])
    for each in servers[:2]:
        each.answers |= before
    slow = servers[2]
    routes = routes_by(kind, servers)
    await routes.look(within_s=0)
    await until(lambda: slow.asked.count(KINDS[kind]) == 1)
    for each in servers[:2]:
        each.answers = {"CLIENT": b"OK"}
    slow.answers |= after

    looking = asyncio.create_task(routes.look(within_s=0))
    await until(lambda: sum(each.asked.count(KINDS[kind]) for each in servers[:2]) == 4)
    for answer in before.values():
        slow.say(answer)
    await looking

    assert routes.primaries == (name(servers[1]),)
    await routes.aclose()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_call_that_hangs_at_a_server_fails_as_soon_as_anybody_learns_that_another_serves(
    kind: str, servers: list[TellingServer]
) -> None:
    """A frozen machine, a cut cable: its connections do not break, and the call alone would wait for its time limit."""
    old, new = servers[:2]
    for each in (old, new):
        each.answers |= {**told(kind, old), "ROLE": [b"master", 0, []]}
    routes = routes_by(kind, servers[:2])
    url = RedisUrl.parse("redis+cluster://127.0.0.1:1")
    client = RoutedRedis(url, routes, LIMITS, patience_s=0.0)
    hanging = asyncio.ensure_future(client.get("k"))
    await until(lambda: "GET k" in old.asked)

    for each in (old, new):
        each.answers |= told(kind, new)
        if kind == "sentinel":
            each.answers |= {"SENTINEL MASTER s": newer(new)}
    await routes.look(within_s=0)

    async with asyncio.timeout(5):
        with pytest.raises(rex.ConnectionError):
            await hanging
    await client.aclose()
    await routes.aclose()


def newer(primary: TellingServer) -> Answer:
    """What a Sentinel says of a primary that has replaced another."""
    return [b"ip", b"127.0.0.1", b"port", b"%d" % primary.port, b"config-epoch", b"2"]


ASKED: Final = KINDS["sentinel"]


async def failed_over(servers: list[TellingServer]) -> Routes:
    """Routes that know of a failover from the second to the third server, as the first Sentinel has told them.

    The other Sentinels have not heard of it yet.
    """
    leader, *others = servers
    leader.answers[ASKED] = newer(others[1])
    routes = routes_by("sentinel", servers)
    await routes.look(within_s=0)
    assert routes.primaries == (name(others[1]),)
    del leader.answers[ASKED]
    for each in others:
        each.answers |= told("sentinel", others[0])
    return routes


async def test_a_primary_that_was_replaced_is_not_gone_back_to_while_the_leaders_word_is_on_its_way(
    servers: list[TellingServer],
) -> None:
    routes = await failed_over(servers)
    known = routes.primaries
    questions = servers[0].asked.count(ASKED)
    looking = asyncio.create_task(routes.look(within_s=0))
    await until(lambda: servers[0].asked.count(ASKED) > questions)
    await asyncio.wait({looking}, timeout=0.2)  # the others have answered
    servers[0].say(newer(servers[2]))
    await looking
    assert routes.primaries == known
    await routes.aclose()


@pytest.mark.parametrize("role", [b"master", None])
async def test_a_majority_with_an_older_configuration_does_not_count_while_the_leader_is_silent(
    servers: list[TellingServer], role: bytes | None
) -> None:
    """The primary of before says that it still is one, whether the known one answers or not."""
    routes = await failed_over(servers)
    known = routes.primaries
    servers[1].answers["ROLE"] = [b"master", 0, []]
    if role is not None:
        servers[2].answers["ROLE"] = [role, 0, []]
    await routes.look(within_s=0)
    assert routes.primaries == known
    await routes.aclose()


async def test_an_older_configuration_that_every_sentinel_has_counts(servers: list[TellingServer]) -> None:
    """The epochs were reset, and the primary of before was left alone."""
    routes = await failed_over(servers)
    servers[0].answers |= told("sentinel", servers[1])
    for each in servers[1:]:
        each.answers["ROLE"] = [b"master", 0, []]
    await routes.look(within_s=0)
    assert routes.primaries == (name(servers[1]),)
    await routes.aclose()


@pytest.mark.parametrize("role", [b"master", b"slave"])
async def test_a_minority_with_an_older_configuration_counts_when_the_known_primary_is_a_replica(
    servers: list[TellingServer], role: bytes
) -> None:
    routes = await failed_over(servers)
    known = routes.primaries
    del servers[2].answers[ASKED]
    servers[1].answers["ROLE"] = [b"master", 0, []]
    servers[2].answers["ROLE"] = [role, 0, []]
    await routes.look(within_s=0)
    assert routes.primaries == (known if role == b"master" else (name(servers[1]),))
    await routes.aclose()
