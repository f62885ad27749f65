"""A whole system in which faults are caused: provider, workers, front-ends, viewers, and a history of it all.

    async with open_world(tmp_path, redis=server) as world:
        await world.worker(), await world.front_end()
        stream = await world.start("Hello ", "world", every_s=0.05)
        world.view(stream, 3)
        server.kill(), server.start()
        await world.settle(30)
        await world.check()

The workers are real processes that write down every acknowledged append (recorded_worker.py); the front-ends are real
processes; the viewers write down every message (viewers.py). ``check`` reads the logs and judges (history.py).
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from broadcaster.client import AsyncClient
from broadcaster.core.cursor import START, Cursor
from broadcaster.core.entry import Entry
from broadcaster.errors import LogUnavailable
from broadcaster.log.redis.connect import LogConnection
from broadcaster.log.streams.reader import Streams
from broadcaster.testing import Conversation, Exchange, Script, ScriptedProvider
from tests.faults.front_ends.viewers import RecordedViewer
from tests.faults.history import Acked, History, check
from tests.faults.workers.recorded_worker import JOURNAL_VARIABLE, read_journal
from tests.support.servers.processes import Running, Stack, open_stack

PAGE: Final = 1000
RETRY_MS: Final = 100
_POLL_S: Final = 0.02
_UNAVAILABLE_S: Final = 0.1
_ENTRIES_S: Final = 30.0
# A worker imports an SDK before its first call: on a busy machine that alone takes many seconds.
_REQUEST_S: Final = 60.0


class Redis(Protocol):
    """Anything with the URL of a Redis that the system is to use."""

    @property
    def url(self) -> str:
        """As a setting has it."""


@dataclass(frozen=True)
class PacedPieces:
    """A script's step: a whole answer, a delta for each piece, one every ``every_s`` seconds."""

    pieces: Sequence[str]
    every_s: float

    async def run(self, exchange: Exchange) -> None:
        composer = exchange.wire.compose(exchange.model)
        for piece in self.pieces:
            await exchange.send_events(*composer.text(piece))
            await asyncio.sleep(self.every_s)
        await exchange.send_events(*composer.finish())


