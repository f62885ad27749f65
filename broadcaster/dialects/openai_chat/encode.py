"""Encode: entries → chat completion chunks, as the OpenAI SDKs read them (Transcript of ``openai-chat``).

Rules
1. Chunks are ``data:`` lines alone, never an id: the Python SDK fails on a heartbeat that follows an id.
2. The chunk with the role is sent together with the first content. An attempt that has sent nothing can then be
   followed by the next one without an error.
3. Only the end of the whole answer has a finish reason; the steps before it continue in the same choice. The reason is
   one of calls only if a call waits for the client: a loop may end by its bound. If the client requested the counts,
   they follow in a chunk without choices, and all other chunks carry ``usage: null``. Estimated counts are marked under
   ``broadcaster``.
4. A stopped answer ends with the reason ``stop``, and beside it ``broadcaster: {"status": "aborted"}``: the wire has no
   reason of its own for it.
5. A failure is an object with ``error``, and the stream then ends without ``[DONE]``: every SDK raises it.
6. A new attempt is a failure that ends the response of every client that has text of the old one: text cannot be taken
   back here, and some SDKs read on behind an error. A client that joins later receives the new attempt alone.
7. A gap ends the viewer: a text with a hole in it would look whole.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from broadcaster.core import events as ev
from broadcaster.core.entry import Entry
from broadcaster.core.notices import Gap
from broadcaster.core.sse import encode_comment
from broadcaster.dialects.openai_chat.attempt import ChatAttempt, Delta
from broadcaster.dialects.openai_chat.chunk_heads import CHUNK, COMPLETION, Head, finish_reason, usage_of
from broadcaster.dialects.reading import Json
from broadcaster.dialects.writing import DONE, NEW_ATTEMPT, TERMINAL, EntryTranscript, block, loss_of

EXTENSION: Final = "broadcaster"
"""The one field of ours beside the wire's own."""

_BEGUN_ANEW: Final = "the answer broke off and begins anew; what came until here is void, the request may be sent again"
_RETRY: Final = "the stream ended before the answer did; the request may be sent again"
_NO_RETRY: Final = "the stream ended before the answer did"

_ROLE: Final = "assistant"
_CALLING: Final = frozenset({"tool_calls", "function_call"})
_SERVER_ERROR: Final = "server_error"
_ERROR_TYPES: Final = {"provider_bad_request": "invalid_request_error", "provider_rate_limited": "rate_limit_error"}


@dataclass(frozen=True, slots=True)
class ChatDialect:
    """``include_usage``: whether the counts are sent. ``hidden_tools``: those that the client must not run.

    ``custom_tools``: those of the client whose input is any text.
    """

    include_usage: bool = False
    hidden_tools: frozenset[str] = frozenset()
    custom_tools: frozenset[str] = frozenset()

    name: ClassVar[str] = "openai-chat"
    heartbeat: ClassVar[bytes] = encode_comment()
    """A comment is safe where no id was ever sent (rule 1)."""

    def open(self, stream_id: str) -> ChatTranscript:
        """See Dialect.open."""
        return ChatTranscript(self, stream_id)


class ErrorObjectTranscript(EntryTranscript):
    """Rules 5 and 6 of a Transcript, for chunks and for passed-on responses (passed/encode.py)."""

    def discard(self, gap: Gap) -> bytes:
        """See Transcript.discard."""
        return failure_block(_BEGUN_ANEW, code=NEW_ATTEMPT)

    def bye(self, reason: str, *, reconnect: bool, retry_ms: int, last_number: int | None = None) -> bytes:
        """See Transcript.bye (rule 5)."""
        return failure_block(_RETRY if reconnect else _NO_RETRY, code=reason)


