"""A cluster on the loopback: three primaries and their replicas, killed, and its slots moved, as a test requests."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

from redis.crc import key_slot
from redis.exceptions import RedisError

from tests.support.log.redis_sentinel import execute_at
from tests.support.log.valkey import ValkeyServer, server_binary
from tests.support.servers.ports import draw_ports

SLOTS: Final = 16384
_POLL_S: Final = 0.05
_UP_S: Final = 30.0
_MIGRATE_MS: Final = 5000
_KEYS_AT_ONCE: Final = 100
_GIVEN_UP_S: Final = 6.0


class ClusterNode(ValkeyServer):
    """One node; killed and restarted it comes back as the cluster has it by then."""

    def __init__(
        self, folder: Path, *, port: int, announced: int, bus_port: int, node_timeout_ms: int, binary: Path
    ) -> None:
        folder.mkdir()
        options = (
            *("--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf", "--cluster-port", str(bus_port)),
            *("--cluster-node-timeout", str(node_timeout_ms), "--cluster-replica-validity-factor", "0"),
            *("--repl-diskless-sync-delay", "0", "--shutdown-timeout", "0"),
            *("--cluster-announce-port", str(announced)),
        )
        super().__init__(folder, port=port, binary=binary, options=options)
        self.port = port
        self.announced = announced
        self.bus_port = bus_port
        self.is_away = True
        self.id = ""

    @property
    def name(self) -> str:
        """``host:port``, as the cluster itself names it."""
        return f"127.0.0.1:{self.announced}"

    def start(self) -> None:
        super().start()
        self.is_away = False
        self.id = self.execute("CLUSTER", "MYID").decode()

    def stop(self) -> None:
        super().stop()
        self.is_away = True

    def kill(self) -> None:
        super().kill()
        self.is_away = True

    def pause(self) -> None:
        super().pause()
        self.is_away = True

    def resume(self) -> None:
        super().resume()
        self.is_away = False

    def execute(self, *arguments: str) -> Any:
        """One command's answer; raises RedisError when the node gives none in time."""
        return execute_at(self.port, *arguments)


class RedisCluster6:
    """All nodes: first the primaries of the beginning, then the replicas in the same order."""

    def __init__(self, nodes: list[ClusterNode]) -> None:
        self.nodes = nodes

    @property
    def url(self) -> str:
        """What an operator would set as REDIS_URL: some of the nodes."""
        return "redis+cluster://" + ",".join(node.name for node in self.nodes)

    @property
    def running(self) -> list[ClusterNode]:
        """Nodes that are neither killed nor paused."""
        return [node for node in self.nodes if not node.is_away]

    def primary_of(self, key: str) -> ClusterNode:
        """The server of the key's slot; LookupError when there is none."""
        return self.primary_of_slot(key_slot(key.encode()))

    def primary_of_slot(self, slot: int) -> ClusterNode:
        """The server of a slot, as the first running node sees it; LookupError when there is none."""
        for first, last, port in _primaries(self.running[0]):
            if first <= slot <= last:
                return self._at(port)
        raise LookupError(f"nobody serves slot {slot}")

    @property
    def primaries(self) -> list[ClusterNode]:
        """Nodes that serve slots now."""
        return [self._at(port) for port in sorted({port for _, _, port in _primaries(self.running[0])})]

    def replica_of(self, node: ClusterNode) -> ClusterNode:
        """A replica of that primary; LookupError when it has none."""
        for other in self.running:
            role = other.execute("ROLE")
            if role[0] == b"slave" and role[2] == node.announced:
                return other
        raise LookupError(f"{node.name} has no replica")

    def kill(self, node: ClusterNode) -> None:
        """SIGKILL; ``node.start()`` brings it back."""
        node.kill()

    def hand_over(self, to: ClusterNode, deadline_s: float) -> None:
        """Make a replica the primary of its shard. A server gives up after 5 s without an error: then retry."""
        deadline = time.monotonic() + deadline_s
        while time.monotonic() < deadline:
            to.execute("CLUSTER", "FAILOVER")
            began = time.monotonic()
            while time.monotonic() < began + _GIVEN_UP_S:
                if to.execute("ROLE")[0] == b"master":
                    return
                time.sleep(_POLL_S)
        raise TimeoutError(f"{to.name} is no primary after {deadline_s} s")

    def begin_migration(self, slot: int, to: ClusterNode) -> None:
        """Open the slot between its primary and ``to``: keys that are there stay, new ones are born over there."""
        source = self.primary_of_slot(slot)
        to.execute("CLUSTER", "SETSLOT", str(slot), "IMPORTING", source.id)
        source.execute("CLUSTER", "SETSLOT", str(slot), "MIGRATING", to.id)

    def finish_migration(self, slot: int) -> None:
        """Move what is left and give the slot away; RuntimeError when it is not under way."""
        source, target = self._migrating(slot)
        while self.migrate_keys(slot, _KEYS_AT_ONCE):
            pass
        for node in (target, source, *self.running):
            if node.execute("ROLE")[0] == b"master":
                node.execute("CLUSTER", "SETSLOT", str(slot), "NODE", target.id)

    def migrate_keys(self, slot: int, count: int) -> int:
        """Move so many of the keys that are still at the source; answers how many there were."""
        source, target = self._migrating(slot)
        keys = [key.decode() for key in source.execute("CLUSTER", "GETKEYSINSLOT", str(slot), str(count))]
        if keys:
            source.execute("MIGRATE", "127.0.0.1", str(target.port), "", "0", str(_MIGRATE_MS), "KEYS", *keys)
        return len(keys)

    def wait_ok(self, deadline_s: float) -> None:
        """Until all that run agree which serves what, those serve, and each running replica has its primary's data."""
        deadline = time.monotonic() + deadline_s
        while (fault := self._fault()) is not None:
            if time.monotonic() > deadline:
                raise TimeoutError(f"the cluster is not well after {deadline_s} s: {fault}")
            time.sleep(_POLL_S)

    def _fault(self) -> str | None:
        views = set()
        for node in self.running:
            try:
                if b"cluster_state:ok" not in node.execute("CLUSTER", "INFO"):
                    return f"{node.name} says it is down"
                views.add(_primaries(node))
                role = node.execute("ROLE")
            except RedisError as error:
                return f"{node.name}: {error}"
            if role[0] == b"slave" and role[3] != b"connected":
                return f"{node.name} has no link to its primary"
        if len(views) != 1:
            return "they disagree"
        (view,) = views
        if sum(last - first + 1 for first, last, _ in view) != SLOTS:
            return "a slot without a primary"
        if any(self._at(port).is_away for _, _, port in view):
            return "a primary that is away"
        return None

    def _migrating(self, slot: int) -> tuple[ClusterNode, ClusterNode]:
        """Source and target of an open slot: ``[slot->-target]`` in the source's report of itself, and its replica."""
        for node in self.primaries:
            for line in node.execute("CLUSTER", "NODES").decode().split("\n"):
                arguments = line.split()
                if len(arguments) > 2 and "myself" in arguments[2]:
                    target = next((word for word in arguments if word.startswith(f"[{slot}->-")), None)
                    if target is not None:
                        id = target.partition("->-")[2].rstrip("]")
                        return node, next(other for other in self.nodes if other.id == id)
        raise RuntimeError(f"slot {slot} is not being migrated")

    def _at(self, port: int) -> ClusterNode:
        return next(node for node in self.nodes if node.announced == port)


