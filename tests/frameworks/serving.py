"""The product before the frameworks: a front-end, a worker and the scripted provider on its three wires."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from broadcaster.client import AsyncClient, Generation
from broadcaster.log.redis.connect import LogConnection
from broadcaster.testing import Answer, Conversation, Script, ScriptedProvider
from tests.compat.round_robin import RoundRobin, open_round_robin
from tests.frameworks.drivers import JOB_TIMEOUT_S
from tests.frameworks.model import Failing, Model
from tests.frameworks.rows import CHAT, MESSAGES, RESPONSES
from tests.support.servers.processes import Running, Stack, open_stack

# Names that frameworks know: some choose parameters by them.
MODELS: Final = {CHAT: "gpt-4o", RESPONSES: "gpt-5-mini", MESSAGES: "claude-sonnet-4-5"}
ROUTES: Final = '{"claude-*": "anthropic", "gpt-5*": "openai-responses", "gpt-*": "openai"}'
SETTINGS: Final = {
    "routes": ROUTES,
    "default_model": MODELS[CHAT],
    # A lost worker is noticed after the lease, and an answer that was left is stopped after the graces.
    "lease_ttl_s": 1,
    "retry_ms": 500,
    "disconnect_grace_s": 0.5,
    "abandon_grace_s": 2,
    # The frameworks repeat refused calls themselves.
    "provider_retries": 0,
}

ENDED_S: Final = 20.0

_numbers: Final = itertools.count(1)


@dataclass
class Serving:
    """Everything that runs; ``worker`` is the only one."""

    stack: Stack
    address: RoundRobin
    scripted: ScriptedProvider
    native: AsyncClient
    worker: Running

    @property
    def url(self) -> str:
        """The front-end's origin."""
        return self.address.url

    @property
    def provider_url(self) -> str:
        """The provider's own origin, for a framework that is run without this server."""
        return self.scripted.base_url

    def model(self, wire: str) -> str:
        """A model of its own, which this wire serves: what another test left behind does not matter."""
        return f"{MODELS[wire]}-{next(_numbers)}"

    def refusing(self, wire: str, status: int) -> str:
        """A model whose every request is refused."""
        model = self.model(wire)
        self.scripted.script(model, Script(Answer(status, message=f"refused with {status}")))
        return model

    def failing(self, wire: str) -> str:
        """A model whose every answer breaks off."""
        model = self.model(wire)
        self.scripted.script(model, Script(Failing()))
        return model

    def conversation(self, model: str) -> Conversation:
        """The requests for a model, in the hands of the test. The first may have to wait for a framework's imports."""
        conversation = Conversation(timeout_s=JOB_TIMEOUT_S)
        self.scripted.script(model, Script(conversation.as_step()))
        return conversation

    async def generation(self, model: str) -> Generation:
        """The generation of this model, as it stands."""
        return next(each for each in await self.native.list() if each.model == model)

    async def open_generation(self, model: str) -> Generation:
        """The one generation of this model that runs, once the others are over."""
        async with asyncio.timeout(ENDED_S):
            while True:
                running = [each for each in await self.native.list(status="open") if each.model == model]
                if len(running) == 1:
                    return running[0]
                await asyncio.sleep(0.05)

    async def end_of(self, generation_id: str) -> str:
        """How the generation ended, within ``ENDED_S``."""
        async with asyncio.timeout(ENDED_S):
            while (status := (await self.native.get(generation_id)).status) == "running":
                await asyncio.sleep(0.05)
        return status

    async def until_received(self, text: str) -> None:
        """Until this text was written to the framework's socket."""
        await self.address.until_logged(text.encode(), times=1)

    async def replace_worker(self) -> None:
        """kill -9, and another one."""
        await self.worker.kill()
        self.worker = await self.stack.worker()


@asynccontextmanager
async def open_serving(folder: Path, redis_url: str) -> AsyncIterator[Serving]:
    """All of it, on an empty Redis."""
    async with (
        LogConnection(redis_url, max_connections=4) as connection,
        ScriptedProvider(default=Script(Model())) as scripted,
        open_stack(folder, redis_url=redis_url, provider_url=scripted.base_url, **SETTINGS) as stack,
    ):
        await connection.redis.flushall()
        # A stack knows Anthropic's variables; OpenAI's wires have theirs.
        stack.environment = {
            **stack.environment,
            "OPENAI_BASE_URL": scripted.openai_base_url,
            "OPENAI_API_KEY": "test-key",
        }
        worker, front_end = await asyncio.gather(stack.worker(), stack.front_end())
        async with open_round_robin([front_end.url]) as address, AsyncClient(front_end.url) as native:
            yield Serving(stack, address, scripted, native, worker)