class ChatTranscript(ErrorObjectTranscript):
    """See Transcript."""

    def __init__(self, dialect: ChatDialect, stream_id: str) -> None:
        self._dialect = dialect
        self._stream_id = stream_id
        self._epoch: int | None = None
        self._begin()

    def _begin(self) -> None:
        """A new attempt, of which nothing has been sent."""
        self._head = Head(self._stream_id, self._epoch or 0)
        dialect = self._dialect
        self._attempt = ChatAttempt(hidden_tools=dialect.hidden_tools, custom_tools=dialect.custom_tools)
        self._has_begun = False
        self._content: str | None = ""
        self._step_reason: ev.FinishReason | None = None
        self._usage: ev.Usage | None = None
        self._ending: tuple[str, Json] | None = None

    def snapshot(self) -> bytes:
        """See Transcript.snapshot."""
        if not self._has_begun:
            return b""
        return b"".join([self._role_chunk(), *map(self._chunk, self._attempt.so_far())])

    def completion(self) -> Json | None:
        """The ``chat.completion`` of an answer that has ended and did not fail; None of any other."""
        if self._ending is None:
            return None
        reason, fields = self._ending
        choice = {"index": 0, "message": self._attempt.message(), "logprobs": self._attempt.logprobs}
        completion: Json = {**self._head.fields(COMPLETION), "choices": [{**choice, "finish_reason": reason}]}
        if self._usage is not None:
            completion["usage"] = usage_of(self._usage)
        if extension := {**fields, **self._estimated()}:
            completion[EXTENSION] = extension
        return completion

    # --------------------------------------------------------------------------------------------------------- entries

    def _read(self, entry: Entry, frames: list[bytes]) -> None:
        if self._epoch is None:
            self._epoch = self._head.epoch = entry.epoch
        event = ev.read_event(entry.event)
        if (delta := self._attempt.take(event)) is not None:
            self._append(delta, frames)
        elif isinstance(event, ev.Start | ev.FinishStep):
            self._head.take(event, has_begun=self._has_begun)
            if isinstance(event, ev.FinishStep):
                self._step_reason = event.finish_reason or self._step_reason
        elif isinstance(event, ev.Usage):
            self._usage = event
        elif isinstance(event, ev.Attempt):
            if self._has_begun:
                self.breaks_off = True
                frames.append(failure_block(loss_of(event), code=NEW_ATTEMPT))
            self._begin()
        elif isinstance(event, TERMINAL):
            self._end(event, frames)

    def _append(self, delta: Delta, frames: list[bytes]) -> None:
        if not self._has_begun:
            self._has_begun = True
            # The API sends null, and not an empty text, where an answer begins with a call.
            self._content = None if {"tool_calls", "function_call"} & delta.message.keys() else ""
            frames.append(self._role_chunk())
        frames.append(self._chunk(delta))

    def _role_chunk(self) -> bytes:
        """Rule 2."""
        return self._chunk(Delta({"role": _ROLE, "content": self._content, "refusal": None}))

    def _chunk(self, delta: Delta, *, reason: str | None = None, **fields: Any) -> bytes:
        choice = {"index": 0, "delta": delta.message, "logprobs": delta.logprobs, "finish_reason": reason}
        return self._framed([choice], usage=None, **fields)

    def _framed(self, choices: list[Json], *, usage: Json | None, **fields: Any) -> bytes:
        counts = {"usage": usage} if self._dialect.include_usage else {}
        return block({**self._head.fields(CHUNK), "choices": choices, **counts, **fields})

    # ------------------------------------------------------------------------------------------------------------- ends

    def _end(self, event: ev.TerminalEvent, frames: list[bytes]) -> None:
        self._is_over = True
        if isinstance(event, ev.Error):
            frames.append(failure_block(event.error_text, code=event.code))
            return
        if isinstance(event, ev.Abort):
            self._ending = "stop", {"status": "aborted", "reason": event.reason}
        else:
            self._head.take(event, has_begun=self._has_begun)
            reason = finish_reason(event, self._step_reason)
            is_untrue = reason in _CALLING and not self._attempt.awaits_client_tools
            self._ending = ("stop" if is_untrue else reason), {}
        if not self._has_begun:
            frames.append(self._role_chunk())
        if (last := self._attempt.at_end()) is not None:
            frames.append(self._chunk(last))
        reason, fields = self._ending
        frames.append(self._chunk(Delta({}), reason=reason, **_extended(fields)))
        if self._dialect.include_usage and self._usage is not None:
            frames.append(self._framed([], usage=usage_of(self._usage), **_extended(self._estimated())))
        frames.append(DONE)

    def _estimated(self) -> Json:
        """Rule 3."""
        return {"usage": "estimated"} if self._usage is not None and self._usage.estimated else {}


def whole_completion(stream_id: str, entries: Iterable[Entry], *, dialect: ChatDialect = ChatDialect()) -> Json | None:
    """The ``chat.completion`` of a whole stream; None when it has failed, or not ended."""
    transcript = dialect.open(stream_id)
    transcript.encode(list(entries))
    return transcript.completion()


def _extended(fields: Json) -> Json:
    return {EXTENSION: fields} if fields else {}


def failure_block(message: str, *, code: str) -> bytes:
    """Rule 5."""
    type = _ERROR_TYPES.get(code, _SERVER_ERROR)
    return block({"error": {"message": message, "type": type, "param": None, "code": code}})
