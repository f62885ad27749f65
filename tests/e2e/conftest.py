"""A scripted provider, an empty Redis and a stack of real processes for each end-to-end test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from broadcaster.log.redis.connect import LogConnection
from broadcaster.testing import ScriptedProvider
from tests.support.servers.processes import Stack, open_stack


@pytest.fixture
async def scripted() -> AsyncIterator[ScriptedProvider]:
    async with ScriptedProvider() as provider:
        yield provider


@pytest.fixture
async def stack(tmp_path: Path, connection: LogConnection, scripted: ScriptedProvider) -> AsyncIterator[Stack]:
    """Nothing started yet; every process knows the Redis of ``connection`` and the scripted provider."""
    async with open_stack(
        tmp_path, redis_url=connection.url, provider_url=scripted.base_url, default_model="claude-scripted"
    ) as opened:
        yield opened


@pytest.fixture
async def front_end_url(stack: Stack) -> str:
    """A front-end with one worker behind it."""
    await stack.worker()
    return (await stack.front_end()).url
