"""The whole system of one hunt, and everything that is written down about it."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from broadcaster import Broadcaster
from broadcaster.sync import Publisher
from tests.hunt.clients.feeds import FeedWriting, HuntedFeed
from tests.hunt.clients.leases import LeasedFeed
from tests.hunt.clients.viewer import Viewer
from tests.hunt.draw import Setup
from tests.hunt.judging.answers import Answer, Violation
from tests.hunt.system.lag import Lag
from tests.hunt.system.processes import Life
from tests.hunt.system.provider import Provider
from tests.hunt.system.receiver import SECRET, Receiver
from tests.hunt.system.relay import HuntRelay, open_relay
from tests.hunt.system.servers import Servers, fake_clock, open_servers, port_of
from tests.hunt.system.wire import serve
from tests.support.servers.ports import draw_ports

ROUTES: Final = {"claude*": "anthropic", "gpt*": "openai", "responses*": "openai-responses", "local": "local"}
HOST: Final = "127.0.0.1"
# What is older than this has long been on the replicas.
REPLICATED_S: Final = 5.0


@dataclass(frozen=True)
class Window:
    """A fault while it was in force."""

    name: str
    began: float
    ended: float


@dataclass
class World:
    """See the module's text. Made by ``open_world``."""

    folder: Path
    setup: Setup
    began: float
    servers: Servers
    provider: Provider
    receiver: Receiver
    hook_port: int
    writing: FeedWriting
    workers: list[Life] = field(default_factory=list)
    front_ends: list[Life] = field(default_factory=list)
    relays: list[HuntRelay] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    feeds: list[HuntedFeed] = field(default_factory=list)
    leased: list[LeasedFeed] = field(default_factory=list)
    forgotten: set[str] = field(default_factory=set)  # streams whose deletion was requested
    viewers: list[Viewer] = field(default_factory=list)
    windows: list[Window] = field(default_factory=list)
    worker_kills: list[float] = field(default_factory=list)
    losses: list[Window] = field(default_factory=list)  # when Redis may have forgotten something
    lag: Lag = field(default_factory=Lag)
    done: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    found: list[Violation] = field(default_factory=list)
    over: set[str] = field(default_factory=set)  # streams whose end is in the log

    @property
    def keeps(self) -> bool:
        """Whether Redis has kept all that it acknowledged until now."""
        return not self.servers.loses

    def keeps_of(self, stream: str) -> bool:
        """Whether Redis has kept all of this stream: no loss in its time, nor after it but a failover's."""
        began = [each.began for each in self.answers if each.id == stream]
        began += [feed.began for feed in self.feeds if feed.id == stream]
        began += [leased.began for leased in self.leased if leased.id == stream]
        ends = [viewer.ended_at for viewer in self.viewers if viewer.stream == stream and viewer.ended_at is not None]
        end = max(ends, default=time.monotonic()) + REPLICATED_S
        is_forgetful = self.setup.lossy
        return all(loss.ended < min(began) or (loss.began > end and not is_forgetful) for loss in self.losses)

    def lost_at_of(self, stream: str) -> float:
        """When Redis may last have forgotten something of this stream; 0: never."""
        return 0.0 if self.keeps_of(stream) else max((loss.ended for loss in self.losses), default=0.0)

    @property
    def urls(self) -> list[str]:
        """Of all front-ends, whether they run or not."""
        return [life.url for life in self.front_ends]

    def report(self, text: str) -> None:
        """For people, with the time since the beginning."""
        print(f"{time.monotonic() - self.began:7.2f} {text}", flush=True)

    def watch(
        self,
        stream: str,
        dialect: str,
        rng: random.Random,
        *,
        post: tuple[str, Any, dict[str, str]] | None = None,
    ) -> Viewer:
        """A viewer from now on; ``post``: see Viewer."""
        viewer = Viewer(
            f"viewer-{len(self.viewers)}",
            stream,
            dialect,
            self.urls,
            rng,
            lambda: self.keeps and stream not in self.forgotten,
            post=post,
            is_slow=rng.random() < 0.1,
        )
        self.viewers.append(viewer)
        viewer.task = asyncio.create_task(viewer.run())
        return viewer

    def open_streams(self) -> list[str]:
        """Streams of which a viewer that stays has not had the end."""
        return sorted({viewer.stream for viewer in self.viewers if viewer.ended_at is None and not viewer.has_left})

    def environment(self, relay: HuntRelay | None, *, skew_s: int = 0, **more: object) -> dict[str, str]:
        """What a process of ours is started with."""
        url = self.servers.url if relay is None else f"redis://{HOST}:{relay.port}"
        settings = {**self.setup.settings, "redis_url": url, **more}
        variables = {f"BROADCASTER_{name.upper()}": str(value) for name, value in settings.items()}
        if not skew_s:
            return variables
        clock = self.folder / f"skew{skew_s}"
        clock.write_text(f"{skew_s:+d}\n")
        return {**variables, **fake_clock(clock)}

    async def stop_all(self) -> None:
        """End every process and every viewer."""
        for viewer in self.viewers:
            if viewer.task is not None:
                viewer.task.cancel()
        await asyncio.gather(*(v.task for v in self.viewers if v.task is not None), return_exceptions=True)
        lives = [life for life in (*self.workers, *self.front_ends) if life.is_running]
        await asyncio.gather(*(life.kill() for life in lives))


