"""A server that refuses the login is not away: the caller corrects its URL. This holds over TCP and over unix://."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import exceptions as rex

from broadcaster.errors import SetupError
from broadcaster.log.redis.connect import LogConnection
from broadcaster.log.redis.topology.nodes import LOGIN_REFUSED, Command, Node, NodeLimits, NotSent
from tests.support.log.refusable_user import RefusableUser, server_with_user

LIMITS = NodeLimits(timeout_s=20.0, connect_timeout_s=20.0, max_connections=1)
ECHO = Command(("ECHO", "v"))


@pytest.fixture(params=[0, None], ids=["tcp", "unix"])
def user(request: pytest.FixtureRequest) -> Iterator[RefusableUser]:
    with server_with_user(request.param) as found:
        yield found


async def test_a_refused_login_is_raised_as_it_is_until_the_server_admits_the_user(user: RefusableUser) -> None:
    user.refuse()
    node = Node.of_url(user.url, LIMITS)
    try:
        with pytest.raises(LOGIN_REFUSED) as refused:
            await node.send([ECHO])
        assert not isinstance(refused.value, NotSent)
        user.admit()
        assert await node.send([ECHO]) == [b"v"]
    finally:
        await node.aclose()


async def test_a_url_with_a_wrong_password_is_a_matter_of_set_up(user: RefusableUser) -> None:
    user.refuse()
    async with LogConnection(user.url, timeout_s=20.0, max_connections=1, patience_s=0) as connection:
        with pytest.raises(SetupError, match="Redis refuses us"):
            await connection.check()


async def test_a_connection_logs_in_once(user: RefusableUser) -> None:
    node = Node.of_url(user.url, LIMITS)
    try:
        (stats,) = await node.send([Command(("INFO", "commandstats"))])
    finally:
        await node.aclose()
    assert calls_of(stats, "auth") == 1


def calls_of(stats: Any, command: str) -> int:
    return int(stats[f"cmdstat_{command}"]["calls"])


async def test_a_socket_that_does_not_exist_is_a_server_that_is_away(tmp_path: Path) -> None:
    node = Node.of_url(f"unix://{tmp_path}/none", LIMITS)
    try:
        with pytest.raises(NotSent) as away:
            await node.send([ECHO])
        assert isinstance(away.value.__cause__, rex.ConnectionError)
    finally:
        await node.aclose()
