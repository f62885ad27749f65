"""What a soak draws and does: traffic, faults of processes, faults of Redis (soak.py)."""

from __future__ import annotations

import asyncio
import random
import secrets
import signal
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, NamedTuple, cast
from urllib.parse import urlsplit

from broadcaster.client import AsyncClient, ClientError
from broadcaster.client.feed import Appended
from broadcaster.core.cursor import Cursor
from broadcaster.core.events import DataEvent, Finish, encode_event
from broadcaster.testing import Answer, Cut, Script
from tests.faults.history import Acked
from tests.faults.viewers import RecordedViewer
from tests.faults.world import FaultWorld, PacedPieces
from tests.support.processes import Running
from tests.support.valkey import ValkeyServer

CALL_S: Final = 5.0
MOST_OPEN: Final = 8
MOST_WATCHING: Final = 60
LEASE_S: Final = 1.0


class Step(NamedTuple):
    """After ``wait_s``, do ``name``; the two shares in [0, 1) say to whom and how much."""

    wait_s: float
    name: str
    who: float
    much: float


# How often each is drawn, relative to the others.
TRAFFIC: Final = {"start": 14, "start_with_trouble": 6, "feed": 5, "join": 16, "join_slow": 3, "leave": 5, "stop": 3}
FAULTS: Final = {
    "kill_worker": 4,
    "freeze_worker": 3,
    "end_worker": 3,
    "kill_front_end": 4,
    "freeze_front_end": 2,
    "end_front_end": 3,
    "kill_redis": 2,
    "freeze_redis": 2,
    "kill_clients": 4,
    "pause_clients": 2,
    "trim": 2,
}


def draw(rng: random.Random) -> Step:
    """The next step."""
    weights = {**TRAFFIC, **FAULTS}
    (name,) = rng.choices(list(weights), list(weights.values()))
    return Step(rng.uniform(0.02, 0.5), name, rng.random(), rng.random())


class SlowViewer(RecordedViewer):
    """One that reads for a moment each second."""

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, host: str) -> bool:
        dawdling = asyncio.create_task(_dawdle(cast(asyncio.Transport, writer.transport)))
        try:
            return await super()._converse(reader, writer, host=host)
        finally:
            dawdling.cancel()


async def _dawdle(transport: asyncio.Transport) -> None:
    while not transport.is_closing():
        transport.pause_reading()
        await asyncio.sleep(1.0)
        if not transport.is_closing():
            transport.resume_reading()
        await asyncio.sleep(0.05)


