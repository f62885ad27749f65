"""What callers do: they request answers on every surface, watch, leave, stop, and write feeds."""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import suppress
from typing import Any, Final

from redis.exceptions import RedisError

from tests.hunt.clients.feeds import HuntedFeed
from tests.hunt.clients.leases import DELETES, FATES, LEASES_S, LeasedFeed, LeaseWriting
from tests.hunt.draw import Order, Step, draw_order
from tests.hunt.judging.answers import Answer, Violation
from tests.hunt.system.servers import port_of
from tests.hunt.system.wire import Broken, call, open_request
from tests.hunt.world import World
from tests.support.log.redis_sentinel import execute_at

INSIST_S: Final = 60.0
MOST_OPEN: Final = 8
MOST_WATCHING: Final = 40
LATER: Final = frozenset({429, 503, 529})  # the last one is the Messages API's form of it
ID_HEADER: Final = "broadcaster-generation-id"
DIALECTS: Final = (
    *("native", "native", "native", "delta", "named", "parts", "ai-sdk", "ai-sdk-7"),
    *("ag-ui", "openai-chat", "openai-responses", "openai-responses", "anthropic"),
)
DIALECT_OF: Final = {
    "stream": "native",
    "responses": "openai-responses",
    "chat": "openai-chat",
    "messages": "anthropic",
    "ai-sdk": "ai-sdk",
    "ag-ui": "ag-ui",
}
FEED_DIALECTS: Final = ("native", "native", "native", "ai-sdk", "named")


