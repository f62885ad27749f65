"""Which primary serves which of a cluster's slots, as one of its nodes sees it (the answer to CLUSTER SLOTS).

Rules
1. Every slot has one owner or none. A primary that serves no slot is not one of ``nodes``: nothing can be heard there.
2. A node is named as the cluster announces it, ``host:port``: by address or by host name, IPv6 without brackets.
3. A node without a host is at the host that was asked (so do clusters behind NAT answer); ``?`` is a host name that
   was never set: then the address beside it counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, TypeAlias

from redis.crc import key_slot

SLOTS: Final = 16384
_NO_NAME: Final = b"?"

Address: TypeAlias = tuple[str, int]


@dataclass(frozen=True, slots=True)
class SlotMap:
    """A view of the cluster. Views are equal when the same nodes serve the same slots."""

    owners: tuple[str | None, ...]
    primaries: Mapping[str, Address]
    replicas: frozenset[Address] = frozenset()

    @classmethod
    def read(cls, reply: Any, *, asked: str) -> SlotMap:
        """Read an answer of the node at the host ``asked``; raises ValueError when it makes no sense."""
        owners: list[str | None] = [None] * SLOTS
        primaries: dict[str, Address] = {}
        replicas: set[Address] = set()
        try:
            for first, last, primary, *others in reply:
                if not 0 <= first <= last < SLOTS:
                    raise ValueError(f"no such slots: {first} to {last}")
                replicas.update(address for other in others if (address := _address(other, asked=asked)) is not None)
                address = _address(primary, asked=asked)
                if address is not None:
                    name = name_of(address)
                    primaries[name] = address
                    owners[first : last + 1] = [name] * (last - first + 1)
        except (TypeError, IndexError, UnicodeDecodeError) as error:
            raise ValueError("not an answer to CLUSTER SLOTS") from error
        serving = set(owners)
        return cls(
            owners=tuple(owners),
            primaries=MappingProxyType({name: address for name, address in primaries.items() if name in serving}),
            replicas=frozenset(replicas),
        )

    @property
    def nodes(self) -> tuple[str, ...]:
        """Primaries that serve at least one slot."""
        return tuple(self.primaries)

    def node_of(self, key: str) -> str | None:
        """Who serves the key (or channel); None: nobody."""
        return self.owners[key_slot(key.encode())]


NOBODY: Final = SlotMap(owners=(None,) * SLOTS, primaries=MappingProxyType({}))
"""What is known before any node has answered."""


def name_of(address: Address) -> str:
    """A node's name."""
    return f"{address[0]}:{address[1]}"


def _address(node: Sequence[Any], *, asked: str) -> Address | None:
    """Rule 3. None: a node that cannot be found."""
    host, port = node[0], int(node[1])
    if host == _NO_NAME:
        told = node[3] if len(node) > 3 else []  # beside host, port and id, since 7.0
        host = dict(zip(told[::2], told[1::2], strict=True)).get(b"ip")
        if not host:
            return None
    return (host.decode() if host else asked, port)
