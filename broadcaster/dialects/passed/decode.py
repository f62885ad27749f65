"""The response body of a passed-on call (core/requests/passed_calls.py) → events that carry it as it came.

Rules
1. The provider's response travels as text in ``data-provider`` events: the data of each SSE message, or pieces of a
   JSON body. Joined, they are the same text.
2. A JSON body is buffered until it is whole, so that a call that breaks off leaves no trace and can be repeated. It is
   whole when it parses as an object: a connection that closes in the middle does not end it. It has at most
   ``max_bytes``. Other JSON (a list, half of a surrogate pair, a number out of range) can never become part of an
   object, so another attempt would not help.
3. A stream is whole with its ``[DONE]``. An error that the provider sends in it fails the call.
4. Token counts are read from the response's ``usage``.
"""

from __future__ import annotations

import json
from typing import Any, Final

import msgspec

from broadcaster.core import events as ev
from broadcaster.core.providers import request_ids
from broadcaster.core.providers.metering import OutputMeter
from broadcaster.core.sse import SseMessage
from broadcaster.dialects.halves import is_torn
from broadcaster.dialects.openai.errors import reported_failure
from broadcaster.dialects.reading import EventStreamDecoder, Json, ProviderDecoder, member, parse, token_count
from broadcaster.errors import ProviderFailed

CARRIED_TYPE: Final = "data-provider"
"""Type of the events that carry a response as it came; ``data`` is text."""
PIECE_CHARS: Final = 32 * 2**10

_DONE: Final = "[DONE]"
_PROVIDER: Final = "provider"
_INPUT_NAMES: Final = ("prompt_tokens", "input_tokens")
_OUTPUT_NAMES: Final = ("completion_tokens", "output_tokens")
_TOO_LARGE: Final = "the provider's response has more than {} bytes (BROADCASTER_MAX_BYTES); request less at once"
_NO_OBJECT: Final = "the provider's response is not a valid JSON object"


class _PassedBody(msgspec.Struct):
    """The only field read from a body; everything else is only checked to be JSON."""

    usage: Any = None


_body_decoder: Final = msgspec.json.Decoder(_PassedBody)


class BodyDecoder(ProviderDecoder):
    """A body of JSON; see ProviderDecoder, and rule 2."""

    def __init__(self, *, max_bytes: int, request_id: str | None = None) -> None:
        super().__init__()
        self._start = _started(request_id)
        self._max_bytes = max_bytes
        self._body = bytearray()
        self._usage = ev.Usage()

    def flush(self) -> list[ev.Event]:
        """See ProviderDecoder.flush: all events of a whole body. Raises ProviderFailed for other JSON (rule 2)."""
        super().flush()
        try:
            text = self._body.decode()
            usage = _body_decoder.decode(text).usage
        except (UnicodeDecodeError, msgspec.DecodeError, RecursionError):
            self._refuse_other_json()
            return []
        self.terminal_seen = True
        pieces = [text[at : at + PIECE_CHARS] for at in range(0, len(text), PIECE_CHARS)]
        counted = _counted(usage)
        self._usage = counted or self._usage
        carried: list[ev.Event] = [ev.DataEvent(type=CARRIED_TYPE, data=piece) for piece in pieces]
        return [self._start, *carried, *([counted] if counted is not None else []), ev.Finish()]

    def usage_so_far(self) -> ev.Usage:
        """See ProviderDecoder.usage_so_far."""
        return self._usage

    def _take(self, chunk: bytes, out: list[ev.Event]) -> None:
        """Nothing before the end. Raises ProviderFailed for a body beyond its bound."""
        self.has_advanced = True
        self._body += chunk
        if len(self._body) > self._max_bytes:
            self._body.clear()
            raise ProviderFailed(_TOO_LARGE.format(self._max_bytes), reason="provider_bad_data")

    def _refuse_other_json(self) -> None:
        """Raise ProviderFailed for JSON that ``json`` reads and msgspec does not."""
        try:
            json.loads(self._body)
        except (ValueError, RecursionError):
            return
        self.failure = ProviderFailed(_NO_OBJECT, reason="provider_bad_data")
        raise self.failure


class StreamDecoder(EventStreamDecoder):
    """A stream of legacy completions; see ProviderDecoder, and rule 3."""

    def __init__(self, *, request_id: str | None = None) -> None:
        super().__init__()
        self._start: ev.Start | None = _started(request_id)
        self._meter = OutputMeter()
        self._usage: ev.Usage | None = None

    def usage_so_far(self) -> ev.Usage:
        """See ProviderDecoder.usage_so_far."""
        return self._usage or ev.Usage(output_tokens=self._meter.estimated_tokens(), estimated=True)

    def _read(self, message: SseMessage, out: list[ev.Event]) -> None:
        if message.data.strip() == _DONE:
            out += [self.usage_so_far(), ev.Finish()]
            self.terminal_seen = True
            return
        if self._start is not None:
            out.append(self._start)
            self._start = None
        whole, mended = parse(message)
        if error := whole.get("error"):
            raise reported_failure(error)
        self._usage = _counted(whole.get("usage")) or self._usage
        for text in _texts(whole):
            self._meter.count(text)
        out.append(ev.DataEvent(type=CARRIED_TYPE, data=mended if is_torn(message.data) else message.data))


def _started(request_id: str | None) -> ev.Start:
    """The start of a request that the provider accepted under this id."""
    return ev.Start(provider_metadata=None if request_id is None else {_PROVIDER: {request_ids.NAME: request_id}})


def _counted(usage: Any) -> ev.Usage | None:
    """Rule 4."""
    if not isinstance(usage, dict):
        return None
    counts = [next((usage[name] for name in names if name in usage), None) for names in (_INPUT_NAMES, _OUTPUT_NAMES)]
    known_in, known_out = map(token_count, counts)
    if known_in is None and known_out is None:
        return None
    return ev.Usage(input_tokens=known_in, output_tokens=known_out)


def _texts(chunk: Json) -> list[str]:
    """The texts that the model wrote in this chunk."""
    choices = chunk.get("choices")
    choices = choices if isinstance(choices, list) else []
    return [text for each in choices if isinstance(text := member(each, "text"), str)]
