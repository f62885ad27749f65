"""The providers' connections: how their names are resolved, and what is left of a call that was stopped."""

from __future__ import annotations

import asyncio
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from typing import Any
from urllib.parse import urlsplit

import pytest

from broadcaster.process.tasks import end_tasks
from broadcaster.testing import ScriptedProvider
from tests.support.log.log_world import until
from tests.worker.providers.provider_support import (
    CHAT,
    collect,
    failing,
    provider_at,
    request_for,
    text_of,
)


async def test_a_provider_whose_name_server_is_silent_leaves_the_others_reachable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    resolve, may_answer, silent = socket.getaddrinfo, threading.Event(), list[str]()

    def of_silent_server(host: str, *arguments: Any, **options: Any) -> Any:
        if host.endswith(".invalid"):
            silent.append(host)
            assert may_answer.wait(20)
        return resolve("localhost", *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", of_silent_server)
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(2))  # as uvloop's
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(ScriptedProvider())
        port = urlsplit(server.base_url).port
        urls = [f"http://{host}:{port}/v1" for host in ("one.invalid", "two.invalid", "good.test")]
        *mute, good = [await stack.enter_async_context(provider_at(url, CHAT)) for url in urls]
        waiting = [asyncio.create_task(collect(each, request_for("m"))) for each in mute]
        await until(lambda: len(silent) == len(mute))
        try:
            async with asyncio.timeout(5):
                assert text_of(await collect(good, request_for("m"))) == "Hello world."
        finally:
            may_answer.set()
            await end_tasks(*waiting)


async def test_a_name_without_an_address_makes_its_provider_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    async with provider_at("http://unknown.invalid/v1", CHAT) as provider:
        failure, _ = await failing(provider, request_for("m"))
    assert (failure.reason, failure.retryable) == ("provider_unreachable", True)
