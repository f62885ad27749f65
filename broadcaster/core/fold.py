"""The fold: events in their order → what they amount to (text, reasoning, parts, usage, status).

A late joiner receives it instead of thousands of deltas, ``GET /v1/generations/{id}`` returns it, and the command line
prints it at the end.

Rules
1. ``status`` is queued before the first event, running after it, and set by the terminal event. Events after a
   terminal event are ignored.
2. ``attempt`` drops everything built so far, metadata and usage included; only the number of the attempt is kept.
3. ``text`` and ``reasoning`` are the parts' texts in the order of the parts; how parts grow is in ``core/draft.py``.
4. A part that ``error`` or ``abort`` cuts off stays ``streaming``: it was never completed.
5. Events of a newer version change nothing.

Applying costs O(delta): pieces are kept apart and joined when ``state`` is read.
"""

from __future__ import annotations

from dataclasses import dataclass

from broadcaster.core import events as ev
from broadcaster.core.draft import Draft, Json
from broadcaster.core.forking import Forkable
from broadcaster.core.status import STATUS_OF_TYPE, Status


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldState:
    """What the events so far amount to; every dict is JSON-able, camelCase, and belongs to the caller at its top level.

    ``parts`` are dicts in the style of the AI SDK's UI message parts, in order of appearance:

    - ``{"type": "text" | "reasoning", "text", "state": "streaming" | "done"}``
    - ``{"type": "tool", "toolCallId", "toolName", "state"}`` with ``inputText`` while ``input-streaming``, ``input``
      from ``input-available`` on, ``output`` when ``output-available``, ``errorText`` when ``output-error``, and
      ``rawInput`` when the arguments were no JSON; ``toolName`` is missing only if the log's head was trimmed
    - ``{"type": "step-start"}``, ``source-url``, ``source-document``, ``file``, ``data-<name>`` as they were stored

    each with ``providerMetadata`` where there is some. ``usage`` is the stored counts, ``error`` is
    ``{"code", "message"}``, ``finish_reason`` the one of ``finish``, before it of the last step. ``metadata`` and
    ``provider_metadata`` are those of ``start`` with what later steps and the end added.
    """

    status: Status
    attempt: int
    text: str
    reasoning: str
    parts: list[Json]
    usage: Json | None
    error: Json | None
    finish_reason: ev.FinishReason | None
    abort_reason: str | None
    message_id: str | None
    metadata: Json
    provider_metadata: ev.ProviderMetadata


class Fold(Forkable):
    """One stream's fold: ``apply`` each entry's event once and in order, read ``state`` whenever wanted."""

    def __init__(self) -> None:
        self._attempt = 1
        self._is_empty = True
        self._draft = Draft()
        self._terminal: ev.TerminalEvent | None = None

    def apply(self, raw: bytes) -> None:
        """Take the next stored event."""
        event = ev.read_event(raw)
        if self._terminal is not None:
            return
        self._is_empty = False
        if isinstance(event, ev.Attempt):
            self._attempt = event.attempt
            self._draft = Draft()
        elif isinstance(event, ev.Finish | ev.Error | ev.Abort):
            self._terminal = event
            self._draft.end(event)
        else:
            self._draft.add(event)

    @property
    def state(self) -> FoldState:
        """What the events applied so far amount to; costs O(text), so read it on request, not per event."""
        draft, terminal = self._draft, self._terminal
        return FoldState(
            status=self._status(),
            attempt=self._attempt,
            text=draft.joined("text"),
            reasoning=draft.joined("reasoning"),
            parts=[part.render() for part in draft.parts],
            usage=dict(draft.usage) if draft.usage is not None else None,
            error={"code": terminal.code, "message": terminal.error_text} if isinstance(terminal, ev.Error) else None,
            finish_reason=draft.finish_reason,
            abort_reason=terminal.reason if isinstance(terminal, ev.Abort) else None,
            message_id=draft.message_id,
            metadata=dict(draft.metadata),
            provider_metadata=dict(draft.provider_metadata),
        )

    def _status(self) -> Status:
        if self._terminal is not None:
            return STATUS_OF_TYPE[str(self._terminal.__struct_config__.tag)]
        return Status.QUEUED if self._is_empty else Status.RUNNING
