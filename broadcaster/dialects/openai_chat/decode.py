"""Decode: bytes of one chat completions stream → events of ours.

Rules
1. The answer opens with the first chunk that has a choice: some servers (Azure) send chunks about the prompt first.
2. Only choice 0 is the answer. What our events cannot express (another choice, audio, an object that is no chunk)
   becomes ``data-openai`` with the wire event as its data, in its place, without what other events hold.
3. An extra field beside a delta (logprobs, a vendor's own) rides on the delta's metadata, one beside the
   ``finish_reason`` on the end's. Fields of the chunk itself ride on the start, and on the end if they have changed
   since. A field that repeats its value is sent once; ``obfuscation`` is padding and dropped.
4. ``finish_reason`` makes the answer whole. ``[DONE]`` is the terminal event, or, if the stream ends without it,
   ``flush``; only then the parts close, since some servers send the reason early. What follows is ignored. The reason
   ``stop`` of an answer with calls is ``tool-calls``: OpenAI sends it behind a forced call, some servers behind any.
5. ``[DONE]`` without a ``finish_reason`` is no end: proxies write it after an answer that broke off above them.
6. An error ends the stream, wherever it stands: ``{"error": …}``, ``[{"error": …}]``, ``{"object": "error"}``,
   ``event: error``, a reason of FAILED_REASONS. What came before is still returned, the failure is raised by the next
   call.
7. A ``usage`` replaces the one before it (some servers send one with every chunk). It covers what was written until
   then if its output count has risen, or if it comes with or after the ``finish_reason``. A server that reports 0 for
   ever does not count. What no count covers is estimated, on top of the last count. The counts are exact only for a
   whole answer: before its end the model may have thought more than it has sent.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from broadcaster.core import events as ev
from broadcaster.core.providers.metering import OutputMeter
from broadcaster.core.sse import DEFAULT_EVENT, SseMessage
from broadcaster.dialects.errors import BAD_DATA
from broadcaster.dialects.openai.errors import error_in, listed_error, reported_failure
from broadcaster.dialects.openai.wire import PASSED_TYPE, extras_in, metadata, usage_of
from broadcaster.dialects.openai_chat import wire
from broadcaster.dialects.openai_chat.parts import ChatParts, TextKind, keep_halves, objects, read_delta
from broadcaster.dialects.reading import EventStreamDecoder, Json, extras_of, json_in, parse, start_of, token_count

_plain_decoder: Final = msgspec.json.Decoder(wire.PlainChunk)

_ERROR: Final = "error"
_REASONS: Final = wire.FINISH_REASONS | wire.SERVER_REASONS


class OpenAIChatDecoder(EventStreamDecoder):
    """One provider call; see ProviderDecoder. ``terminal_seen``: ``[DONE]`` came, or ``flush`` took its place."""

    def __init__(self, *, request_id: str | None = None) -> None:
        super().__init__()
        self._request_id = request_id
        self._counts = Counts()
        self._parts = ChatParts(self._counts.meter)
        self._is_started = False
        self._finish_reason: object = None
        self._sent: Json = {}
        self._sent_of_choice: Json = {}
        self._end: Json = {}

    @property
    def is_whole(self) -> bool:
        """Whether the ``finish_reason`` of choice 0 has come: only counts and vendors' extras may follow."""
        return self._finish_reason is not None and self.failure is None

    def flush(self) -> list[ev.Event]:
        """See ProviderDecoder: the closing events of an answer that lacks only its ``[DONE]``."""
        out = super().flush()
        if self.is_whole and not self.terminal_seen:
            self._close(out)
        return out

    def _object_of(self, message: SseMessage) -> Json:
        """The object in the data; the quick way where nothing has to be mended. Raises ProviderFailed for an error."""
        if message.event == DEFAULT_EVENT:
            found = json_in(message.data)
            if isinstance(found, dict):
                return found
            if (error := listed_error(found)) is not None:
                raise reported_failure(error)
        whole, _ = parse(message)
        if (torn := self._torn(message)) is not None:
            keep_halves(whole, torn)
        return whole

    def usage_so_far(self) -> ev.Usage:
        """See ProviderDecoder. Most servers count once, at the end; until then the input is unknown."""
        return self._counts.usage(is_whole=self.is_whole)

    # ------------------------------------------------------------------------------------------------ reading one event

    def _read(self, message: SseMessage, out: list[ev.Event]) -> None:
        if message.event == _ERROR:
            raise reported_failure(error_in(message.data))
        try:
            plain = _plain_decoder.decode(message.data)
        except (msgspec.DecodeError, RecursionError):
            self._read_odd(message, out)
            return
        if not self._is_started or self._has_news(plain):
            self._read_chunk(msgspec.json.decode(message.data), out)
            return
        delta = plain.choices[0].delta
        if reasoning := delta.reasoning_content or delta.reasoning:
            self._parts.write(TextKind.REASONING, reasoning, out)
        if delta.content:
            self._parts.write(TextKind.TEXT, delta.content, out)

    def _has_news(self, plain: wire.PlainChunk) -> bool:
        """Whether a plain chunk holds more than its text."""
        delta = plain.choices[0].delta
        return (
            plain.system_fingerprint not in (None, self._sent.get("system_fingerprint"))
            or plain.service_tier not in (None, self._sent.get("service_tier"))
            or bool(delta.reasoning_content and delta.reasoning)
        )

    def _read_odd(self, message: SseMessage, out: list[ev.Event]) -> None:
        """Any event but a plain chunk: the first one, a tool call, the end, an error, or nonsense."""
        text = message.data.strip()
        if text == wire.DONE:
            if self._finish_reason is None:
                raise BAD_DATA.failure(detail=f"{wire.DONE} without a finish_reason")
            self._close(out)
        elif text:
            whole = self._object_of(message)
            if (error := _error_of(whole)) is not None:
                raise reported_failure(error)
            if "choices" in whole or isinstance(whole.get("usage"), dict):
                self._read_chunk(whole, out)
            elif whole and whole.get("type") != "ping":
                out.append(ev.DataEvent(type=PASSED_TYPE, data=whole))

    def _read_chunk(self, chunk: Json, out: list[ev.Event]) -> None:
        choices = objects(chunk.get("choices"), "chunk")
        self._take_extras(chunk)
        if choices and not self._is_started:
            self._start(chunk, out)
        usage = chunk.get("usage")
        others = []
        for choice in choices:
            if choice.get("index") in (0, None):
                self._read_choice(choice, chunk, out)
                usage = usage or choice.get("usage")  # Moonshot counts in the choice.
            else:
                others.append(choice)
        if others:
            out.append(_passed(chunk, others))
        self._counts.take(usage, is_whole=self.is_whole)
        if isinstance(self._finish_reason, str) and self._finish_reason in wire.FAILED_REASONS:
            raise wire.FAILED_REASONS[self._finish_reason].failure(detail=f"finish_reason {self._finish_reason}")

    def _read_choice(self, choice: Json, chunk: Json, out: list[ev.Event]) -> None:
        delta = choice.get("delta")
        if delta is None:
            # A server that cannot stream sends the whole message.
            delta = choice.get("message") or {}
        if not isinstance(delta, dict):
            raise BAD_DATA.failure(detail="a malformed delta")
        before = len(out)
        rest = read_delta(delta, self._parts, out)
        if error := choice.get("error"):
            raise reported_failure(error)
        if (reason := choice.get("finish_reason")) not in (None, ""):
            self._finish_reason = reason
        extras = self._new_of_choice(choice)
        if rest or extras:
            self._carry(rest, extras, chunk=chunk, since=before, out=out)

    # ----------------------------------------------------------------------------------------------- start, extras, end

    def _start(self, chunk: Json, out: list[ev.Event]) -> None:
        self._is_started = True
        extras = extras_of({"created": chunk.get("created"), **self._sent, "requestId": self._request_id})
        named = {name: chunk.get(name) or None for name in ("id", "model")}
        out += [start_of(named, metadata(extras)), ev.StartStep()]

    def _take_extras(self, chunk: Json) -> None:
        """Rule 3, of the chunk's own fields."""
        new = _new_in(extras_of(chunk, *wire.CHUNK_FIELDS), self._sent)
        self._sent |= new
        if self._is_started:
            self._end |= new

    def _new_of_choice(self, choice: Json) -> Json:
        """Rule 3, of the fields beside a delta. Equal tokens may have equal logprobs, so these are always sent."""
        new = _new_in(extras_of(choice, *wire.CHOICE_FIELDS), self._sent_of_choice)
        self._sent_of_choice |= new
        logprobs = choice.get("logprobs")
        if isinstance(logprobs, dict) and extras_of(logprobs):
            new = {"logprobs": logprobs, **new}
        return new

    def _carry(self, rest: Json, extras: Json, *, chunk: Json, since: int, out: list[ev.Event]) -> None:
        """Rule 3: ``rest`` is of the delta, ``extras`` stood beside it."""
        for at in range(since, len(out)):
            event = out[at]
            if isinstance(event, ev.TextDelta | ev.ReasoningDelta | ev.ToolInputDelta):
                own = extras_in(event)
                out[at] = msgspec.structs.replace(event, provider_metadata=metadata({**rest, **extras, **own}))
                return
        if rest or self._finish_reason is None:
            out.append(_passed(chunk, [{"index": 0, "delta": rest, **extras}]))
        else:
            self._end |= extras

    def _close(self, out: list[ev.Event]) -> None:
        """Rule 4."""
        self._parts.close(out)
        raw = self._finish_reason
        reason = _REASONS.get(raw, "other") if isinstance(raw, str) else "other"
        if reason == "stop" and self._parts.has_calls:
            reason = "tool-calls"
        if self._parts.has_refusal:
            reason = "content-filter"
        extras = metadata({"finishReason": raw, **self._end})
        out.append(self.usage_so_far())
        out.append(ev.FinishStep(finish_reason=reason, provider_metadata=extras))
        out.append(ev.Finish(finish_reason=reason, provider_metadata=extras))
        self.terminal_seen = True


