"""A primary, its replica and three sentinels: real processes on the loopback, failing over as in production."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

from redis import Redis
from redis.exceptions import RedisError

from broadcaster.process.lifeline import die_with_parent
from tests.support.log.valkey import ValkeyServer, server_binary
from tests.support.servers.ports import draw_ports

SERVICE: Final = "answers"
_QUORUM: Final = 2
_SENTINELS: Final = 3
_FAILOVER_TIMEOUT_MS: Final = 5000
_REPLY_S: Final = 1.0
_POLL_S: Final = 0.05
_UP_S: Final = 20.0


class DataNode(ValkeyServer):
    """One server of the pair. Its role is kept in its own file, where a sentinel has it rewritten."""

    def __init__(self, folder: Path, *, port: int, announced: int, role: str, binary: Path | None) -> None:
        folder.mkdir()
        config = folder / "node.conf"
        config.write_text(role)
        options = (
            *("--repl-diskless-sync-delay", "0", "--shutdown-timeout", "0"),
            *("--replica-announce-ip", "127.0.0.1", "--replica-announce-port", str(announced)),
        )
        super().__init__(folder, port=port, binary=binary, config=config, options=options)
        self.port = port
        self.announced = announced

    def execute(self, *arguments: str) -> Any:
        """One command's answer; raises RedisError when the node gives none in time."""
        return execute_at(self.port, *arguments)


class _SentinelProcess:
    """One sentinel over its own file, which it rewrites."""

    def __init__(self, folder: Path, *, port: int, lines: str, binary: Path) -> None:
        folder.mkdir()
        self.port = port
        config = folder / "sentinel.conf"
        config.write_text(f"port {port}\nbind 127.0.0.1\ndir {folder}\nlogfile {folder}/sentinel.log\n{lines}")
        self._process = subprocess.Popen(
            [str(binary), str(config), "--sentinel"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=die_with_parent,  # noqa: PLW1509  between fork and exec it makes one system call
        )

    def kill(self) -> None:
        """SIGKILL: a sentinel keeps nothing that a test wants."""
        self._process.kill()
        self._process.wait()


class Sentinels:
    """The whole set-up. ``primary`` and ``replica`` are by the roles of now, as the sentinels report them."""

    def __init__(self, servers: tuple[DataNode, DataNode], sentinels: list[_SentinelProcess]) -> None:
        self.servers = servers
        self.sentinels = sentinels
        self._known: DataNode = servers[0]

    @property
    def url(self) -> str:
        """What an operator would set as REDIS_URL."""
        hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        return f"redis+sentinel://{hosts}/{SERVICE}/0"

    @property
    def primary(self) -> DataNode:
        """The server that the sentinels name; RuntimeError when none of them answers."""
        for sentinel in self.sentinels:
            named = self._named_by(sentinel)
            if named is not None:
                return named
        raise RuntimeError("no sentinel answers")

    @property
    def replica(self) -> DataNode:
        """The other one, whether it runs or not."""
        primary = self.primary
        return next(server for server in self.servers if server is not primary)

    def wait_failover(self, deadline_s: float) -> DataNode:
        """Until all sentinels name another primary than at the last call, and it takes writes."""
        wait_until(self._has_failed_over, deadline_s, "no failover")
        self._known = self.primary
        return self._known

    def wait_whole(self, deadline_s: float) -> None:
        """Until the primary of now has its replica beside it, with all that it holds itself."""
        wait_until(self._is_whole, deadline_s, "the pair is not whole")
        self._known = self.primary

    def _has_failed_over(self) -> bool:
        named = {self._named_by(sentinel) for sentinel in self.sentinels}
        (primary, *others) = named
        return not others and primary is not None and primary is not self._known and role_of(primary) == b"master"

    def _is_whole(self) -> bool:
        named = {self._named_by(sentinel) for sentinel in self.sentinels}
        if len(named) != 1 or None in named or role_of(self.primary) != b"master":
            return False
        known = {sentinel.port: self._master(sentinel) for sentinel in self.sentinels}
        if any(fields is None or int(fields[b"num-slaves"]) < 1 for fields in known.values()):
            return False
        if any(int(fields[b"num-other-sentinels"]) < _SENTINELS - 1 for fields in known.values() if fields):
            return False
        try:
            return bool(self.replica.execute("ROLE")[3] == b"connected")
        except (RedisError, IndexError, TypeError):
            return False

    def _named_by(self, sentinel: _SentinelProcess) -> DataNode | None:
        fields = self._master(sentinel)
        if fields is None:
            return None
        return next(server for server in self.servers if server.announced == int(fields[b"port"]))

    def _master(self, sentinel: _SentinelProcess) -> dict[bytes, bytes] | None:
        try:
            flat = execute_at(sentinel.port, "SENTINEL", "MASTER", SERVICE)
        except RedisError:
            return None
        return flat if isinstance(flat, dict) else dict(zip(flat[::2], flat[1::2], strict=True))


def execute_at(port: int, *arguments: str) -> Any:
    """One command to a server of the loopback; raises RedisError when it does not answer in time."""
    # With a driver's name, redis-py reads its version from the installed package, for each client anew.
    with Redis(
        port=port, socket_timeout=_REPLY_S, socket_connect_timeout=_REPLY_S, protocol=2, driver_info=None
    ) as client:
        client.response_callbacks.clear()
        return client.execute_command(*arguments)


def role_of(server: DataNode) -> bytes | None:
    """``master`` or ``slave``, as the server reports; None when it does not answer."""
    try:
        return bytes(server.execute("ROLE")[0])
    except RedisError:
        return None


@contextmanager
def start_sentinels(
    folder: Path,
    *,
    down_after_ms: int = 1000,
    binary: Path | None = None,
    announce: Callable[[int], int] = int,
) -> Iterator[Sentinels]:
    """A running set-up in which all know all; gone when the block ends.

    ``announce`` gives the port that a server at this port announces: that of a relay before it, or its own.
    """
    ports = draw_ports(2 + _SENTINELS)
    binary = binary or server_binary()
    with ExitStack() as stack:
        first, second = announce(ports[0]), announce(ports[1])
        role = f"replicaof 127.0.0.1 {first}\n"
        servers = (
            DataNode(folder / "a", port=ports[0], announced=first, role="", binary=binary),
            DataNode(folder / "b", port=ports[1], announced=second, role=role, binary=binary),
        )
        for server in servers:
            stack.callback(server.stop)
            server.start()
        lines = (
            f"sentinel monitor {SERVICE} 127.0.0.1 {first} {_QUORUM}\n"
            f"sentinel down-after-milliseconds {SERVICE} {down_after_ms}\n"
            f"sentinel failover-timeout {SERVICE} {_FAILOVER_TIMEOUT_MS}\n"
        )
        processes = []
        for number, port in enumerate(ports[2:]):
            process = _SentinelProcess(folder / f"sentinel-{number}", port=port, lines=lines, binary=binary)
            stack.callback(process.kill)
            processes.append(process)
        sentinels = Sentinels(servers, processes)
        sentinels.wait_whole(_UP_S)
        yield sentinels


def wait_until(condition: Callable[[], bool], deadline_s: float, otherwise: str) -> None:
    """Until it holds; raises TimeoutError."""
    deadline = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{otherwise} within {deadline_s} s")
        time.sleep(_POLL_S)
