"""The servers: ours as a user runs it, the floor in C, nchan, and what people write today. Each on free ports.

Rules
1. ``start`` returns when it answers; ``stop`` ends what ``start`` began, by pid.
2. ``pids`` is what its CPU and memory are taken of; ``redis_pids`` the Redis behind it, counted apart.
3. ``publish_to`` makes the streams of one run and says how the publisher reaches them. Runs never share a stream.
4. ``carries`` is the most deliveries a second that a run offers it: a server that is asked for more than it can do
   shows nothing but its queue.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import signal
import sys
import tempfile
from abc import abstractmethod
from collections.abc import Sequence
from copy import copy
from pathlib import Path
from typing import Final, Protocol

from bench import streams
from bench.processes import Child, free_ports
from bench.programs import PEERS, Programs, find_centrifugo, find_naive_python, find_nchan
from broadcaster.log.redis.embedded import EmbeddedServer

MOST_FEEDS: Final = 20_000


class Server(Protocol):
    """What scenarios know of a server."""

    name: str
    port: int
    has_native_ids: bool
    carries: float

    @property
    @abstractmethod
    def pids(self) -> Sequence[int]:
        """Processes that are measured."""

    @property
    @abstractmethod
    def redis_pids(self) -> Sequence[int]:
        """The Redis behind it; none, when it keeps everything in its own memory."""

    @abstractmethod
    def start(self, folder: Path) -> None:
        """Start it; its files go into ``folder``."""

    @abstractmethod
    def stop(self) -> None:
        """End it. Idempotent."""

    @abstractmethod
    def path(self, run: str) -> str:
        """Where viewers of the run's streams go; ``{i}`` is the stream's number."""

    @abstractmethod
    def publish_to(self, run: str, count: int) -> Sequence[str]:
        """Make the run's streams; the publisher's words for where events go."""


class OneProcess:
    """The common part: one child, measured with its children."""

    carries = math.inf
    has_native_ids = False

    def __init__(self) -> None:
        self.port = 0
        self.folder = Path()
        self.child: Child | None = None

    @property
    def pids(self) -> Sequence[int]:
        return [self.child.pid] if self.child is not None else []

    @property
    def redis_pids(self) -> Sequence[int]:
        return []

    def stop(self) -> None:
        if self.child is not None:
            self.child.stop()
            self.child = None


class WithRedis(OneProcess):
    """One child over an embedded server of its own."""

    def __init__(self) -> None:
        super().__init__()
        self._redis: EmbeddedServer | None = None

    @property
    def redis_pids(self) -> Sequence[int]:
        pid = self._redis.pid if self._redis is not None else None
        return [] if pid is None else [pid]

    @property
    def redis_url(self) -> str:
        """URL of the Redis behind it."""
        assert self._redis is not None, "it has not been started"
        return self._redis.url

    @property
    def redis_socket(self) -> str:
        """Path of its unix socket."""
        return self.redis_url.removeprefix("unix://")

    def start_redis(self, folder: Path) -> None:
        """As `broadcaster up` runs it: the wheel's Valkey, appending to a file every second."""
        self.folder = folder
        self._redis = EmbeddedServer(Path(tempfile.mkdtemp(prefix="redis-", dir=folder)))
        asyncio.run(self._redis.start())

    def stop(self) -> None:
        super().stop()
        if self._redis is not None:
            asyncio.run(self._redis.stop())
            self._redis = None


class Ours(WithRedis):
    """``broadcaster serve`` with the defaults, but for the number of viewers it may have."""

    has_native_ids = True

    def __init__(self, *, processes: int = 1, name: str = "ours") -> None:
        super().__init__()
        self.name = name
        self._processes = processes
        self._query = ""

    def speaking(self, dialect: str) -> Ours:
        """The same server to viewers of another dialect; whatever its ids are, they are not those of ``native``."""
        twin = copy(self)
        twin.has_native_ids, twin._query = False, f"?dialect={dialect}"
        return twin

    def start(self, folder: Path) -> None:
        self.start_redis(folder)
        self.serve()

    def serve(self) -> None:
        """Start the front-end alone, where it was before: what it knew of the streams is gone."""
        self.port = self.port or free_ports(1)[0]
        more = ["--processes", str(self._processes)] if self._processes > 1 else []
        self.child = Child(
            [sys.executable, "-m", "broadcaster", "serve", "--port", str(self.port), *more],
            log=self.folder / f"{self.name}.log",
            environment={
                "BROADCASTER_REDIS_URL": self.redis_url,
                "BROADCASTER_MAX_VIEWERS": str(MOST_FEEDS),
                "BROADCASTER_LOG_LEVEL": "warning",
            },
        )
        self.child.wait_for_port(self.port)

    def beside(self) -> Ours:
        """A second front-end over the same Redis; ``kill`` it when it is done."""
        twin = copy(self)
        twin.name, twin.port = f"{self.name}-beside", 0
        twin.serve()
        return twin

    def kill(self) -> None:
        """SIGKILL to the front-end."""
        if self.child is not None:
            self.child.send(signal.SIGKILL)
            self.child.stop()

    def restart(self) -> None:
        """End the front-end and start another over the same Redis."""
        self.kill()
        self.serve()

    def path(self, run: str) -> str:
        return f"/v1/streams/{run}-{{i}}/events{self._query}"

    def replay_path(self, run: str) -> str:
        """The path for viewers that read from the beginning, on every server that stores events."""
        return self.path(run)

    def publish_to(self, run: str, count: int) -> Sequence[str]:
        file = self.folder / f"{run}.commands"
        streams.prepare(self.redis_url, run=run, streams=count, file=file)
        return ["--redis", str(file), "--socket", self.redis_socket]