@dataclass
class FaultWorld:
    """See the module's text. Open it with ``open_world``."""

    redis: Redis
    stack: Stack
    scripted: ScriptedProvider
    connection: LogConnection
    journal: Path
    workers: list[Running] = field(default_factory=list)
    front_ends: list[Running] = field(default_factory=list)
    urls: list[str] = field(default_factory=list)  # what viewers connect to; may be a balancer's
    streams: list[str] = field(default_factory=list)
    trimmed: set[str] = field(default_factory=set)  # streams whose heads a test cut off
    viewers: dict[str, RecordedViewer] = field(default_factory=dict)
    _watching: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    _models: itertools.count[int] = field(default_factory=itertools.count)

    async def worker(self, **settings: object) -> Running:
        """A recorded worker that is ready; settings as ``lease_ttl_s=1``."""
        environment = {f"BROADCASTER_{name.upper()}": str(value) for name, value in settings.items()}
        running = await self.stack.start("tests.faults.workers.recorded_worker", environment=environment)
        await running.logged("worker_ready")
        self.workers.append(running)
        return running

    async def front_end(self, **settings: object) -> Running:
        """A front-end that answers; the viewers that come from now on use it too."""
        running = await self.stack.front_end(**settings)
        self.front_ends.append(running)
        self.urls.append(running.url)
        return running

    async def start(self, *pieces: str, every_s: float = 0.0, **options: Any) -> str:
        """Request a generation whose provider sends these pieces, at every attempt; its id."""
        model = f"claude-{next(self._models)}"
        self.scripted.script(model, Script(PacedPieces(pieces, every_s)))
        return await self._start(model, options)

    async def converse(self, **options: Any) -> tuple[str, Conversation]:
        """Request a generation whose provider the test plays; its id, and the conversation of its first attempt.

        The next attempt is another conversation: ``world.scripted.conversation(model)``, opened before it comes.
        """
        model = str(options.pop("model", f"claude-{next(self._models)}"))
        conversation = self.scripted.conversation(model, timeout_s=_REQUEST_S)
        return await self._start(model, options), conversation

    async def _start(self, model: str, options: dict[str, Any]) -> str:
        async with AsyncClient(random.choice(self.urls)) as client:
            stream = (await client.start("hi", model=model, **options)).id
        self.streams.append(stream)
        return stream

    def view(
        self, stream: str, count: int = 1, *, after: str | None = None, retried: frozenset[int] = frozenset()
    ) -> list[RecordedViewer]:
        """Viewers that watch from now on, until they have the end."""
        viewers = [RecordedViewer(self.urls, stream, after=after, retried=retried) for _ in range(count)]
        for viewer in viewers:
            name = f"viewer-{len(self.viewers)}"
            self.viewers[name] = viewer
            self._watching[name] = asyncio.create_task(viewer.run())
        return viewers

    async def leave(self, viewer: RecordedViewer) -> None:
        """This viewer closes its connection and does not come back."""
        task = next(task for name, task in self._watching.items() if self.viewers[name] is viewer)
        task.cancel()
        await asyncio.wait({task})

    async def until_text(self, stream: str, text: str, deadline_s: float = 20.0) -> None:
        """Until the log holds this text within one event."""
        entries: list[Entry] = []
        try:
            async with asyncio.timeout(deadline_s):
                while not any(text.encode() in entry.event for entry in entries):
                    await asyncio.sleep(_POLL_S)
                    entries = await self._entries(stream)
        except TimeoutError:
            lines = [line for worker in self.workers for line in worker.log.read_text().split("\n") if stream in line]
            raise AssertionError("\n".join([f"after {deadline_s} s no {text!r} in {entries[-5:]}", *lines])) from None

    async def settle(self, deadline_s: float = 30.0) -> None:
        """Until every generation has its end in the log, and every viewer that did not leave has had it."""
        try:
            async with asyncio.timeout(deadline_s):
                for stream in self.streams:
                    while not await self._is_over(stream):
                        await asyncio.sleep(_POLL_S)
                for task in self._watching.values():
                    await asyncio.wait({task})
                    if not task.cancelled():
                        task.result()
        except TimeoutError:
            open_streams = [stream for stream in self.streams if not await self._is_over(stream)]
            waiting = [name for name, task in self._watching.items() if not task.done()]
            raise AssertionError(f"after {deadline_s} s open: {open_streams}, still watching: {waiting}") from None

    async def history(self, *, is_lossy: bool = False) -> History:
        """What happened so far. ``is_lossy``: Redis was made to lose what no worker was left to resend."""
        log = {stream: await self._entries(stream) for stream in self.streams}
        viewers = {name: viewer.trace for name, viewer in self.viewers.items()}
        return History(self.acked(), viewers, log, is_lossy, frozenset(self.trimmed))

    def acked(self) -> list[Acked]:
        """Every append that was acknowledged to a worker so far."""
        return read_journal(self.journal)

    async def check(self, *, is_lossy: bool = False) -> History:
        """Assert that no promise was broken, and that every viewer that did not leave is whole."""
        history = await self.history(is_lossy=is_lossy)
        violations = check(history)
        assert not violations, "\n".join(map(str, violations[:20]))
        return history

    async def _is_over(self, stream: str) -> bool:
        try:
            last = await Streams(self.connection).last(stream)
        except LogUnavailable:
            return False
        return last is not None and last.is_terminal

    async def _entries(self, stream: str) -> list[Entry]:
        """The whole log of a stream; reads that Redis does not answer are retried, for ``_ENTRIES_S``."""
        entries: list[Entry] = []
        after: Cursor = START
        async with asyncio.timeout(_ENTRIES_S):
            while True:
                try:
                    page = await Streams(self.connection).read(stream, after=after, count=PAGE)
                except LogUnavailable:
                    await asyncio.sleep(_UNAVAILABLE_S)
                    continue
                entries += page
                if len(page) < PAGE:
                    return entries
                after = page[-1].cursor

    async def aclose(self) -> None:
        """Send the viewers away."""
        for task in self._watching.values():
            task.cancel()
        await asyncio.gather(*self._watching.values(), return_exceptions=True)


@asynccontextmanager
async def open_world(folder: Path, *, redis: Redis, **settings: object) -> AsyncIterator[FaultWorld]:
    """A world without workers and front-ends yet; ``settings`` hold for all of them."""
    journal = folder / "journal"
    async with AsyncExitStack() as stack:
        scripted = await stack.enter_async_context(ScriptedProvider())
        connection = await stack.enter_async_context(LogConnection(redis.url, timeout_s=2.0))
        processes = await stack.enter_async_context(
            open_stack(
                folder,
                redis_url=redis.url,
                provider_url=scripted.base_url,
                **{"default_model": "claude-scripted", "retry_ms": RETRY_MS, **settings},
            )
        )
        processes.environment = {**processes.environment, JOURNAL_VARIABLE: str(journal)}
        world = FaultWorld(redis, processes, scripted, connection, journal)
        stack.push_async_callback(world.aclose)
        yield world
