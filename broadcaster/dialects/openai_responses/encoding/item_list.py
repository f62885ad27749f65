"""The items of one Response, in their order, and the names that they may have.

Rules
1. Items of one attempt stand in the order in which they opened; their output indexes go on over all attempts.
2. An id is used once: where a provider repeats one (another attempt of a scripted server), the later item's gets a
   number behind it, and so does a ``call_id``.
3. When another item opens, items without an outstanding event are done.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from broadcaster.core.forking import Forkable
from broadcaster.dialects.openai_responses.encoding.event_log import EventLog
from broadcaster.dialects.openai_responses.encoding.items import (
    COMPLETED,
    INCOMPLETE,
    CallItem,
    Item,
    OpaqueItem,
    TextItem,
    announce,
    status_of,
)
from broadcaster.dialects.openai_responses.ids import kept_id, own_id, provider_id
from broadcaster.dialects.reading import Json

_MOST_OPEN: Final = 64
"""How many of the newest items may still be open: interleaved ones are few."""


@dataclass(slots=True)
class ItemList(Forkable):
    """The items of the newest attempt, and the names that all attempts used."""

    stream_id: str
    items: list[Item] = field(default_factory=list)
    _next_index: int = 0
    _used: dict[str, None] = field(default_factory=dict)  # nearly empty in most: a set takes four times the memory

    def written(self, type: str, key: str | None, log: EventLog, *, extras: Json) -> TextItem:
        """The message or reasoning under its provider's name, opened if need be.

        Without a name, texts that follow each other are one message.
        """
        for item in reversed(self.items):
            if not isinstance(item, TextItem) or item.type != type or item.is_closed:
                continue
            if item.key == key and (key is not None or (type == "message" and item is self.items[-1])):
                return item
        self.make_room(log)
        item = TextItem(type, self.id(type, key), self.index(), key, extras)
        self.put(item, log)
        return item

    def plain(self, fields: Json, log: EventLog, *, is_busy: bool = False) -> None:
        """An item that comes as it is."""
        given = fields.get("id")
        id = self.id(fields["type"], given if isinstance(given, str) else None)
        if isinstance(given, str):
            fields = {**fields, "id": id}
        keys = frozenset(name for name in (given, fields.get("call_id")) if isinstance(name, str))
        self.put(OpaqueItem(fields["type"], id, self.index(), fields, keys, is_busy), log)

    def put(self, item: Item, log: EventLog) -> None:
        """An item opens."""
        self.items.append(item)
        announce(item, log)

    def make_room(self, log: EventLog) -> None:
        """Rule 3."""
        for item in self.items[-_MOST_OPEN:]:
            if not item.is_closed and not item.is_busy:
                item.close(log, status=COMPLETED)

    def close(self, items: Iterable[Item], log: EventLog, *, is_cut: bool) -> None:
        """These items are done; ``is_cut``: the answer ended in the last of them."""
        for item in items:
            if not item.is_closed:
                is_torn = is_cut and (item is self.items[-1] or item.is_busy)
                item.close(log, status=status_of(item, is_cut=is_torn))

    def drop(self, log: EventLog) -> list[Item]:
        """A new attempt: everything is void. Returns the items, all closed."""
        for item in self.items:
            if not item.is_closed:
                item.close(log, status=INCOMPLETE)
        dropped, self.items = self.items, []
        return dropped

    def index(self) -> int:
        """The next output index."""
        index = self._next_index
        self._next_index += 1
        return index

    def id(self, type: str, own: str | None) -> str:
        """The id of an item (openai_responses/ids.py); never one that was used (rule 2)."""
        id = kept_id(own, self.stream_id) if own else own_id(type, self.stream_id, self._next_index)
        return self.unused(id, of="")

    def unused(self, name: str, *, of: str) -> str:
        """The name, or the next like it, that no other of its kind had."""
        unused, number = name, 1
        while f"{of}:{unused}" in self._used:
            number += 1
            unused = f"{name}_{number}"
        self._used[f"{of}:{unused}"] = None
        return unused

    def meant(self, item: Json) -> Item | None:
        """The item of this attempt that a wire item names."""
        for name in ("call_id", "id"):
            if isinstance(key := item.get(name), str) and (known := self.named(key)) is not None:
                return known if known.type == item["type"] else None
        return None

    def named(self, key: str) -> Item | None:
        """The newest item of this attempt that has, or had at its provider, this name."""
        return next((item for item in reversed(self.items) if key in _names(item)), None)


def _names(item: Item) -> Iterable[str | None]:
    match item:
        case OpaqueItem():
            return item.keys
        case CallItem():
            return item.id, provider_id(item.id), item.tool_call_id
        case _:
            return item.id, item.key