class Traffic:
    """One method for each name in ``draw.TRAFFIC``."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._leases = LeaseWriting(world.urls, random.Random(world.setup.seed))

    async def answer(self, step: Step) -> None:
        """Request it until it is accepted; then a viewer watches it."""
        world = self._world
        if len(world.open_streams()) >= MOST_OPEN:
            return
        rng = random.Random(step.seed)
        order = draw_order(rng)
        answer = self._begin(order)
        await self._start(answer, rng)
        if answer.id is None:
            return
        if (dialect := DIALECT_OF.get(order.way)) is not None and rng.random() < 0.7:
            path, body = request_of(answer, hook=self._hook)
            world.watch(answer.id, dialect, rng, post=(path, body, {"idempotency-key": answer.name}))
        if rng.random() < 0.8:
            world.watch(answer.id, rng.choice(DIALECTS), rng)

    @property
    def _hook(self) -> str:
        return f"http://127.0.0.1:{self._world.hook_port}/hook"

    async def _start(self, answer: Answer, rng: random.Random) -> None:
        path, body = request_of(answer, hook=self._hook)
        until = time.monotonic() + INSIST_S
        while time.monotonic() < until:
            try:
                async with asyncio.timeout(20):
                    headers = {"idempotency-key": answer.name}
                    async with open_request(
                        rng.choice(self._world.urls), "POST", path, body=body, headers=headers
                    ) as opened:
                        self._named(answer, opened.headers.get(ID_HEADER))
                        if opened.status < 300 and answer.id is not None:
                            return
                        reply = await opened.whole()
            except (Broken, TimeoutError):
                await asyncio.sleep(0.1)
                continue
            if reply.status not in LATER:
                self._world.refused[f"{path} {reply.status} {reply.code}"] += 1
                if answer.id is None and not is_failure(reply.status):
                    self._world.found.append(Violation("ask", answer.name, f"{reply.status} {reply.body[:300]!r}"))
                return
            self._world.refused[f"{reply.status} {reply.code}"] += 1
            await asyncio.sleep(0.1)

    def _named(self, answer: Answer, id: str | None) -> None:
        if id is None:
            return
        if answer.id not in (None, id) and self._world.keeps:
            fault = f"the same key began {answer.id} and {id}"
            self._world.found.append(Violation("idempotency", answer.name, fault))
        answer.id = id

    async def feed(self, step: Step) -> None:
        """A feed, from its creation to its end, and its first viewer."""
        world = self._world
        if len(world.open_streams()) >= MOST_OPEN:
            return
        feed = HuntedFeed(f"hunt-{len(world.feeds)}-{step.seed % 100000}")
        world.feeds.append(feed)
        writing = asyncio.create_task(world.writing.write(feed, 8 + int(step.much * 40), 0.02 + 0.1 * step.who))
        while not feed.writers and not writing.done():
            await asyncio.sleep(0.05)
        if feed.writers:
            world.watch(feed.id, "native", random.Random(step.seed))
        await writing

    async def join(self, step: Step) -> None:
        """A viewer of something that is, or was, written lately."""
        world = self._world
        rng = random.Random(step.seed)
        watching = [viewer for viewer in world.viewers if viewer.ended_at is None and not viewer.has_left]
        named = [answer.id for answer in world.answers[-12:] if answer.id is not None]
        written = [feed.id for feed in world.feeds[-4:] if feed.writers]
        written += [feed.id for feed in world.leased[-4:] if feed.contacts]
        streams = [*named, *written]
        if not streams or len(watching) >= MOST_WATCHING:
            return
        stream = streams[int(step.who * len(streams))]
        world.watch(stream, rng.choice(DIALECTS if stream in named else FEED_DIALECTS), rng)

    async def leave(self, step: Step) -> None:
        """A viewer goes and does not come back; the first one of each stream stays."""
        first = {viewer.stream: viewer.name for viewer in reversed(self._world.viewers)}
        going = [
            viewer
            for viewer in self._world.viewers
            if viewer.ended_at is None and not viewer.has_left and first[viewer.stream] != viewer.name
        ]
        if going:
            viewer = going[int(step.who * len(going))]
            viewer.has_left = True
            assert viewer.task is not None
            viewer.task.cancel()

    async def lease(self, step: Step) -> None:
        """A feed with a lease whose writer dies, falls silent for a while, or deletes it."""
        world, rng = self._world, random.Random(step.seed)
        if len(world.open_streams()) >= MOST_OPEN:
            return
        feed = LeasedFeed(f"leased-{len(world.leased)}-{step.seed % 100000}", rng.choice(LEASES_S), rng.choice(FATES))
        if feed.fate == DELETES:
            world.forgotten.add(feed.id)
        world.leased.append(feed)
        world.done[f"lease {feed.fate}"] += 1
        writing = asyncio.create_task(self._leases.write(feed, 4 + int(step.much * 20), 0.02 + 0.2 * step.who))
        while not feed.contacts and not writing.done():
            await asyncio.sleep(0.05)
        if feed.contacts:
            for dialect in ("native", rng.choice(FEED_DIALECTS)):
                world.watch(feed.id, dialect, rng)
        await writing

    async def delete_new(self, step: Step) -> None:
        """An answer that is deleted soon after it was requested: it waits, or runs."""
        world, rng = self._world, random.Random(step.seed)
        if len(world.open_streams()) >= MOST_OPEN:
            return
        order = draw_order(rng)._replace(way="generations")
        answer = self._begin(order)
        await self._start(answer, rng)
        if answer.id is not None:
            world.watch(answer.id, rng.choice(DIALECTS), rng)
            await asyncio.sleep(step.much * step.who * 4)
            await self._delete(answer, rng)

    async def delete(self, step: Step) -> None:
        """An answer of a while ago is deleted: it runs or has ended, and may be watched."""
        posted = {viewer.stream for viewer in self._world.viewers if viewer.post is not None}
        named = [each for each in self._world.answers[-10:] if each.id and each.order.way == "generations"]
        deletable = [each for each in named if each.id not in self._world.forgotten | posted]
        if deletable:
            await self._delete(deletable[int(step.who * len(deletable))], random.Random(step.seed))

    async def _delete(self, answer: Answer, rng: random.Random) -> None:
        world = self._world
        world.forgotten.add(str(answer.id))
        world.done["deletions"] += 1
        answer.stop_requested = True
        until = time.monotonic() + INSIST_S
        while time.monotonic() < until:
            try:
                reply = await call(rng.choice(world.urls), "DELETE", f"/v1/generations/{answer.id}")
            except Broken:
                await asyncio.sleep(0.1)
                continue
            if reply.status < 300:
                answer.deleted_at = time.monotonic()
                answer.stop_acked = answer.stop_acked or answer.deleted_at
                return
            world.refused[f"delete {reply.status} {reply.code}"] += 1
            if reply.status not in LATER:
                if world.keeps:
                    world.found.append(Violation("deletion", str(answer.id), f"{reply.status} {reply.body[:200]!r}"))
                return
            await asyncio.sleep(0.1)

    def _begin(self, order: Order) -> Answer:
        world = self._world
        answer = Answer(f"{order.model_family}-hunt-{len(world.answers)}", order)
        world.answers.append(answer)
        world.provider.plans[answer.name] = order.plan
        world.done[f"asked by {order.way}"] += 1
        return answer

    async def trim(self, step: Step) -> None:
        """The oldest entries of an open feed go."""
        world = self._world
        feeds = [feed for feed in world.feeds if feed.writers and not feed.is_closed]
        if not feeds:
            return
        feed = feeds[int(step.who * len(feeds))]
        feed.is_trimmed = True
        key = f"bc:{{{feed.id}}}:log"
        with suppress(RedisError, LookupError, RuntimeError):
            port = port_of(await asyncio.to_thread(world.servers.node_of, key))
            await asyncio.to_thread(execute_at, port, "XTRIM", key, "MAXLEN", str(1 + int(20 * step.much)))

    async def stop(self, step: Step) -> None:
        """Stop an answer, and insist."""
        streams = set(self._world.open_streams())
        running = [answer for answer in self._world.answers if answer.id in streams and not answer.stop_requested]
        if not running:
            return
        answer = running[int(step.who * len(running))]
        answer.stop_requested = True
        rng = random.Random(step.seed)
        until = time.monotonic() + INSIST_S
        while time.monotonic() < until:
            try:
                async with asyncio.timeout(20):
                    url = rng.choice(self._world.urls)
                    async with open_request(url, "POST", f"/v1/generations/{answer.id}/stop") as opened:
                        reply = await opened.whole()
            except (Broken, TimeoutError):
                await asyncio.sleep(0.1)
                continue
            if reply.status < 300:
                answer.stop_acked = time.monotonic()
                return
            self._world.refused[f"stop {reply.status} {reply.code}"] += 1
            if reply.status not in LATER:
                if self._world.keeps:
                    self._world.found.append(Violation("stop", str(answer.id), f"{reply.status} {reply.body[:200]!r}"))
                return
            await asyncio.sleep(0.1)


def is_failure(status: int) -> bool:
    """Whether a status means that the answer itself failed, on a surface that waits for its first content."""
    return status in (500, 502, 504)


def request_of(answer: Answer, *, hook: str) -> tuple[str, dict[str, Any]]:
    """Path and body of the surface that this answer is requested on."""
    order: Order = answer.order
    message = {"role": "user", "content": "hunt"}
    match order.way:
        case "responses":
            return "/v1/responses", {"model": answer.name, "input": "hunt", "background": True, "stream": True}
        case "chat":
            return "/v1/chat/completions", {"model": answer.name, "messages": [message], "stream": True}
        case "messages":
            return "/v1/messages", {"model": answer.name, "max_tokens": 99, "messages": [message], "stream": True}
        case "ai-sdk":
            user_message = {"id": "m1", "role": "user", "parts": [{"type": "text", "text": "hunt"}]}
            chat = {"id": f"chat-{answer.name}", "messages": [user_message], "trigger": "submit-message"}
            return "/api/chat", {**chat, "model": answer.name}
        case "ag-ui":
            run = {"threadId": "t1", "runId": f"run-{answer.name}", "messages": [{"id": "m1", **message}]}
            return "/agui", {**run, "tools": [], "context": [], "forwardedProps": {"model": answer.name}}
        case _:
            body = {"model": answer.name, "prompt": "hunt", **order.fields}
            if order.has_webhook:
                body["webhook"] = {"url": hook}
            return "/v1/generations", body | ({"stream": True} if order.way == "stream" else {})
