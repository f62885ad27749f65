"""The events of a generation or a feed, as immutable facts: the one vocabulary inside broadcaster.

Part names and camelCase fields are those of the Vercel AI SDK's UI message stream wherever one exists; ours are
``attempt`` and ``usage``. Provider extras (signatures, citations, cache counts, request id) are in
``providerMetadata``, keyed by provider, so that decode → encode back to the same provider loses nothing.

An event is stored once, as the compact JSON ``encode_event`` returns: ``type`` comes first (the log's scripts
recognise a terminal event by that prefix), absent optional fields are left out, and no raw line break occurs in it
(JSON escapes them), so the native dialect frames those bytes untouched.

Exactly one terminal event (``finish``, ``error``, ``abort``) ends a stream.
"""

from __future__ import annotations

from typing import Any, Final, Literal, NamedTuple, TypeAlias

import msgspec

FORMAT_VERSION: Final = 1

ANSWERED_BY: Final = "broadcaster"
"""The key under which a ``finish`` holds our own metadata: ``provider``, ``model`` and ``tries`` of an answer that did
not come from the first target at its first try."""

ProviderMetadata: TypeAlias = dict[str, dict[str, Any]]

FinishReason: TypeAlias = Literal["stop", "length", "content-filter", "tool-calls", "error", "other"]


class _Event(msgspec.Struct, frozen=True, rename="camel", tag_field="type", omit_defaults=True, kw_only=True):
    """Common shape; never instantiated itself."""


class _PartBorder(_Event, frozen=True):
    """Where the part ``id`` begins or ends; never instantiated itself."""

    id: str
    provider_metadata: ProviderMetadata | None = None


class _PartDelta(_Event, frozen=True):
    """The next piece of the part ``id``; never instantiated itself."""

    id: str
    delta: str
    provider_metadata: ProviderMetadata | None = None


class Start(_Event, frozen=True, tag="start"):
    """The provider took the request: the answer begins. ``message_id`` is the provider's, metadata has the model."""

    message_id: str | None = None
    message_metadata: dict[str, Any] | None = None
    provider_metadata: ProviderMetadata | None = None


class StartStep(_Event, frozen=True, tag="start-step"):
    """One provider call begins (an agent loop has several)."""

    provider_metadata: ProviderMetadata | None = None


class FinishStep(_Event, frozen=True, tag="finish-step"):
    """The provider call ended properly: its own terminal was seen."""

    finish_reason: FinishReason | None = None
    provider_metadata: ProviderMetadata | None = None


class TextStart(_PartBorder, frozen=True, tag="text-start"):
    """A text part opens under ``id``."""


class TextDelta(_PartDelta, frozen=True, tag="text-delta"):
    """The next piece of the text part ``id``."""


class TextEnd(_PartBorder, frozen=True, tag="text-end"):
    """The text part ``id`` is whole; its metadata may carry citations."""


class ReasoningStart(_PartBorder, frozen=True, tag="reasoning-start"):
    """A reasoning part opens; a redacted one carries its data in the metadata and no deltas."""


class ReasoningDelta(_PartDelta, frozen=True, tag="reasoning-delta"):
    """The next piece of the reasoning part ``id`` (a signature comes as an empty delta with metadata)."""


class ReasoningEnd(_PartBorder, frozen=True, tag="reasoning-end"):
    """The reasoning part ``id`` is whole."""


class ToolInputStart(_Event, frozen=True, tag="tool-input-start"):
    """The model begins to call a tool; ``provider_executed`` when the provider runs it itself."""

    tool_call_id: str
    tool_name: str
    provider_executed: bool | None = None
    dynamic: bool | None = None
    provider_metadata: ProviderMetadata | None = None


class ToolInputDelta(_Event, frozen=True, tag="tool-input-delta"):
    """A fragment of the tool call's JSON arguments: text, not yet parseable."""

    tool_call_id: str
    input_text_delta: str
    provider_metadata: ProviderMetadata | None = None


class ToolInputAvailable(_Event, frozen=True, tag="tool-input-available"):
    """The tool call's arguments are whole and parsed."""

    tool_call_id: str
    tool_name: str
    input: Any
    provider_executed: bool | None = None
    dynamic: bool | None = None
    provider_metadata: ProviderMetadata | None = None


class ToolInputError(_Event, frozen=True, tag="tool-input-error"):
    """The tool call's arguments are not valid JSON, too large or nested too deeply; ``input`` is their text."""

    tool_call_id: str
    tool_name: str
    input: Any
    error_text: str
    provider_executed: bool | None = None
    dynamic: bool | None = None
    provider_metadata: ProviderMetadata | None = None


class ToolOutputAvailable(_Event, frozen=True, tag="tool-output-available"):
    """A tool returned a result."""

    tool_call_id: str
    output: Any
    provider_executed: bool | None = None
    dynamic: bool | None = None
    preliminary: bool | None = None
    provider_metadata: ProviderMetadata | None = None


class ToolOutputError(_Event, frozen=True, tag="tool-output-error"):
    """A tool failed."""

    tool_call_id: str
    error_text: str
    provider_executed: bool | None = None
    dynamic: bool | None = None
    provider_metadata: ProviderMetadata | None = None


class SourceUrl(_Event, frozen=True, tag="source-url"):
    """The answer cites a web page."""

    source_id: str
    url: str
    title: str | None = None
    provider_metadata: ProviderMetadata | None = None


