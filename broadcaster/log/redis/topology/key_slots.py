"""Which key a command is about, which slot a key is in, and which server serves a slot.

A command is sent to the server of its key. The table holds what this project sends, not all of Redis: a command that is
not in it is refused here and never sent to a server by chance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot

SLOTS: Final = REDIS_CLUSTER_HASH_SLOTS

_KEY_IS_FIRST: Final = frozenset((
    "DEL", "EXISTS", "EXPIRE", "GET", "HDEL", "HEXISTS", "HGET", "HGETALL", "HINCRBY", "HKEYS", "HMGET", "HSET",
    "HSETNX", "HSTRLEN", "PERSIST", "PEXPIRE", "PTTL", "SET", "SPUBLISH", "TTL", "TYPE", "XACK", "XADD",
    "XCLAIM", "XDEL", "XLEN", "XPENDING", "XRANGE", "XREVRANGE", "XTRIM", "ZADD", "ZCARD", "ZCOUNT", "ZMSCORE",
    "ZRANGE", "ZRANGEBYSCORE", "ZREM", "ZREMRANGEBYRANK", "ZREMRANGEBYSCORE", "ZREVRANGE", "ZSCORE",
))  # fmt: skip
# redis-py writes a command and its subcommand as one argument.
_SUBCOMMANDS: Final = frozenset({"XGROUP CREATE", "XINFO GROUPS"})
_SCRIPTS: Final = frozenset({"EVAL", "EVALSHA"})
# Each with where STREAMS can stand first: a group and a consumer may have that name.
_READS: Final = {"XREAD": 1, "XREADGROUP": 4}
_KEYS_FOLLOW: Final = b"STREAMS"
_OTHER_ADDRESSES: Final = 3  # after host, port and id, since 7.0


def key_of(args: Sequence[Any]) -> bytes:
    """The first key of a command (all of them share its slot). Raises LookupError for a command without one."""
    name = args[0]
    if name in _SCRIPTS:
        if int(args[2]) > 0:
            return _bytes(args[3])
    elif name in _KEY_IS_FIRST or name in _SUBCOMMANDS:
        return _bytes(args[1])
    elif name in _READS:
        return _bytes(args[args.index(_KEYS_FOLLOW, _READS[name]) + 1])
    raise LookupError(f"{name} names no key: call the client of one server")


def slot_of(key: str | bytes) -> int:
    """The slot of a key, by its hash tag."""
    return key_slot(_bytes(key))


@dataclass(slots=True)
class SlotMap:
    """The server of each slot, as ``host:port``; None: it is not known."""

    owners: list[str | None] = field(default_factory=lambda: [None] * SLOTS)
    replicas: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def read(cls, answer: Sequence[Any], *, source: str) -> SlotMap:
        """From the reply of ``source`` to CLUSTER SLOTS; a server without a host is ``source`` itself."""
        slots = cls()
        for first, last, primary, *replicas in answer:
            name = _name(primary, source=source)
            if not 0 <= int(first) <= int(last) < SLOTS:
                raise ValueError(f"no such slots: {first} to {last}")
            slots.owners[int(first) : int(last) + 1] = [name] * (int(last) - int(first) + 1)
            slots.replicas[name] = tuple(sorted(_name(each, source=source) for each in replicas))
        return slots

    @property
    def primaries(self) -> tuple[str, ...]:
        """The servers that serve a slot."""
        return tuple(sorted(each for each in set(self.owners) if each is not None))

    @property
    def is_whole(self) -> bool:
        """Whether every slot is served."""
        return None not in self.owners


def _name(node: Sequence[Any], *, source: str) -> str:
    """NULL or "" is the host of ``source`` (behind NAT); "?" a host name that was never set: its address counts."""
    host = node[0]
    if host in ("?", b"?"):
        others = node[_OTHER_ADDRESSES] if len(node) > _OTHER_ADDRESSES else ()
        host = dict(zip(others[::2], others[1::2], strict=True)).get(b"ip")
    host = host.decode() if isinstance(host, bytes) else host
    return f"{host or source.rpartition(':')[0]}:{int(node[1])}"


def _bytes(key: Any) -> bytes:
    return key if isinstance(key, bytes) else str(key).encode()
