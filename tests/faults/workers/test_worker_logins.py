"""Redis refuses the login of a system for a while: its password is changed, and its connections are ended."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.faults.workers.worker_moments import answer, attempts, logged, torn_then_whole
from tests.faults.world import open_world
from tests.support.log.refusable_user import RefusableUser, server_with_user
from tests.support.log.valkey import start_valkey

pytestmark = pytest.mark.second_engine

REFUSED = "redis_login_refused"
DEADLINE_S = 30.0


@pytest.fixture
def user(tmp_path: Path) -> Iterator[RefusableUser]:
    with start_valkey(tmp_path, port=0) as running:
        found = RefusableUser(running.url)
        found.admit()
        yield found


async def test_a_worker_keeps_its_answers_while_redis_refuses_its_password(tmp_path: Path, user: RefusableUser) -> None:
    async with open_world(tmp_path, redis=user) as world:
        front_end = await world.front_end()
        worker = await world.worker()
        stream, conversation = await torn_then_whole(world)
        (viewer,) = world.view(stream)

        user.refuse()
        await worker.logged(REFUSED)
        await conversation.send_text("and on")
        await conversation.finish()
        async with httpx2.AsyncClient() as client:
            assert (await client.get(f"{front_end.url}/readyz")).status_code == 503
        assert '"level": "error"' in await front_end.logged(REFUSED)
        user.admit()

        await world.settle()
        await world.check()
        assert (answer(viewer), attempts(viewer)) == ("torn and on", 0)
        assert worker.process.returncode is None
        assert len(logged([worker], REFUSED)) == 1
        assert logged([front_end], "front_end_task_failed") == []


@pytest.fixture(params=[0, None], ids=["tcp", "unix"])
def refused(request: pytest.FixtureRequest) -> Iterator[RefusableUser]:
    with server_with_user(request.param) as found:
        found.refuse()
        yield found


async def test_a_worker_that_redis_refuses_at_its_start_ends_with_one_line(refused: RefusableUser) -> None:
    environment = {**os.environ, "BROADCASTER_REDIS_URL": refused.url}
    pipe = asyncio.subprocess.PIPE
    worker = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "worker", env=environment, stdout=pipe, stderr=pipe
    )
    async with asyncio.timeout(DEADLINE_S):
        output, errors = await worker.communicate()
    assert (worker.returncode, output) == (2, b"")
    (line,) = errors.decode().splitlines()
    assert line.startswith("error: Redis refuses us: ")
    assert line.endswith("; correct the user and password in its URL")
