"""Events that the decoder passed on, said again in their place.

Rules
1. They come back with our number, and where they speak of an item with our id and index of it. One that speaks of an
   item nobody knows, and one whose like we say ourselves, is left out.
2. An item that our vocabulary has no word for is opened and closed as it came; so is a part of a message.
3. A finished item that tells more than its events did completes ours.
"""

from __future__ import annotations

from typing import Any, Final

from broadcaster.dialects.openai_responses_output import FAMILIES, Plain, Written
from broadcaster.dialects.openai_responses_shelf import Shelf
from broadcaster.dialects.openai_responses_voice import Voice
from broadcaster.dialects.openai_responses_wire import WIRE_TYPES
from broadcaster.dialects.reading import Json

_OURS: Final = frozenset({"id", "call_id", "type", "content", "summary"})
"""What of an item that completes ours stays as we said it."""


def pass_on(told: Any, shelf: Shelf, voice: Voice) -> None:
    """An event of the wire, as the decoder kept it."""
    match told:
        case {"type": "response.output_item.added", "item": {"type": str()} as item}:
            if shelf.meant(item) is None:
                shelf.make_room(voice)
                shelf.plain(item, voice, is_busy=True)
        case {"type": "response.output_item.done", "item": {"type": str()} as item}:
            _finish(item, shelf, voice)
        case {"type": "response.content_part.added", "item_id": str(key), "part": {"type": str(kind)} as part}:
            if kind not in FAMILIES:
                shelf.written("message", key, voice, extras={}).begin(kind, voice, strange=part)
        case {"type": "response.content_part.done", "item_id": str(key), "part": {"type": str()} as part}:
            _finish_part(shelf.named(key), part, voice)
        case {"type": str(type)} if type.startswith("response.") and type not in WIRE_TYPES:
            _say(type, told, shelf, voice=voice)


def _finish(item: Json, shelf: Shelf, voice: Voice) -> None:
    known = shelf.meant(item)
    if known is None:
        shelf.make_room(voice)
        shelf.plain(item, voice)
    elif isinstance(known, Plain):
        known.fields = {**item, "id": known.id} if "id" in item else item
        known.is_busy = False
    elif not known.is_closed:
        known.adopted = {name: value for name, value in item.items() if name not in _OURS}


def _finish_part(found: object, part: Json, voice: Voice) -> None:
    if not isinstance(found, Written):
        return
    for known in found.parts:
        if known.is_open and known.kind == part["type"] and known.strange is not None:
            known.strange = part
            found.end(known, voice)
            return


def _say(type: str, told: Json, shelf: Shelf, *, voice: Voice) -> None:
    fields = {name: value for name, value in told.items() if name not in ("type", "sequence_number")}
    if isinstance(key := fields.get("item_id"), str):
        known = shelf.named(key)
        if known is None or known.is_closed:
            return
        fields["item_id"] = known.id
        if "output_index" in fields:
            fields["output_index"] = known.index
    voice.say(type, fields)
