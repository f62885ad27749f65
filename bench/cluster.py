"""Ours over a cluster: primaries without replicas on the loopback, their slots dealt out evenly."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from redis import Redis
from redis.crc import key_slot
from redis.exceptions import RedisError

from bench import streams
from bench.processes import Child, ProcessEnded, free_ports
from bench.servers import Ours
from broadcaster.log.redis.embedded import find_server
from broadcaster.log.redis.keys import KeyNames
from broadcaster.settings import Settings

_SLOTS: Final = 16_384
_START_S: Final = 20.0
_POLL_S: Final = 0.05


class OursOnCluster(Ours):
    """``broadcaster serve`` over so many primaries; they append to their files as the embedded server does."""

    def __init__(self, primaries: int) -> None:
        super().__init__(name=f"ours-on-{primaries}")
        self._firsts = [_SLOTS * number // primaries for number in range(primaries)]
        self._ports: list[int] = []
        self._nodes: list[Child] = []

    @property
    def redis_pids(self) -> Sequence[int]:
        return [node.pid for node in self._nodes]

    @property
    def redis_url(self) -> str:
        return "redis+cluster://" + ",".join(f"127.0.0.1:{port}" for port in self._ports)

    def start_redis(self, folder: Path) -> None:
        self.folder = folder
        count = len(self._firsts)
        ports = free_ports(2 * count)
        self._ports = ports[:count]
        for port, bus_port in zip(self._ports, ports[count:], strict=True):
            home = folder / f"{self.name}-{port}"
            home.mkdir()
            options = {
                "bind": "127.0.0.1",
                "port": port,
                "dir": home,
                "appendonly": "yes",
                "save": "",
                "cluster-enabled": "yes",
                "cluster-port": bus_port,
            }
            words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
            node = Child([find_server(), *words], log=folder / f"{self.name}-{port}.log")
            self._nodes.append(node)
            node.wait_for_port(port)
        self._join(ports[count:])

    def stop(self) -> None:
        super().stop()
        while self._nodes:
            self._nodes.pop().stop()

    def publish_to(self, run: str, count: int) -> Sequence[str]:
        file = self.folder / f"{self.name}-{run}.commands"
        streams.prepare(self.redis_url, run=run, streams=count, file=file)
        lines = file.read_text("utf-8").splitlines()
        placed = (f"@{self._place(f'{run}-{number}')}\t{line}\n" for number, line in enumerate(lines))
        file.write_text("".join(placed), "utf-8")
        return ["--redis", str(file), "--port", ",".join(map(str, self._ports))]

    def _place(self, stream_id: str) -> int:
        """Which primary has the stream's keys."""
        key = KeyNames(Settings.model_construct().key_prefix).log(stream_id)
        return bisect_right(self._firsts, key_slot(key.encode())) - 1

    def _join(self, bus_ports: Sequence[int]) -> None:
        clients = [Redis(port=port) for port in self._ports]
        ends = [*self._firsts[1:], _SLOTS]
        try:
            for number, client in enumerate(clients):  # before any of them has met another
                _send(client, "CLUSTER SET-CONFIG-EPOCH", number + 1)
                _send(client, "CLUSTER ADDSLOTSRANGE", self._firsts[number], ends[number] - 1)
            for port, bus_port in zip(self._ports[1:], bus_ports[1:], strict=True):
                _send(clients[0], "CLUSTER MEET", "127.0.0.1", port, bus_port)
            _until(lambda: all(self._is_whole(client) for client in clients))
        except RedisError as error:
            raise ProcessEnded(f"the primaries do not become a cluster: {error}") from error
        finally:
            for client in clients:
                client.close()

    def _is_whole(self, client: Redis) -> bool:
        try:
            info: dict[str, str] = client.cluster("INFO")
        except RedisError:
            return False
        return info["cluster_state"] == "ok" and int(info["cluster_size"]) == len(self._ports)


def _send(client: Redis, *words: object) -> None:
    client.execute_command(*words)  # type: ignore[no-untyped-call]


def _until(is_true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _START_S
    while not is_true():
        if time.monotonic() > deadline:
            raise ProcessEnded("the primaries do not become a cluster")
        time.sleep(_POLL_S)