class SourceDocument(_Event, frozen=True, tag="source-document"):
    """The answer cites a document."""

    source_id: str
    media_type: str
    title: str
    filename: str | None = None
    provider_metadata: ProviderMetadata | None = None


class File(_Event, frozen=True, tag="file"):
    """A file the model made (``url`` may be a data URL)."""

    url: str
    media_type: str
    provider_metadata: ProviderMetadata | None = None


class Usage(_Event, frozen=True, tag="usage"):
    """Token counts so far for the generation; ``estimated`` when the provider never reported the input or output."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    cached_input_tokens: int | None = None
    cache_write_input_tokens: int | None = None
    estimated: bool = False
    provider_metadata: ProviderMetadata | None = None


class Attempt(_Event, frozen=True, tag="attempt"):
    """A new attempt begins: drop everything before it. ``attempt`` counts from 2; 1: Redis may have lost the first."""

    attempt: int
    reason: str = "worker_lost"


class Finish(_Event, frozen=True, tag="finish"):
    """Terminal: the answer is whole."""

    finish_reason: FinishReason | None = None
    message_metadata: dict[str, Any] | None = None
    provider_metadata: ProviderMetadata | None = None


class Error(_Event, frozen=True, tag="error"):
    """Terminal: the answer is not whole and will not become so. ``code`` is stable; ``error_text`` is for people."""

    error_text: str
    code: str = "error"
    provider_metadata: ProviderMetadata | None = None


class Abort(_Event, frozen=True, tag="abort"):
    """Terminal: a caller stopped the answer (``stopped``), or it had no viewers left (``abandoned``)."""

    reason: str | None = None


class DataEvent(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, kw_only=True):
    """``data-<name>``: an event of a job or an application, with any data; ``type`` is the whole name."""

    type: str
    data: Any
    id: str | None = None
    transient: bool | None = None


class UnknownEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event of a newer version: passed through natively by its raw bytes, ignored by the fold."""

    type: str


KnownEvent: TypeAlias = (
    Start
    | StartStep
    | FinishStep
    | TextStart
    | TextDelta
    | TextEnd
    | ReasoningStart
    | ReasoningDelta
    | ReasoningEnd
    | ToolInputStart
    | ToolInputDelta
    | ToolInputAvailable
    | ToolInputError
    | ToolOutputAvailable
    | ToolOutputError
    | SourceUrl
    | SourceDocument
    | File
    | Usage
    | Attempt
    | Finish
    | Error
    | Abort
)

Event: TypeAlias = KnownEvent | DataEvent | UnknownEvent

TerminalEvent: TypeAlias = Finish | Error | Abort


class WrittenEvents(NamedTuple):
    """The events of a part that a model writes."""

    start: type[TextStart] | type[ReasoningStart]
    delta: type[TextDelta] | type[ReasoningDelta]
    end: type[TextEnd] | type[ReasoningEnd]


TEXT: Final = WrittenEvents(TextStart, TextDelta, TextEnd)
REASONING: Final = WrittenEvents(ReasoningStart, ReasoningDelta, ReasoningEnd)

TERMINAL_TYPES: Final = frozenset({"finish", "error", "abort"})
ATTEMPT_PREFIX: Final = b'{"type":"attempt"'
TERMINAL_PREFIXES: Final = (b'{"type":"finish"', b'{"type":"error"', b'{"type":"abort"')

UNREADABLE: Final = "unreadable"
_UNREADABLE_TEXT: Final = "how the answer ended was written by another version and cannot be read"


class _Tagged(msgspec.Struct):
    type: str


_encoder: Final = msgspec.json.Encoder()
_known_decoder: Final[msgspec.json.Decoder[KnownEvent]] = msgspec.json.Decoder(KnownEvent)
_data_decoder: Final[msgspec.json.Decoder[DataEvent]] = msgspec.json.Decoder(DataEvent)
_tag_decoder: Final = msgspec.json.Decoder(_Tagged)
KNOWN_TYPES: Final = frozenset(str(struct.__struct_config__.tag) for struct in KnownEvent.__args__)


def encode_event(event: Event) -> bytes:
    """The event as compact JSON, ``type`` first: the bytes that the log stores and the native dialect sends."""
    return _encoder.encode(event)


def decode_event(raw: bytes) -> Event:
    """Read an event back from the log.

    An event type of another version becomes UnknownEvent (docs/protocol.md §8). Raises msgspec.DecodeError when the
    bytes are not a JSON object with a string ``type``, or a known type lacks its fields.
    """
    try:
        try:
            return _known_decoder.decode(raw)
        except msgspec.ValidationError:
            kind = _tag_decoder.decode(raw).type
            if kind in KNOWN_TYPES:
                raise
        return _data_decoder.decode(raw) if kind.startswith("data-") else UnknownEvent(type=kind)
    except UnicodeDecodeError as error:
        raise msgspec.DecodeError("not UTF-8") from error


def read_event(raw: bytes) -> Event:
    """Read an event back from the log, whichever version wrote it; for all code that delivers an answer.

    A known type in a shape that this version cannot read becomes an UnknownEvent. An unreadable terminal event still
    ends the stream: it becomes an Error of the code ``UNREADABLE``, because the answer may not be complete.
    """
    try:
        return decode_event(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Error(error_text=_UNREADABLE_TEXT, code=UNREADABLE) if is_terminal(raw) else UnknownEvent(type="")


def is_terminal(raw: bytes) -> bool:
    """Whether these stored bytes end their stream (read from the prefix: no parsing on the hot path)."""
    return raw.startswith(TERMINAL_PREFIXES)
