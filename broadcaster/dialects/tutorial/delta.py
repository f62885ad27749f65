"""The dialect ``delta``: the smallest shape, and the one that first programs use.

    data: {"delta":"Hel"}
    data: {"delta":"lo"}
    data: [DONE]

Rules
1. It has text alone: reasoning, tools and sources are left out.
2. ``{"error": "…", "code": "…"}`` ends an incomplete answer, and no ``[DONE]`` follows. So does a new attempt for a
   client that has text of the old one, since nothing can be taken back: its code is ``new_attempt``.
3. A stop is ``{"aborted": true, "reason": "…"}`` and ``[DONE]``: it is no failure, and clients close their connection
   at ``[DONE]``. ``aborted`` distinguishes a stopped answer from a complete one.
4. ``{"gap": {"reason", "from", "to"}}`` marks missing text.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from broadcaster.dialects.reading import Json
from broadcaster.dialects.tutorial.transcript import DONE, SmallDialect, SseBlock, json_block


@dataclass(frozen=True, slots=True)
class DeltaDialect(SmallDialect):
    """See SmallDialect."""

    name: ClassVar[str] = "delta"

    def text(self, delta: str) -> list[SseBlock]:
        return [json_block({"delta": delta})]

    def finish(self, reason: str | None, usage: Json | None) -> list[SseBlock]:
        return [DONE]

    def abort(self, reason: str | None) -> list[SseBlock]:
        return [json_block({"aborted": True, "reason": reason or "stopped"}), DONE]

    def error(self, message: str, code: str, *, retry: bool = False) -> list[SseBlock]:
        return [json_block({"error": message, "code": code} | ({"retry": True} if retry else {}))]

    def gap(self, gap: Json) -> list[SseBlock]:
        return [json_block({"gap": gap})]
