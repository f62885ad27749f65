"""What the decoders of all provider wires share: the walk from bytes to SSE messages to JSON, and the counting.

A decoder of a wire decides what one message means; ``EventStreamDecoder`` does the rest by these rules:

1. After the terminal event of the wire nothing more is read.
2. A failure ends the stream too: what came before it in the same chunk is still returned, the next call raises it.
3. The end of the body proves nothing: an incomplete message is dropped, and what the decoder has read decides.
4. What yields no event is bounded: MAX_IDLE_BYTES of comments and of messages that mean nothing to us, and
   MAX_MESSAGE_VALUES in one message, because a parsed value takes up to a hundred times its bytes.
5. A character that comes in two halves is one (halves.py).
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from typing import Any, Final, TypeAlias

import msgspec

from broadcaster.core import events as ev
from broadcaster.core.sse import DEFAULT_EVENT, DEFAULT_MAX_EVENT_BYTES, SseDecoder, SseMessage
from broadcaster.dialects.arguments import ArgumentsReader, UnparsedArguments
from broadcaster.dialects.errors import BAD_DATA
from broadcaster.dialects.halves import Halves, is_torn, with_pairs
from broadcaster.errors import BadFrame, ProviderFailed

Json: TypeAlias = dict[str, Any]

MAX_IDLE_BYTES: Final = DEFAULT_MAX_EVENT_BYTES
"""As much as one event may have: a wire may repeat a whole request in a message that yields no event."""
MAX_MESSAGE_VALUES: Final = 1_000_000
# A message below this cannot hold enough values to matter, and is not counted.
_COUNTED_FROM_CHARS: Final = 2**19

_any_decoder: Final = msgspec.json.Decoder()


class Sources:
    """The web pages that an answer cites: each is a source once."""

    def __init__(self) -> None:
        self._urls: set[str] = set()

    def cite(self, page: Any, out: list[ev.Event]) -> None:
        """Append the source that the page is, if it has a URL that is new."""
        match page:
            case {"url": str(url), **rest} if url not in self._urls:
                id, title = f"source-{len(self._urls)}", rest.get("title")
                self._urls.add(url)
                out.append(ev.SourceUrl(source_id=id, url=url, title=title if isinstance(title, str) else None))


class ProviderDecoder(ABC):
    """One provider call: ``decode`` every chunk, ``flush`` at the end of the body.

    The answer is whole only if ``terminal_seen`` is true after ``flush``: a clean end of the body proves nothing.
    """

    def __init__(self) -> None:
        self.terminal_seen = False
        """Whether the terminal event was returned: the wire's own terminal came, or ``flush`` took its place."""
        self.failure: ProviderFailed | None = None
        """What the next call will raise; None while the stream is good."""
        self.has_advanced = False
        """Whether the newest chunk had a message or a part of one; comments do not count."""

    @property
    def is_whole(self) -> bool:
        """Whether the last content has come, and only its counts may be missing.

        A cut from here on costs the counts and not the answer: ``flush`` then returns the closing events.
        """
        return self.terminal_seen

    def decode(self, chunk: bytes) -> list[ev.Event]:
        """The events that this chunk completes.

        Raises ProviderFailed (1) with the reason of an error in the stream, (2) ``provider_bad_data``; if events came
        before it in the chunk, these are returned and the next call raises.
        """
        out: list[ev.Event] = []
        if self.failure is None:
            try:
                self._take(chunk, out)
            except BadFrame as error:
                self.failure = BAD_DATA.failure(detail=error.detail)
            except ProviderFailed as failure:
                self.failure = failure
        if self.failure is not None and not out:
            raise self.failure
        return out

    def flush(self) -> list[ev.Event]:
        """The body has ended, or broke: the events that were withheld until then.

        If the answer is whole and its terminal has not come, these are the closing events, and ``terminal_seen`` is
        true from then on. Of any other answer the open parts stay open. Raises the failure that ``decode`` withheld.
        """
        if self.failure is not None:
            raise self.failure
        return []

    @abstractmethod
    def usage_so_far(self) -> ev.Usage:
        """The counts known now, also for an answer that was stopped or failed.

        The output is ``estimated`` until the provider has reported it: one token for every BYTES_PER_TOKEN UTF-8 bytes
        of text, reasoning and tool input received, rounded up.
        """

    @abstractmethod
    def _take(self, chunk: bytes, out: list[ev.Event]) -> None:
        """Append the chunk's events. Sets ``terminal_seen`` and ``has_advanced``. Raises ProviderFailed, BadFrame."""