@contextmanager
def start_cluster(
    folder: Path,
    *,
    primaries: int = 3,
    replicas: int = 1,
    node_timeout_ms: int = 2000,
    binary: Path | None = None,
    announce: Callable[[int], int] = int,
) -> Iterator[RedisCluster6]:
    """A running cluster with every slot served; gone when the block ends.

    ``announce`` gives the port that a node at this port announces: that of a relay before it, or its own.
    """
    count = primaries * (1 + replicas)
    ports = draw_ports(2 * count)
    with ExitStack() as stack:
        nodes = []
        for number in range(count):
            node = ClusterNode(
                folder / f"node-{number}",
                port=ports[number],
                announced=announce(ports[number]),
                bus_port=ports[count + number],
                node_timeout_ms=node_timeout_ms,
                binary=binary or server_binary(),
            )
            stack.callback(node.stop)
            node.start()
            nodes.append(node)
        _join(nodes, primaries=primaries)
        cluster = RedisCluster6(nodes)
        cluster.wait_ok(_UP_S)
        yield cluster


def _join(nodes: Sequence[ClusterNode], *, primaries: int) -> None:
    """Slots dealt out, all met, replicas given their primaries."""
    for number, node in enumerate(nodes):
        node.execute("CLUSTER", "SET-CONFIG-EPOCH", str(number + 1))
        if number < primaries:
            first, last = SLOTS * number // primaries, SLOTS * (number + 1) // primaries - 1
            node.execute("CLUSTER", "ADDSLOTSRANGE", str(first), str(last))
    for number, node in enumerate(nodes):
        for other in nodes[number + 1 :]:
            node.execute("CLUSTER", "MEET", "127.0.0.1", str(other.port), str(other.bus_port))
    _until(lambda: all(_knows(node, len(nodes)) for node in nodes), "the nodes do not meet")
    for number, node in enumerate(nodes[primaries:]):
        node.execute("CLUSTER", "REPLICATE", nodes[number % primaries].id)


def _knows(node: ClusterNode, count: int) -> bool:
    lines = node.execute("CLUSTER", "NODES").decode().strip().split("\n")
    return len(lines) == count and not any("handshake" in line for line in lines)


def _primaries(node: ClusterNode) -> tuple[tuple[int, int, int], ...]:
    """Ranges of slots and the ports of their primaries, as this node sees them."""
    return tuple(
        sorted(
            (int(first), int(last), int(primary[1])) for first, last, primary, *_ in node.execute("CLUSTER", "SLOTS")
        )
    )


def _until(condition: Callable[[], bool], otherwise: str) -> None:
    deadline = time.monotonic() + _UP_S
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(otherwise)
        time.sleep(_POLL_S)
