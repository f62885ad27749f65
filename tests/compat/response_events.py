"""The events of a Response, put together as a page does that shows each piece when it comes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tests.compat.readings import Json, Shown


def of_events(events: list[Json], error: Json | None) -> Shown:
    """What stands at the end of these events."""
    final, received = None, Received()
    for event in events:
        final = event.get("response", final)
        error = {"name": "error", **event} if event["type"] == "error" else error
        received.take(event)
    if final is not None and final.get("error"):
        error = {"name": "response.failed", **final["error"]}
    seen = tuple(f"{event['sequence_number']} {event['type']}" for event in events)
    return Shown(final, error, seen, {"items": list(received.items.values()), "faults": received.faults})


@dataclass
class Received:
    """Items by their output index; ``faults`` are pieces that fit nowhere, or do not add up to their whole."""

    items: dict[int, Json] = field(default_factory=dict)
    pieces: dict[tuple[Any, ...], str] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def take(self, event: Json) -> None:
        """The next event."""
        kind: str = event["type"]
        index: Any = event.get("output_index")
        if kind == "response.in_progress" and not event["response"]["output"]:
            self.items.clear()
        elif kind == "response.output_item.added":
            if index in self.items:
                self.faults.append(f"item {index} comes twice")
            self.items[index] = event["item"]
        elif index is not None and index not in self.items:
            self.faults.append(f"{kind} of an item that never came")
        elif kind == "response.output_item.done":
            self.items[index] = event["item"]
        elif kind.endswith(".delta"):
            self.pieces[_place(event)] = self.pieces.get(_place(event), "") + event["delta"]
        elif kind.endswith(".done"):
            self._compare(event)

    def _compare(self, event: Json) -> None:
        whole = event.get("text", event.get("arguments", event.get("refusal", event.get("input"))))
        pieces = self.pieces.get(_place(event), whole)  # a late joiner may receive the whole alone
        if whole is not None and pieces != whole:
            self.faults.append(f"{event['type']}: {pieces!r} is not {whole!r}")


def _place(event: Json) -> tuple[Any, ...]:
    kind = event["type"].rpartition(".")[0]
    return (kind, event["output_index"], event.get("content_index"), event.get("summary_index"))
