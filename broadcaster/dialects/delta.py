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
from typing import Any, ClassVar

from broadcaster.core import events as ev
from broadcaster.core.sse import encode_comment
from broadcaster.dialects.reading import Json
from broadcaster.dialects.small import DONE, Said, SmallTranscript, said


@dataclass(frozen=True, slots=True)
class DeltaDialect:
    """``ids``: entries' ids as SSE ids, so that an EventSource goes on where it was cut."""

    ids: bool = False

    name: ClassVar[str] = "delta"
    heartbeat: ClassVar[bytes] = encode_comment()

    def open(self, stream_id: str) -> SmallTranscript:
        """See Dialect."""
        return SmallTranscript(self, stream_id)

    # -- see Words

    def start(self, stream_id: str, model: str | None) -> list[Said]:
        return []

    def text(self, delta: str) -> list[Said]:
        return [said({"delta": delta})]

    def reasoning(self, delta: str) -> list[Said]:
        return []

    def call(self, event: ev.ToolInputAvailable) -> list[Said]:
        return []

    def result(self, id: str, *, output: Any = None, error: str | None = None) -> list[Said]:
        return []

    def finish(self, reason: str | None, usage: Json | None) -> list[Said]:
        return [DONE]

    def abort(self, reason: str | None) -> list[Said]:
        return [said({"aborted": True, "reason": reason or "stopped"}), DONE]

    def error(self, message: str, code: str, *, retry: bool = False) -> list[Said]:
        return [said({"error": message, "code": code} | ({"retry": True} if retry else {}))]

    def retry(self, event: ev.Attempt) -> list[Said]:
        return []

    def gap(self, gap: Json) -> list[Said]:
        return [said({"gap": gap})]

    def stalled(self, reason: str | None) -> list[Said]:
        return []