@dataclass
class Soak:
    """What runs now, and what was done. ``busy``: what a fault is in force on; nothing else is done to it meanwhile."""

    world: FaultWorld
    server: ValkeyServer
    workers: list[Running]
    front_ends: list[Running]
    clients: Sequence[AsyncClient]  # of the front-ends, one each
    tasks: asyncio.TaskGroup
    done: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    under_way: Counter[str] = field(default_factory=Counter)
    feeds: dict[str, list[Acked]] = field(default_factory=dict)
    anchors: dict[str, RecordedViewer] = field(default_factory=dict)  # the first viewer of each stream, which stays
    left: set[RecordedViewer] = field(default_factory=set)
    busy: set[str] = field(default_factory=set)
    last_refusal: str = ""
    is_quiet: bool = False  # nothing new is begun, and nothing goes on for long

    async def run(self, rng: random.Random, soak_s: float) -> None:
        """Draw and do, until the time is over."""
        until = time.monotonic() + soak_s
        while time.monotonic() < until:
            step = draw(rng)
            await asyncio.sleep(step.wait_s)
            deed: Callable[[Step], Coroutine[Any, Any, None] | None] = getattr(self, f"_{step.name}")
            work = deed(step)
            if work is not None:
                self.done[step.name] += 1
                self.tasks.create_task(self._account(step.name, work))

    async def until_done(self, deadline_s: float) -> None:
        """Until everything that was begun is done."""
        self.is_quiet = True
        until = time.monotonic() + deadline_s
        while +self.under_way:
            assert time.monotonic() < until, f"still under way: {dict(+self.under_way)}; refused: {self.last_refusal}"
            await asyncio.sleep(0.05)

    async def _account(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """What is refused while things are broken is counted: whoever asked would ask again."""
        self.under_way[name] += 1
        try:
            await work
        except (ClientError, TimeoutError):
            self.refused[name] += 1
        finally:
            self.under_way[name] -= 1

    # -- traffic

    def _open(self) -> list[str]:
        return [stream for stream, viewer in self.anchors.items() if not viewer.is_over.is_set()]

    def _appear(self, stream: str) -> None:
        self.world.streams.append(stream)
        (self.anchors[stream],) = self.world.view(stream)

    def watching(self) -> list[RecordedViewer]:
        """Who has not had the end yet, and did not leave."""
        return [
            viewer for viewer in self.world.viewers.values() if not viewer.is_over.is_set() and viewer not in self.left
        ]

    def _start(self, step: Step) -> Coroutine[Any, Any, None] | None:
        return self._begin(step, []) if len(self._open()) < MOST_OPEN else None

    def _start_with_trouble(self, step: Step) -> Coroutine[Any, Any, None] | None:
        trouble = [
            Script(Answer(429, headers={"retry-after": "1"})),
            Script(Answer(529)),
            Script(Cut()),
            Script(PacedPieces(["half "], 0.1), Cut()),
        ]
        return self._begin(step, [trouble[int(step.who * 4)]]) if len(self._open()) < MOST_OPEN else None

    async def _begin(self, step: Step, trouble: list[Script]) -> None:
        """A generation of one to six seconds, and a viewer of it."""
        count = 20 + int(step.much * 100)
        size = 4096 if step.who > 0.8 else 1
        pieces = [f"<{n}> " + "x" * size for n in range(count)]
        model = f"claude-soak-{self.done.total()}-{secrets.token_hex(4)}"
        self.world.scripted.script(model, *trouble, Script(PacedPieces(pieces, 0.05)))
        stream = (await self._client().start("hi", model=model)).id
        self._appear(stream)

    def _feed(self, step: Step) -> Coroutine[Any, Any, None] | None:
        return self._write_feed(step) if len(self._open()) < MOST_OPEN else None

    async def _write_feed(self, step: Step) -> None:
        """A feed with two to four writers, each of which repeats itself until it is told where its event stands."""
        stream = f"soak-{secrets.token_hex(6)}"
        await self._insist(lambda client: client.create_stream(stream))
        acked = self.feeds[stream] = []
        self._appear(stream)
        count = 10 + int(step.much * 60)
        async with asyncio.TaskGroup() as writers:
            for n in range(2 + int(step.who * 3)):
                writers.create_task(self._write(stream, acked, writer=n, count=count))
        await self._insist(lambda client: client.close(stream, Finish()))

    async def _write(self, stream: str, acked: list[Acked], *, writer: int, count: int) -> None:
        for n in range(count):
            if self.is_quiet:
                return
            event = DataEvent(type="data-said", data=f"{writer}:{n}")
            key = f"{writer}:{n}"
            taken = await self._insist(partial(_append, stream, event, key=key))
            at = Cursor.parse(taken.last_id)
            acked.append(Acked(stream, at.epoch, at.seq, (encode_event(event),)))
            await asyncio.sleep(0.05)

    async def _insist(self, call: Callable[[AsyncClient], Coroutine[Any, Any, Any]]) -> Any:
        while True:
            try:
                return await call(self._client())
            except ClientError as error:
                self.last_refusal = f"{error.code}: {error}"
                if not error.retry:
                    raise AssertionError(f"a writer was refused for good: {error}") from error
            except TimeoutError:
                pass  # the answer is lost, or nobody answers: the same again
            await asyncio.sleep(0.1)

    def _client(self) -> AsyncClient:
        return random.choice(self.clients)

    def _join(self, step: Step) -> Coroutine[Any, Any, None] | None:
        """Somebody comes in the middle, sometimes with the cursor of somebody else."""
        stream = self._some_stream(step.who)
        if stream is None or len(self.watching()) >= MOST_WATCHING:
            return None
        others = [viewer for viewer in self.world.viewers.values() if viewer.stream == stream and viewer.entries]
        after = random.choice(others[0].entries)[0] if others and step.much > 0.7 else None
        return self._view(stream, after)

    async def _view(self, stream: str, after: str | None) -> None:
        self.world.view(stream, after=after)

    def _join_slow(self, step: Step) -> Coroutine[Any, Any, None] | None:
        stream = self._some_stream(step.who)
        return None if stream is None or len(self.watching()) >= MOST_WATCHING else self._view_slowly(stream)

    async def _view_slowly(self, stream: str) -> None:
        viewer = SlowViewer(self.world.urls, stream)
        name = f"viewer-{len(self.world.viewers)}"
        self.world.viewers[name] = viewer
        self.world._watching[name] = asyncio.create_task(viewer.run())

    def _leave(self, step: Step) -> Coroutine[Any, Any, None] | None:
        staying = [viewer for viewer in self.watching() if viewer not in self.anchors.values()]
        return self._leave_one(staying[int(step.who * len(staying))]) if staying else None

    async def _leave_one(self, viewer: RecordedViewer) -> None:
        self.left.add(viewer)
        await self.world.leave(viewer)

    def _stop(self, step: Step) -> Coroutine[Any, Any, None] | None:
        generations = [stream for stream in self._open() if stream not in self.feeds]
        return self._stop_one(generations[int(step.who * len(generations))]) if generations else None

    async def _stop_one(self, stream: str) -> None:
        await self._client().stop(stream)

    def _some_stream(self, who: float) -> str | None:
        newest = self.world.streams[-2 * MOST_OPEN :]
        return newest[int(who * len(newest))] if newest else None

    # -- faults of processes

    def _kill_worker(self, step: Step) -> Coroutine[Any, Any, None] | None:
        return self._at("worker", int(step.who * len(self.workers)), self._replace_worker, how="kill")

    def _end_worker(self, step: Step) -> Coroutine[Any, Any, None] | None:
        return self._at("worker", int(step.who * len(self.workers)), self._replace_worker, how="end")

    def _kill_front_end(self, step: Step) -> Coroutine[Any, Any, None] | None:
        return self._at("front-end", int(step.who * len(self.front_ends)), self._replace_front_end, how="kill")

    def _end_front_end(self, step: Step) -> Coroutine[Any, Any, None] | None:
        return self._at("front-end", int(step.who * len(self.front_ends)), self._replace_front_end, how="end")

    def _freeze_worker(self, step: Step) -> Coroutine[Any, Any, None] | None:
        n = int(step.who * len(self.workers))
        return self._at("worker", n, self._freeze, running=self.workers[n], for_s=3 * LEASE_S * step.much)

    def _freeze_front_end(self, step: Step) -> Coroutine[Any, Any, None] | None:
        n = int(step.who * len(self.front_ends))
        return self._at("front-end", n, self._freeze, running=self.front_ends[n], for_s=3 * step.much)

    def _at(
        self, kind: str, n: int, fault: Callable[..., Coroutine[Any, Any, None]], **how: Any
    ) -> Coroutine[Any, Any, None] | None:
        name = f"{kind} {n}"
        return None if name in self.busy else self._occupied(name, fault, n, how)

    async def _occupied(
        self, name: str, fault: Callable[..., Coroutine[Any, Any, None]], n: int, how: dict[str, Any]
    ) -> None:
        self.busy.add(name)
        try:
            await fault(n, **how)
        finally:
            self.busy.discard(name)

    async def _replace_worker(self, n: int, *, how: str) -> None:
        await _gone(self.workers[n], how)
        self.workers[n] = await self.world.worker()

    async def _replace_front_end(self, n: int, *, how: str) -> None:
        old = self.front_ends[n]
        await _gone(old, how)
        self.front_ends[n] = await self.world.stack.front_end(port=urlsplit(old.url).port)

    async def _freeze(self, n: int, *, running: Running, for_s: float) -> None:
        running.signal(signal.SIGSTOP)
        await asyncio.sleep(for_s)
        running.signal(signal.SIGCONT)

    # -- faults of Redis

    def _kill_redis(self, step: Step) -> Coroutine[Any, Any, None] | None:
        return self._at("redis", 0, self._restart_redis, for_s=2 * step.much)

    def _freeze_redis(self, step: Step) -> Coroutine[Any, Any, None] | None:
        return self._at("redis", 0, self._pause_redis, for_s=3 * step.much)

    def _kill_clients(self, step: Step) -> Coroutine[Any, Any, None] | None:
        return self._at(
            "redis", 0, self._command, words=("CLIENT", "KILL", "TYPE", ["normal", "pubsub"][step.who > 0.5])
        )

    def _pause_clients(self, step: Step) -> Coroutine[Any, Any, None] | None:
        return self._at("redis", 0, self._command, words=("CLIENT", "PAUSE", str(int(100 + 1900 * step.much)), "ALL"))

    def _trim(self, step: Step) -> Coroutine[Any, Any, None] | None:
        streams = [stream for stream in self._open() if stream in self.feeds]
        if not streams:
            return None
        stream = streams[int(step.who * len(streams))]
        self.world.trimmed.add(stream)
        key = self.world.connection.keys.log(stream)
        return self._at("redis", 0, self._command, words=("XTRIM", key, "MAXLEN", str(1 + int(20 * step.much))))

    async def _restart_redis(self, n: int, *, for_s: float) -> None:
        self.server.kill()
        await asyncio.sleep(for_s)
        await asyncio.to_thread(self.server.start)

    async def _pause_redis(self, n: int, *, for_s: float) -> None:
        self.server.pause()
        await asyncio.sleep(for_s)
        self.server.resume()

    async def _command(self, n: int, *, words: tuple[str, ...]) -> None:
        """Over a connection of its own, without waiting for more than its answer."""
        parts = urlsplit(self.server.url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        try:
            writer.write(b"".join([b"*%d\r\n" % len(words), *(b"$%d\r\n%s\r\n" % (len(w), w.encode()) for w in words)]))
            async with asyncio.timeout(CALL_S):
                answer = await reader.readline()
            assert answer[:1] in b"+:", answer
        finally:
            writer.close()


async def _append(stream: str, event: DataEvent, client: AsyncClient, *, key: str) -> Appended:
    return await client.append(stream, event, idempotency_key=key)


async def _gone(running: Running, how: str) -> None:
    if how == "kill":
        await running.kill()
    else:
        await running.end()
