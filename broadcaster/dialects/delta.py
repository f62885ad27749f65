"""The dialect ``delta``: the smallest shape there is, the one that people write first.

    data: {"delta":"Hel"}
    data: {"delta":"lo"}
    data: [DONE]

Rules
1. It has words for text alone: reasoning, tools and sources are left out.
2. ``{"error": "…", "code": "…"}`` is the end of an answer that is not whole, and no ``[DONE]`` follows. So is a new
   attempt for who has text of the old one, since nothing can be taken back: its code is ``new_attempt``.
3. A stop is ``{"aborted": true, "reason": "…"}`` and ``[DONE]``: it is no failure, and ``[DONE]`` is what clients close
   their connection on. Who must tell a stopped answer from a whole one looks for ``aborted``.
4. ``{"gap": {"reason", "from", "to"}}`` says that text is missing here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from broadcaster.dialects.reading import Json
from broadcaster.dialects.small import DONE, Said, SmallDialect, said


@dataclass(frozen=True, slots=True)
class DeltaDialect(SmallDialect):
    """See SmallDialect."""

    name: ClassVar[str] = "delta"

    def text(self, delta: str) -> list[Said]:
        return [said({"delta": delta})]

    def finish(self, reason: str | None, usage: Json | None) -> list[Said]:
        return [DONE]

    def abort(self, reason: str | None) -> list[Said]:
        return [said({"aborted": True, "reason": reason or "stopped"}), DONE]

    def error(self, message: str, code: str, *, retry: bool = False) -> list[Said]:
        return [said({"error": message, "code": code} | ({"retry": True} if retry else {}))]

    def gap(self, gap: Json) -> list[Said]:
        return [said({"gap": gap})]