def _shared(provider_port: int, folder: Path) -> dict[str, str]:
    return {
        "ANTHROPIC_BASE_URL": f"http://{HOST}:{provider_port}",
        "ANTHROPIC_API_KEY": "hunt",
        "OPENAI_BASE_URL": f"http://{HOST}:{provider_port}/v1",
        "OPENAI_API_KEY": "hunt",
        "BROADCASTER_ROUTES": json.dumps(ROUTES),
        "BROADCASTER_TOOLS": "tests.hunt.system.tools:box",
        "BROADCASTER_WEBHOOK_HOSTS": f"{HOST}:*",
        "BROADCASTER_WEBHOOK_SECRET": SECRET,
        "HUNT_TOOL_RUNS": str(folder / "tool-runs"),
    }


@asynccontextmanager
async def open_world(folder: Path, setup: Setup, rng: random.Random) -> AsyncIterator[World]:
    """The system of this setup, running."""
    began = time.monotonic()
    clock = folder / "clock" if setup.has_clock else None
    if clock is not None:
        clock.write_text("+0\n")
    async with AsyncExitStack() as stack:
        relays: list[HuntRelay] = []
        loop = asyncio.get_running_loop()

        def announce(port: int) -> int:
            """In the thread that starts the servers: the port of a relay before this one, whose loop is ours."""
            if not setup.has_relays:
                return port
            opening = asyncio.run_coroutine_threadsafe(stack.enter_async_context(open_relay(port)), loop)
            relays.append(opening.result())
            return relays[-1].port

        opened = open_servers(setup.topology, folder / "redis", lossy=setup.lossy, clock=clock, announce=announce)
        servers = await asyncio.to_thread(opened.__enter__)
        stack.push(opened.__exit__)
        provider, receiver = Provider(), Receiver(random.Random(rng.getrandbits(32)))
        provider_port = await stack.enter_async_context(serve(provider.answer))
        hook_port = await stack.enter_async_context(serve(receiver.answer))
        library = await stack.enter_async_context(Broadcaster.from_url(servers.url, feed_append_rate=2000))
        publisher = Publisher.from_url(servers.url, feed_append_rate=2000)
        stack.callback(publisher.close)
        writing = FeedWriting([], library, publisher, random.Random(rng.getrandbits(32)), lambda: not servers.loses)
        world = World(folder, setup, began, servers, provider, receiver, hook_port, writing, relays=relays)
        measuring = asyncio.create_task(world.lag.run())
        stack.callback(measuring.cancel)
        stack.push_async_callback(world.stop_all)
        shared = _shared(provider_port, folder)
        await _start(world, shared, stack)
        writing.urls = world.urls
        yield world


async def _start(world: World, shared: dict[str, str], stack: AsyncExitStack) -> None:
    setup = world.setup
    relays: list[HuntRelay | None] = []
    for _ in range(len(setup.skews) + len(setup.processes)):
        is_relayed = setup.has_relays and setup.topology == "one"  # else they are before the nodes
        relay = await stack.enter_async_context(open_relay(_port(world))) if is_relayed else None
        relays.append(relay)
    world.relays += [relay for relay in relays if relay is not None]
    for n, skew_s in enumerate(setup.skews):
        environment = {**shared, **world.environment(relays[n], skew_s=skew_s)}
        life = Life(f"worker-{n}", ("worker",), environment, world.folder, "worker_ready")
        life.is_forked = setup.is_forked and not skew_s
        world.workers.append(life)
    ports = draw_ports(len(setup.processes))
    for n, (port, processes) in enumerate(zip(ports, setup.processes, strict=True)):
        environment = {**shared, **world.environment(relays[len(setup.skews) + n], port=port)}
        text = ("serve", "--port", str(port), "--processes", str(processes))
        life = Life(f"front-end-{n}", text, environment, world.folder, "listening on", f"http://{HOST}:{port}")
        life.is_forked = setup.is_forked
        world.front_ends.append(life)
    await asyncio.gather(*(life.start() for life in (*world.workers, *world.front_ends)))


def _port(world: World) -> int:
    servers: Sequence[object] = world.servers.all()
    assert len(servers) == 1
    return port_of(world.servers.all()[0])
