"""Look-ups of names: they hold no thread of the loop, share a look-up of the same name, and are bounded."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from broadcaster.process.tasks import end_tasks
from tests.support.log.log_world import until
from worker.network.resolver import SystemResolver

DEADLINE_S = 5.0
LOOPBACK = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 443))]


class NameServer:
    """The system's resolver, whose answers wait for the test."""

    def __init__(self) -> None:
        self.may_answer = threading.Event()
        self.look_ups: Counter[str] = Counter()
        self.is_unknown = False

    def getaddrinfo(self, host: str, port: int, **_: Any) -> list[Any]:
        self.look_ups[host] += 1
        assert self.may_answer.wait(20)
        if self.is_unknown:
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        return LOOPBACK


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> NameServer:
    server = NameServer()
    monkeypatch.setattr(socket, "getaddrinfo", server.getaddrinfo)
    return server


async def test_the_system_resolves_the_loopback() -> None:
    assert set(await SystemResolver().addresses("localhost", 80)) <= {"127.0.0.1", "::1"}


async def test_look_ups_that_hang_hold_no_thread_of_the_loop_and_their_own_until_they_end(silent: NameServer) -> None:
    resolver = SystemResolver(most=2)
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    hanging = [asyncio.create_task(resolver.addresses(f"{number}.example", 443)) for number in range(3)]
    await until(lambda: silent.look_ups.total() == 2)
    await end_tasks(*hanging)
    async with asyncio.timeout(DEADLINE_S):
        assert await asyncio.to_thread(lambda: "free") == "free"
        silent.may_answer.set()
        assert await resolver.addresses("example", 443) == ["127.0.0.1"]


async def test_concurrent_look_ups_of_one_name_share_one_thread_whose_result_outlives_a_caller(
    silent: NameServer,
) -> None:
    resolver = SystemResolver()
    leaving, *staying = [asyncio.create_task(resolver.addresses("example", 443)) for _ in range(3)]
    await until(lambda: silent.look_ups.total() == 1)
    await end_tasks(leaving)
    silent.may_answer.set()
    async with asyncio.timeout(DEADLINE_S):
        assert await asyncio.gather(*staying) == [["127.0.0.1"]] * 2
        assert silent.look_ups["example"] == 1
        await resolver.addresses("example", 443)
    assert silent.look_ups["example"] == 2


async def test_each_caller_gets_the_failure_of_a_shared_look_up(silent: NameServer) -> None:
    resolver = SystemResolver()
    silent.is_unknown = True
    callers = [asyncio.create_task(resolver.addresses("example", 443)) for _ in range(2)]
    silent.may_answer.set()
    async with asyncio.timeout(DEADLINE_S):
        results = await asyncio.gather(*callers, return_exceptions=True)
    assert [type(result) for result in results] == [socket.gaierror] * 2