class Floor(OneProcess):
    """``floor.c``: the kernel's price."""

    name = "floor"
    has_native_ids = True

    def __init__(self, programs: Programs) -> None:
        super().__init__()
        self._program = programs.floor
        self._events_port = 0

    def start(self, folder: Path) -> None:
        self.port, self._events_port = free_ports(2)
        command = [str(self._program), str(self.port), str(self._events_port)]
        self.child = Child(command, log=folder / "floor.log")
        self.child.wait_for_port(self._events_port)

    def path(self, run: str) -> str:
        return "/{i}"

    def publish_to(self, run: str, count: int) -> Sequence[str]:
        return ["--lines", "--port", str(self._events_port)]


class Nchan(OneProcess):
    """nginx with nchan, one worker, memory store: the fastest hub there is. Publishing is HTTP, on its worker's CPU."""

    name = "nchan"

    def __init__(self) -> None:
        super().__init__()
        self._program, self._module = find_nchan()

    def start(self, folder: Path) -> None:
        (self.port,) = free_ports(1)
        base = folder / "nchan"
        # Where the module makes its temporary folders, whatever the configuration says; see `make benchtools`.
        (base / "var-lib-nginx_").mkdir(parents=True, exist_ok=True)
        text = (PEERS / "nchan.conf").read_text("utf-8")
        # Started by root, its worker would run as the user `nobody`, which may not enter the folder.
        user = "user root;" if os.getuid() == 0 else ""
        for name, value in {"MODULE": self._module, "PORT": self.port, "FOLDER": base, "USER": user}.items():
            text = text.replace(f"@{name}@", str(value))
        (base / "nginx.conf").write_text(text, "utf-8")
        files = ["-p", f"{base}/", "-c", str(base / "nginx.conf"), "-e", str(base / "error.log")]
        command = [str(self._program), *files]
        self.child = Child(command, log=folder / "nchan.log")
        self.child.wait_for_port(self.port)

    def path(self, run: str) -> str:
        return f"/sub/{run}-{{i}}"

    def replay_path(self, run: str) -> str:
        return f"/old/{run}-{{i}}"

    def publish_to(self, run: str, count: int) -> Sequence[str]:
        # A stream keeps to one connection, so that its order is the publisher's.
        links = min(8, count)
        return ["--http", f"/pub/{run}-{{i}}", "--port", str(self.port), "--links", str(links), "--window", "64"]


class Centrifugo(OneProcess):
    """Centrifugo, memory engine, unidirectional SSE; events come in batches over its HTTP API, on its own CPU."""

    name = "centrifugo"
    carries = 20_000.0

    def __init__(self) -> None:
        super().__init__()
        self._program = find_centrifugo()

    def start(self, folder: Path) -> None:
        (self.port,) = free_ports(1)
        anyone = {"allow_subscribe_for_client": True, "allow_subscribe_for_anonymous": True}
        file = folder / "centrifugo.json"
        settings = {
            "http_server": {"address": "127.0.0.1", "port": str(self.port), "internal_port": str(self.port)},
            "client": {"insecure": True, "connection_limit": MOST_FEEDS},
            "http_api": {"insecure": True},
            "uni_sse": {"enabled": True},
            "channel": {"without_namespace": anyone},
            "log": {"level": "error"},
        }
        file.write_text(json.dumps(settings), "utf-8")
        self.child = Child([self._program, "-c", file], log=folder / "centrifugo.log")
        self.child.wait_for_port(self.port)

    def path(self, run: str) -> str:
        # {"subs":{"<channel>":{}}}
        return f"/connection/uni_sse?cf_connect=%7B%22subs%22%3A%7B%22{run}-{{i}}%22%3A%7B%7D%7D%7D"

    def publish_to(self, run: str, count: int) -> Sequence[str]:
        # A stream keeps to one connection, as with nchan.
        links = min(8, count)
        return ["--centrifugo", f"{run}-{{i}}", "--port", str(self.port), "--links", str(links), "--window", "64"]


class Naive(WithRedis):
    """FastAPI, sse-starlette, and a Redis subscription for each viewer: what tutorials show."""

    name = "naive"
    carries = 6_000.0

    def __init__(self) -> None:
        super().__init__()
        self._python = find_naive_python()

    def start(self, folder: Path) -> None:
        self.start_redis(folder)
        (self.port,) = free_ports(1)
        self.child = Child(
            [
                *(str(self._python), "-m", "uvicorn", "naive:app", "--app-dir", str(PEERS), "--port", str(self.port)),
                *("--loop", "uvloop", "--http", "httptools", "--backlog", "4096"),
                *("--no-access-log", "--log-level", "warning"),
            ],
            log=folder / "naive.log",
            environment={"NAIVE_REDIS_URL": self.redis_url, "PYTHONPATH": ""},
        )
        self.child.wait_for_port(self.port)

    def path(self, run: str) -> str:
        return f"/live/{run}-{{i}}"

    def replay_path(self, run: str) -> str:
        return f"/replay/{run}-{{i}}"

    def publish_to(self, run: str, count: int) -> Sequence[str]:
        file = self.folder / f"{run}.commands"
        file.write_text("".join(f"PUBLISH\tlive:{run}-{number}\t{{event}}\n" for number in range(count)), "utf-8")
        return ["--redis", str(file), "--socket", self.redis_socket]

    def store_to(self, run: str) -> Sequence[str]:
        """The publisher's words for a stream of Redis, which replay reads."""
        file = self.folder / f"{run}.stored"
        file.write_text(f"XADD\tlog:{run}-0\t*\td\t{{event}}\n", "utf-8")
        return ["--redis", str(file), "--socket", self.redis_socket]