class Counts:
    """What is known of an answer's tokens (rule 7); its ``meter`` counts what no usage covers yet."""

    def __init__(self) -> None:
        self.meter = OutputMeter()
        self._usage: Json = {}

    def take(self, usage: Any, *, is_whole: bool) -> None:
        """Take a chunk's ``usage``, after its content; anything but an object is ignored."""
        if not isinstance(usage, dict) or not usage:
            return
        before = self._output or 0
        self._usage = {name: value for name, value in usage.items() if value is not None}
        output = self._output or 0
        if output > before or (is_whole and output):
            self.meter.bytes = 0

    def usage(self, *, is_whole: bool) -> ev.Usage:
        """The counts known now."""
        output = (self._output or 0) + self.meter.estimated_tokens()
        is_exact = is_whole and self._output is not None and self.meter.bytes == 0
        return usage_of(self._usage, ("prompt", "completion"), output_tokens=output, estimated=not is_exact)

    @property
    def _output(self) -> int | None:
        return token_count(self._usage.get("completion_tokens"))


def _error_of(whole: Json) -> object:
    """The error in an object (rule 6); None: it holds no error."""
    if error := whole.get("error"):
        return error
    return whole if _ERROR in (whole.get("object"), whole.get("type")) else None


def _passed(chunk: Json, choices: list[Json]) -> ev.DataEvent:
    """Rule 2."""
    head = {name: chunk[name] for name in ("id", "object", "created", "model") if name in chunk}
    return ev.DataEvent(type=PASSED_TYPE, data={**head, "choices": choices})


def _new_in(extras: Json, sent: Json) -> Json:
    return {name: value for name, value in extras.items() if name not in sent or sent[name] != value}