class EventStreamDecoder(ProviderDecoder):
    """The decoder of a body of SSE messages; see the module's rules."""

    def __init__(self) -> None:
        super().__init__()
        self._sse = SseDecoder()
        self._idle_bytes = 0
        self._halves: Halves | None = None

    def flush(self) -> list[ev.Event]:
        """See ProviderDecoder.flush."""
        out = super().flush()
        if self._halves is not None:
            self._halves.end(out)
        return out

    @abstractmethod
    def _read(self, message: SseMessage, out: list[ev.Event]) -> None:
        """Append the message's events; the terminal sets ``terminal_seen``. Raises ProviderFailed."""

    def _take(self, chunk: bytes, out: list[ev.Event]) -> None:
        before_bytes = self._sse.buffered_bytes
        messages = self._sse.decode(chunk)
        grown_bytes = self._sse.buffered_bytes - before_bytes
        self.has_advanced = bool(messages) or grown_bytes > 0
        try:
            for message in messages:
                if not self.terminal_seen:
                    _check_values(message.data)
                    self._read(message, out)
        except ProviderFailed:
            if self._halves is not None:
                self._halves.join(out)
                self._halves.end(out)
            raise
        if self._halves is not None:
            self._halves.join(out)
        # Rule 4; the bytes of an incomplete message count when it is complete.
        self._idle_bytes = 0 if out else self._idle_bytes + len(chunk) - grown_bytes
        if self._idle_bytes > MAX_IDLE_BYTES:
            raise BAD_DATA.failure(detail=f"more than {MAX_IDLE_BYTES} bytes without an event")

    def _torn(self, message: SseMessage) -> Json | None:
        """The object in a message that ``parse`` has mended, with its halves; None when it has none.

        Put the halves of a delta's text back into it, and nothing else.
        """
        if not is_torn(message.data):
            return None
        self._halves = self._halves or Halves()
        whole: Json = json.loads(message.data)
        return whole


def _check_values(data: str) -> None:
    """Rule 4. Marks within texts count as well: no message of a provider holds so many of them."""
    if len(data) > _COUNTED_FROM_CHARS and sum(map(data.count, ",[{")) > MAX_MESSAGE_VALUES:
        raise BAD_DATA.failure(detail=f"an event with more than {MAX_MESSAGE_VALUES} values")


def parse(message: SseMessage) -> tuple[Json, str]:
    """The object in the data, and its text, mended. Raises ProviderFailed when the data is not an object.

    (1) Halves of a surrogate pair, which have no UTF-8 form, become "?"; rule 5 is for the texts of deltas. (2) Some
    gateways leave the type to the event's name, as in an empty ``event: ping``.
    """
    try:
        whole = json.loads(message.data)
        if isinstance(whole, dict) and message.event != DEFAULT_EVENT:
            whole.setdefault("type", message.event)
        mended = json.dumps(whole, ensure_ascii=False).encode("utf-8", "replace").decode()
        whole = _any_decoder.decode(mended)
    except (ValueError, RecursionError):
        raise BAD_DATA.failure(detail="an event that is not JSON") from None
    if not isinstance(whole, dict):
        raise BAD_DATA.failure(detail="an event that is not a JSON object")
    return whole, mended


def json_in(text: str) -> Any:
    """The JSON value in a text; None when it is not JSON."""
    try:
        return _any_decoder.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return None


def start_of(answer: Json, metadata: ev.ProviderMetadata | None) -> ev.Start:
    """The start of an answer with the ``id`` and the ``model`` that its first object names."""
    id, model = answer.get("id"), answer.get("model")
    return ev.Start(
        message_id=id if isinstance(id, str) else None,
        message_metadata={"model": model} if isinstance(model, str) else None,
        provider_metadata=metadata,
    )


def tool_input(
    call: Json, text: str, *, empty: Any, reader: ArgumentsReader
) -> ev.ToolInputAvailable | ev.ToolInputError:
    """The end of a tool call's arguments, which are parsed only when whole; ``empty`` is what no text means.

    ``call`` holds the fields that both events share. All calls of an answer have one ``reader``.
    """
    text = with_pairs(text)
    if not text.strip():
        return ev.ToolInputAvailable(**call, input=empty)
    try:
        return ev.ToolInputAvailable(**call, input=reader.parse(text))
    except UnparsedArguments as error:
        return ev.ToolInputError(**call, input=text, error_text=f"the tool's arguments {error}")


def token_count(value: object) -> int | None:
    """A token count; None for any other value."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def member(whole: object, name: str) -> Any:
    """A member of an object; None when it has no such member, or is no object."""
    return whole.get(name) if isinstance(whole, dict) else None


def count_in(details: object, name: str) -> int | None:
    """A token count among the details of a usage."""
    return token_count(member(details, name))


def extras_of(whole: Json, *known: str) -> Json:
    """The fields of an object that have no place of their own in our events, without the empty ones."""
    return {name: value for name, value in whole.items() if name not in known and value not in (None, [], "")}


def as_text(value: Any) -> str:
    """Text as it is, any other value as JSON."""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
