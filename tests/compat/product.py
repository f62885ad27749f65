"""The product as its users run it: three front-ends behind one address, workers, a scripted provider, a real Redis."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx2

from broadcaster.client import AsyncClient
from broadcaster.core.entry import Entry
from broadcaster.log.redis.connect import LogConnection
from broadcaster.log.streams.reader import Streams
from broadcaster.testing import Conversation, ScriptedProvider
from tests.compat.clients import Client, Show
from tests.compat.python_clients import MODEL, QUESTION
from tests.compat.readings import Shown
from tests.compat.round_robin import RoundRobin, open_round_robin
from tests.support.servers.processes import Running, Stack, open_stack

FRONT_ENDS: Final = 3
# A worker that is gone is noticed after the lease; its generation has no second attempt and fails.
SETTINGS: Final = {"default_model": MODEL, "lease_ttl_s": 1, "max_attempts": 1}

_numbers: Final = itertools.count(1)


@dataclass
class Product:
    """Everything that runs; ``worker`` is the only one."""

    stack: Stack
    address: RoundRobin
    scripted: ScriptedProvider
    connection: LogConnection
    native: AsyncClient
    worker: Running

    async def replace_worker(self) -> None:
        """kill -9, and another one."""
        await self.worker.kill()
        self.worker = await self.stack.worker()

    @asynccontextmanager
    async def generation(self, client: Client, show: Show) -> AsyncIterator[OneGeneration]:
        """A generation that this client requests, and whose answer the test writes."""
        self.address.forget()
        # A model of its own, apart from what a failed test left behind.
        model = f"claude-compat-{next(_numbers)}"
        generation = OneGeneration(self, client, show, model, self.scripted.conversation(model))
        try:
            await generation.begin()
            yield generation
        finally:
            await generation.leave()


@dataclass
class OneGeneration:
    """One generation, which ``first`` reads, and its other viewers, each as the client does it."""

    product: Product
    client: Client
    show: Show
    model: str
    conversation: Conversation
    id: str = ""
    viewers: list[asyncio.Task[Shown]] = field(default_factory=list)

    @property
    def first(self) -> asyncio.Task[Shown]:
        """What the client that requested it shows in the end."""
        return self.viewers[0]

    async def begin(self) -> None:
        """Request it, and wait until the provider receives the call."""
        self.viewers.append(asyncio.create_task(self._request()))
        request = asyncio.create_task(self.conversation.request())
        await asyncio.wait([request, self.first], return_when=asyncio.FIRST_COMPLETED)
        if self.first.done():
            request.cancel()
            raise AssertionError(f"it was not asked for: {await self.first}")
        await request
        self.id = next(iter(await self.product.native.list())).id

    async def leave(self) -> None:
        """The last viewer leaves."""
        for viewer in self.viewers:
            viewer.cancel()
        await asyncio.gather(*self.viewers, return_exceptions=True)

    def join(self) -> asyncio.Task[Shown]:
        """One more viewer, which begins now."""
        self.viewers.append(asyncio.create_task(self._join()))
        return self.viewers[-1]

    async def _request(self) -> Shown:
        if self.client.dialect == "openai-responses":
            return await self.show(f"{self.url}/v1", model=self.model)
        if self.client.dialect == "ai-sdk":
            return await self.show(self._chat_api, chat_id=self.model, is_new=True, model=self.model)
        if self.client.dialect == "native":
            self.id = (await self.product.native.start(QUESTION, model=self.model)).id
        return await self._show()

    async def _join(self) -> Shown:
        """The SDKs that cannot resume retry the same request."""
        if self.client.dialect == "openai-responses":
            return await self.show(f"{self.url}/v1", stream_id=f"resp_{self.id}")
        if self.client.dialect == "ai-sdk":
            return await self.show(self._chat_api, chat_id=self.model)
        return await self._show()

    async def stop(self) -> None:
        """Stop it: by the client's own call, where it has one, else by ours."""
        if self.client.dialect == "openai-responses":
            left = await self.show(f"{self.url}/v1", stream_id=f"resp_{self.id}", cancel=True)
            assert left.final["status"] == "cancelled"
            return
        path = f"/api/chat/{self.model}/stop" if self.client.dialect == "ai-sdk" else f"/v1/generations/{self.id}/stop"
        async with httpx2.AsyncClient(timeout=20) as http:
            (await http.post(self.url + path, json={})).raise_for_status()

    async def entries(self) -> Sequence[Entry]:
        """What the log holds of it."""
        return await Streams(self.product.connection).read(self.id, count=10_000)

    async def until_logged(self, text: str, *, viewers: int = 1) -> set[str]:
        """Until this text is on its way to so many viewers; the front-ends that send it."""
        await self.product.address.until_logged(text.encode(), times=viewers)
        return set(self.product.address.lines_with(text.encode()))

    @property
    def url(self) -> str:
        """The one address."""
        return self.product.address.url

    @property
    def _chat_api(self) -> str:
        versions = dict(self.client.options)
        return f"{self.url}/api/chat" + (f"?version={versions['version']}" if versions else "")

    async def _show(self) -> Shown:
        paths = {
            "openai-chat": "/v1",
            "anthropic": "",
            "ag-ui": "/agui",
            "native": f"/v1/streams/{self.id}/events",
        }
        options: dict[str, Any] = {"headers": {"Idempotency-Key": self.model}, "model": self.model}
        return await self.show(self.url + paths[self.client.dialect], **options)


@asynccontextmanager
async def open_product(folder: Path, redis_url: str) -> AsyncIterator[Product]:
    """All of it, on an empty Redis."""
    async with (
        LogConnection(redis_url, max_connections=16) as connection,
        ScriptedProvider() as scripted,
        open_stack(folder, redis_url=redis_url, provider_url=scripted.base_url, **SETTINGS) as stack,
    ):
        await connection.redis.flushall()
        worker, *front_ends = await asyncio.gather(stack.worker(), *(stack.front_end() for _ in range(FRONT_ENDS)))
        async with (
            open_round_robin([each.url for each in front_ends]) as address,
            AsyncClient(front_ends[0].url) as native,
        ):
            yield Product(stack, address, scripted, connection, native, worker)
