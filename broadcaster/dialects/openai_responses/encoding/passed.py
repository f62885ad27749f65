"""Events that the decoder passed on, sent in their place.

Rules
1. They are sent with our number, and, if they name an item, with our id and index of it. An event that names an unknown
   item is left out, and so is one that we generate ourselves.
2. An item that our events cannot express is opened and closed as it came; so is a part of a message.
3. A finished item that holds more than its events did completes ours.
"""

from __future__ import annotations

from typing import Any, Final

from broadcaster.dialects.openai_responses.encoding.event_log import EventLog
from broadcaster.dialects.openai_responses.encoding.item_list import ItemList
from broadcaster.dialects.openai_responses.encoding.items import FAMILIES, OpaqueItem, TextItem
from broadcaster.dialects.openai_responses.wire import WIRE_TYPES
from broadcaster.dialects.reading import Json

_OURS: Final = frozenset({"id", "call_id", "type", "content", "summary"})
"""The fields of our item that a finished item does not replace."""


def pass_on(event: Any, output: ItemList, log: EventLog) -> None:
    """An event of the wire, as the decoder kept it."""
    match event:
        case {"type": "response.output_item.added", "item": {"type": str()} as item}:
            if output.meant(item) is None:
                output.make_room(log)
                output.plain(item, log, is_busy=True)
        case {"type": "response.output_item.done", "item": {"type": str()} as item}:
            _finish(item, output, log)
        case {"type": "response.content_part.added", "item_id": str(key), "part": {"type": str(kind)} as part}:
            if kind not in FAMILIES:
                output.written("message", key, log, extras={}).begin(kind, log, strange=part)
        case {"type": "response.content_part.done", "item_id": str(key), "part": {"type": str()} as part}:
            _finish_part(output.named(key), part, log)
        case {"type": str(type)} if type.startswith("response.") and type not in WIRE_TYPES:
            _append(type, event, output, log=log)


def _finish(item: Json, output: ItemList, log: EventLog) -> None:
    known = output.meant(item)
    if known is None:
        output.make_room(log)
        output.plain(item, log)
    elif isinstance(known, OpaqueItem):
        known.fields = {**item, "id": known.id} if "id" in item else item
        known.is_busy = False
    elif not known.is_closed:
        known.adopted = {name: value for name, value in item.items() if name not in _OURS}


def _finish_part(found: object, part: Json, log: EventLog) -> None:
    if not isinstance(found, TextItem):
        return
    for known in found.parts:
        if known.is_open and known.kind == part["type"] and known.strange is not None:
            known.strange = part
            found.end(known, log)
            return


def _append(type: str, event: Json, output: ItemList, *, log: EventLog) -> None:
    fields = {name: value for name, value in event.items() if name not in ("type", "sequence_number")}
    if isinstance(key := fields.get("item_id"), str):
        known = output.named(key)
        if known is None or known.is_closed:
            return
        fields["item_id"] = known.id
        if "output_index" in fields:
            fields["output_index"] = known.index
    log.append(type, fields)
