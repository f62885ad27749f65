"""The output of one answer: its items, found however their server names them.

Rules
1. An event belongs to the item of its ``item_id``; else to the one at its ``output_index``; else, without an index, to
   the newest open one. The item's type must always fit: llama.cpp sends no index, some gateways a new id with every
   event, or one index for a message and a call at once. llama.cpp's calls have no id but their ``call_id``.
2. Text of an item that was not announced opens it. Arguments of an unannounced call cannot, because it has no name yet:
   they are passed on, and the finished item brings the call.
3. A finished item that was not announced is opened and closed; one that is finished twice yields nothing new.
4. The end of the answer lists all items once more. Items that were never finished are finished then, those that never
   came are opened and closed. They are matched by name. An item of an unknown name is the next unmatched one of its
   type (LiteLLM names a message anew there), and is not matched by place, since servers sort them differently.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias

from broadcaster.core import events as ev
from broadcaster.dialects.openai_responses import wire
from broadcaster.dialects.openai_responses.decoding.parts import (
    PartDecoder,
    ResponsesOutput,
    TextItemDecoder,
    item_type_of,
)
from broadcaster.dialects.openai_responses.decoding.tools import ToolCallDecoder, ids_of, open_tool
from broadcaster.dialects.reading import Json

WRITTEN: Final = frozenset({"message", "reasoning"})


class UnknownItem:
    """An item that our events cannot express: its events are passed on."""

    def __init__(self, item: Json) -> None:
        self.type: str = item["type"]
        self.is_over = False

    def finish(self, item: Json, out: list[ev.Event]) -> bool:
        """Its end is passed on too."""
        self.is_over = True
        return False

    def close(self, out: list[ev.Event]) -> None:
        """Nothing more will come."""
        self.is_over = True


Item: TypeAlias = TextItemDecoder | ToolCallDecoder | UnknownItem


class Items:
    """The items so far; ``TAKE`` names the method for each event that belongs to one."""

    def __init__(self, output: ResponsesOutput) -> None:
        self._output = output
        self._by_id: dict[str, Item] = {}
        self._by_index: dict[tuple[str, int], Item] = {}
        self._of_type: dict[str, list[Item]] = {}

    def end(self, output: object, out: list[ev.Event]) -> list[Json]:
        """The answer is whole (rule 4). Returns the items that must be passed on."""
        items = [item for item in output if _is_item(item)] if isinstance(output, list) else []
        named = {id(known) for item in items if (known := self._named(item["type"], item)) is not None}
        nameless = {
            item_type: [known for known in so_far if id(known) not in named]
            for item_type, so_far in self._of_type.items()
        }
        passed: list[Json] = []
        for item in items:
            known = self._named(item["type"], item)
            if known is None and (unclaimed := nameless.get(item["type"])):
                known = unclaimed.pop(0)
            if known is None:
                known = self._opened(item, out)
                self._register(known, item, None)
            if not known.is_over and _may_be(known, item) and not known.finish(item, out):
                passed.append(item)
        for so_far in self._of_type.values():
            for known in so_far:
                known.close(out)
        return passed

    # ------------------------------------------------------------------------------------------------------ the events

    def _take_item(self, event: wire.ItemAdded | wire.ItemDone, out: list[ev.Event]) -> bool:
        if event.item is None:
            return True
        take = self._add if isinstance(event, wire.ItemAdded) else self._finish
        return isinstance(event.item.get("type"), str) and take(event.item, event.output_index, out=out)

    def _add(self, item: Json, index: int | None, *, out: list[ev.Event]) -> bool:
        item_type = item["type"]
        known = self._named(item_type, item)
        if isinstance(known, ToolCallDecoder):
            return True
        if known is None and index is not None and not ids_of(item):
            known = self._by_index.get((item_type, index))
        if known is not None:
            known.close(out)
        opened = self._opened(item, out)
        self._register(opened, item, index)
        return opened.take(item, out) if isinstance(opened, TextItemDecoder) else isinstance(opened, ToolCallDecoder)

    def _finish(self, item: Json, index: int | None, *, out: list[ev.Event]) -> bool:
        found = self._named(item["type"], item) or self._find(item["type"], None, index)
        if found is None or (found.is_over and self._is_another(item)):
            found = self._opened(item, out)
            self._register(found, item, index)
        return found.is_over or found.finish(item, out)

    def _add_part(self, event: wire.PartAdded | wire.SummaryAdded, out: list[ev.Event]) -> bool:
        return self._written(event, item_type_of(event.part)).add_part(event.part, event.index, out=out)

    def _finish_part(self, event: wire.PartDone | wire.SummaryDone, out: list[ev.Event]) -> bool:
        return self._written(event, item_type_of(event.part)).finish_part(event.part, event.index, out=out)

    def _grow_text(self, event: wire.OutputTextDelta, out: list[ev.Event]) -> bool:
        self._part(event, out).grow(event.delta, out, logprobs=event.logprobs)
        return True

    def _grow(self, event: wire.WrittenDelta, out: list[ev.Event]) -> bool:
        self._part(event, out).grow(event.delta, out)
        return True

    def _reconcile(self, event: wire.WrittenWhole, out: list[ev.Event]) -> bool:
        written = self._written(event, event.item_type)
        return written.reconcile(event.kind, event.index, whole=event.whole, out=out)

    def _cite(self, event: wire.AnnotationAdded, out: list[ev.Event]) -> bool:
        self._part(event, out).cite(event.annotation, out)
        return True

    def _grow_input(self, event: wire.InputDelta, out: list[ev.Event]) -> bool:
        tool = self._tool(event)
        return tool is not None and tool.grow(event.delta, out)

    def _complete_input(self, event: wire.InputWhole, out: list[ev.Event]) -> bool:
        tool = self._tool(event)
        return tool is not None and tool.complete(event.whole, out)

    # ------------------------------------------------------------------------------------------------------- the items

    def _part(
        self, event: wire.OutputTextDelta | wire.WrittenDelta | wire.AnnotationAdded, out: list[ev.Event]
    ) -> PartDecoder:
        """The part that a piece belongs to."""
        return self._written(event, event.item_type).part(event.kind, event.index, out=out)

    def _written(self, event: wire.OfItem, item_type: str) -> TextItemDecoder:
        """The message or reasoning that an event belongs to, opened if need be."""
        found = self._find(item_type, event.item_id, event.output_index)
        if isinstance(found, TextItemDecoder):
            return found
        announced = TextItemDecoder({"type": item_type, "id": event.item_id}, output=self._output)
        self._register(announced, {"id": event.item_id}, event.output_index)
        return announced

    def _tool(self, event: wire.OfItem) -> ToolCallDecoder | None:
        """The call that an event belongs to; None when it is not known (yet)."""
        found = self._find(event.item_type, event.item_id, event.output_index)
        return found if isinstance(found, ToolCallDecoder) else None

    def _find(self, item_type: str, id: str | None, index: int | None) -> Item | None:
        if id is not None and (found := self._by_id.get(id)) is not None and found.type == item_type:
            return found
        if index is not None:
            return self._by_index.get((item_type, index))
        return next((item for item in reversed(self._of_type.get(item_type, ())) if not item.is_over), None)

    def _named(self, item_type: str, item: Json) -> Item | None:
        """The item under one of these names; a call's own name precedes its item's."""
        for id in ids_of(item):
            if (found := self._by_id.get(id)) is not None and found.type == item_type:
                return found
        return None

    def _is_another(self, item: Json) -> bool:
        """Whether a finished item has an unknown name."""
        ids = ids_of(item)
        return bool(ids) and not any(id in self._by_id for id in ids)

    def _opened(self, item: Json, out: list[ev.Event]) -> Item:
        if item["type"] in WRITTEN:
            return TextItemDecoder(item, output=self._output)
        return open_tool(item, output=self._output, out=out) or UnknownItem(item)

    def _register(self, opened: Item, item: Json, index: int | None) -> None:
        for id in ids_of(item):
            self._by_id[id] = opened
        if index is not None:
            self._by_index[opened.type, index] = opened
        self._of_type.setdefault(opened.type, []).append(opened)


TAKE: Final[dict[type, Callable[[Items, Any, list[ev.Event]], bool]]] = {
    **dict.fromkeys((wire.ItemAdded, wire.ItemDone), Items._take_item),
    **dict.fromkeys((wire.PartAdded, wire.SummaryAdded), Items._add_part),
    **dict.fromkeys((wire.PartDone, wire.SummaryDone), Items._finish_part),
    wire.OutputTextDelta: Items._grow_text,
    **dict.fromkeys(wire.WrittenDelta.__args__, Items._grow),
    **dict.fromkeys(wire.WrittenWhole.__args__, Items._reconcile),
    wire.AnnotationAdded: Items._cite,
    **dict.fromkeys(wire.InputDelta.__args__, Items._grow_input),
    **dict.fromkeys(wire.InputWhole.__args__, Items._complete_input),
}
"""Take an event of the items; False: it must be passed on."""


def _is_item(item: object) -> bool:
    return isinstance(item, dict) and isinstance(item.get("type"), str)


def _may_be(known: Item, item: Json) -> bool:
    """Whether the item may be the known one: a call is never finished with the arguments of another."""
    return not isinstance(known, ToolCallDecoder) or item.get("call_id") in (None, known.call_id)
