"""One chat answer in the making: our events → deltas of choice 0, and what they add up to.

Rules
1. A choice has one text, one refusal and one reasoning, however many parts or steps they come in: each continues where
   it ended. The API has no name for the reasoning, and servers use two: ``reasoning_content`` (DeepSeek) and
   ``reasoning`` (vLLM, OpenRouter). Both are sent, because many clients read only one of them.
2. Calls are numbered densely in the order they open; id and name come first, then fragments of the arguments. Arguments
   without fragments are sent whole at the call's end, with the vendor's fields that came behind its start.
3. A call that the client must not run is not sent: the provider ran it, or it is one of ``hidden_tools``. Of other
   calls it is known too late that the worker ran them; ``message`` leaves them out.
4. Annotations are sent once, at the end: the SDK adds up lists of objects by an index that these do not have. A
   citation of another provider becomes one if it has a URL; its place is that of the text part that holds it.
5. A model without custom tools calls one of ``custom_tools`` as a function, with the text in an object. It is shown as
   a call of the custom tool, and its text is sent when it is whole.
6. What has no place here is not sent: vendors' extras, ``data-*``, files, events of a newer version.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple

import msgspec

from broadcaster.core import events as ev
from broadcaster.core.forking import Forkable, Pieces
from broadcaster.dialects.openai.tools import custom_text, is_custom_call
from broadcaster.dialects.openai.wire import extras_in
from broadcaster.dialects.reading import Json

Field = Literal["content", "refusal", "reasoning"]

_LOGPROBS: Final = ("content", "refusal")


class Delta(NamedTuple):
    """What one chunk adds to the message, and the log probabilities beside it."""

    message: Json
    logprobs: Json | None = None


def _named(name: Field, text: str) -> Json:
    """The text under its name, or its two names (rule 1)."""
    return {"reasoning_content": text, "reasoning": text} if name == "reasoning" else {name: text}


@dataclass(slots=True)
class ChatToolCall(Forkable):
    """A tool call; ``function`` is the wire's name for its kind, ``is_wrapped`` whether rule 5 applies to it."""

    index: int
    id: str
    name: str
    function: str
    extras: Json
    is_wrapped: bool = False
    arguments: Pieces = field(default_factory=Pieces)
    is_answered: bool = False

    @property
    def whole(self) -> Json:
        """The call as its message has it."""
        return {**self.extras, "id": self.id, "type": self.function, self.function: self.body}

    @property
    def body(self) -> Json:
        """Name and arguments under the names of its kind."""
        return {"name": self.name, **self._argued(self.arguments.text)}

    @property
    def delta(self) -> Delta:
        """All of it so far."""
        if self.function == "function_call":
            return Delta({"function_call": self.body})
        return Delta({"tool_calls": [{"index": self.index, **self.whole}]})

    def grow(self, fragment: str, late: Json | None = None) -> Delta:
        """The next fragment of the arguments. SDKs require one, if an empty one, beside late extras."""
        self.arguments.append(fragment)
        body = self._argued(fragment)
        if self.function == "function_call":
            return Delta({"function_call": body})
        return Delta({"tool_calls": [{"index": self.index, **(late or {}), self.function: body}]})

    def take_late(self, extras: Json) -> Json:
        """Those of the extras that it did not have."""
        late = {name: value for name, value in extras.items() if name.islower() and name not in self.extras}
        self.extras = self.extras | late
        return late

    def _argued(self, text: str) -> Json:
        return {"input" if self.function == "custom" else "arguments": text}


class ChatAttempt(Forkable):
    """What one attempt has sent of choice 0."""

    def __init__(
        self, *, hidden_tools: frozenset[str] = frozenset(), custom_tools: frozenset[str] = frozenset()
    ) -> None:
        self._hidden_tools = hidden_tools
        self._custom_tools = custom_tools
        self._texts: dict[Field, Pieces] = {}
        self._chars = 0
        self._refusals: set[str] = set()
        self._starts: dict[str, int] = {}
        self._calls: list[ChatToolCall] = []
        self._open: dict[str, int] = {}
        self._hidden: set[str] = set()
        self._annotations: list[Json] = []
        self._logprobs: list[dict[str, list[Any]]] = []

    def take(self, event: ev.Event) -> Delta | None:
        """What the next event adds; None when it adds nothing."""
        read = _READERS.get(type(event))
        return None if read is None else read(self, event)

    def so_far(self) -> Iterator[Delta]:
        """All that was taken, in as few deltas as hold it."""
        logprobs = self.logprobs
        for name, pieces in self._texts.items():
            yield Delta(_named(name, pieces.text), logprobs if name != "reasoning" else None)
            if name != "reasoning":
                logprobs = None
        if logprobs is not None:
            yield Delta({}, logprobs)
        for call in self._calls:
            yield call.delta

    def at_end(self) -> Delta | None:
        """The last delta (rule 4); None when there is nothing to send."""
        return Delta({"annotations": self._annotations}) if self._annotations else None

    @property
    def logprobs(self) -> Json | None:
        """All log probabilities so far; None when the provider sent none."""
        joined: dict[str, list[Any]] = {}
        for taken in self._logprobs:
            for name, tokens in taken.items():
                joined.setdefault(name, []).extend(tokens)
        return {name: joined.get(name) for name in _LOGPROBS} if joined else None

    @property
    def awaits_client_tools(self) -> bool:
        """Whether a finish reason of calls is true: some call awaits the client, or no call was made (rule 3)."""
        return any(not call.is_answered for call in self._calls) or not (self._calls or self._hidden)

    def message(self) -> Json:
        """The message as a whole."""
        message: Json = {"role": "assistant", "content": self._text("content"), "refusal": self._text("refusal")}
        if (reasoning := self._text("reasoning")) is not None:
            message |= _named("reasoning", reasoning)
        mine = [call for call in self._calls if not call.is_answered]
        calls = [call.whole for call in mine if call.function != "function_call"]
        if calls:
            message["tool_calls"] = calls
        for call in mine:
            if call.function == "function_call":
                message["function_call"] = call.body
        if message["content"] is None and message["refusal"] is None and not mine:
            message["content"] = ""
        if self._annotations:
            message["annotations"] = self._annotations
        return message

    # ------------------------------------------------------------------------------------------------------------ texts

    def _text(self, name: Field) -> str | None:
        return self._texts[name].text if name in self._texts else None

    def _start_text(self, event: ev.TextStart) -> None:
        self._starts[event.id] = self._chars
        if extras_in(event).get("refusal") is True:
            self._refusals.add(event.id)
        else:
            self._refusals.discard(event.id)

    def _grow(self, event: ev.TextDelta | ev.ReasoningDelta) -> Delta | None:
        name: Field = "reasoning"
        if isinstance(event, ev.TextDelta):
            name = "refusal" if event.id in self._refusals else "content"
        if name == "content":
            self._chars += len(event.delta)
        logprobs = self._take_logprobs(extras_in(event).get("logprobs"))
        if not event.delta:
            return None if logprobs is None else Delta({}, logprobs)
        if name not in self._texts:
            self._texts[name] = Pieces()
        self._texts[name].append(event.delta)
        return Delta(_named(name, event.delta), logprobs)

    def _take_logprobs(self, logprobs: object) -> Json | None:
        if isinstance(logprobs, list):
            logprobs = {"content": logprobs}  # the shape of Responses
        if not isinstance(logprobs, dict):
            return None
        taken = {name: logprobs[name] for name in _LOGPROBS if isinstance(logprobs.get(name), list)}
        self._logprobs.append(taken)
        return {name: taken.get(name) for name in _LOGPROBS} if taken else None

    def _end_text(self, event: ev.TextEnd) -> None:
        start = self._starts.pop(event.id, 0)
        self._refusals.discard(event.id)
        for extras in (event.provider_metadata or {}).values():
            for name in ("annotations", "citations"):
                cited = extras.get(name)
                for each in cited if isinstance(cited, list) else ():
                    if (annotation := _annotation(each, start, self._chars)) is not None:
                        self._annotations.append(annotation)

    # ------------------------------------------------------------------------------------------------------------ calls

    def _start_call(self, event: ev.ToolInputStart) -> Delta | None:
        if self._is_hidden(event):
            return None
        return self._opened(event.tool_call_id, event.tool_name, extras_in(event)).delta

    def _is_hidden(self, event: ev.ToolInputStart | ev.ToolInputAvailable | ev.ToolInputError) -> bool:
        """Rule 3."""
        if event.provider_executed or event.tool_name in self._hidden_tools:
            self._hidden.add(event.tool_call_id)
        return event.tool_call_id in self._hidden

    def _opened(self, id: str, name: str, extras: Json) -> ChatToolCall:
        """A new call. Extras in camel case are our own."""
        rest = {name: value for name, value in extras.items() if name.islower()}
        kind, is_custom = extras.get("toolType"), is_custom_call(extras)
        is_wrapped = not is_custom and name in self._custom_tools
        if is_custom or is_wrapped:
            kind = "custom"
        function = kind if isinstance(kind, str) else "function"
        call = ChatToolCall(len(self._calls), id, name, function, rest, is_wrapped=is_wrapped)
        self._open[id] = call.index
        self._calls.append(call)
        return call

    def _grow_call(self, event: ev.ToolInputDelta) -> Delta | None:
        """A delta without its start opens its call; the name of that call is lost."""
        id, fragment = event.tool_call_id, event.input_text_delta
        if id in self._hidden or not fragment:
            return None
        if id in self._open:
            call = self._calls[self._open[id]]
            return None if call.is_wrapped else call.grow(fragment)
        call = self._opened(id, "", {})
        call.arguments.append(fragment)
        return call.delta

    def _end_call(self, event: ev.ToolInputAvailable | ev.ToolInputError) -> Delta | None:
        """Rule 2: the last delta of its input."""
        id = event.tool_call_id
        if self._is_hidden(event):
            return None
        if is_new := id not in self._open:
            self._opened(id, event.tool_name, extras_in(event))
        call = self._calls[self._open[id]]
        whole = "" if call.arguments.text else _whole_input(event, call)
        if is_new:
            call.arguments.append(whole)
            return call.delta
        late = call.take_late(extras_in(event))
        return call.grow(whole, late) if whole or late else None

    def _note_output(self, event: ev.ToolOutputAvailable | ev.ToolOutputError) -> None:
        if event.tool_call_id in self._open:
            self._calls[self._open[event.tool_call_id]].is_answered = True


def _whole_input(event: ev.ToolInputAvailable | ev.ToolInputError, call: ChatToolCall) -> str:
    """The text of an input that came whole: a custom tool's is any text, and so are arguments that are not JSON."""
    if call.function == "custom":
        return custom_text(event.input)
    is_raw = isinstance(event, ev.ToolInputError) and isinstance(event.input, str)
    return event.input if is_raw else msgspec.json.encode(event.input).decode()


def _annotation(cited: Any, start: int, end: int) -> Json | None:
    """Rule 4: a citation in this wire's shape, in that of Responses, or in Anthropic's; None when it has no URL."""
    match cited:
        case {"type": "url_citation", "url_citation": _}:
            annotation: Json = cited
            return annotation
        case {"url": str(url), **rest}:
            title = rest.get("title")
            page = {"url": url, "title": title if isinstance(title, str) else ""}
            span = {"start_index": rest.get("start_index", start), "end_index": rest.get("end_index", end)}
            return {"type": "url_citation", "url_citation": {**span, **page}}
        case _:
            return None


_READERS: Final[Mapping[type, Callable[[ChatAttempt, Any], Delta | None]]] = {
    ev.TextStart: ChatAttempt._start_text,
    ev.TextDelta: ChatAttempt._grow,
    ev.TextEnd: ChatAttempt._end_text,
    ev.ReasoningDelta: ChatAttempt._grow,
    ev.ToolInputStart: ChatAttempt._start_call,
    ev.ToolInputDelta: ChatAttempt._grow_call,
    ev.ToolInputAvailable: ChatAttempt._end_call,
    ev.ToolInputError: ChatAttempt._end_call,
    ev.ToolOutputAvailable: ChatAttempt._note_output,
    ev.ToolOutputError: ChatAttempt._note_output,
}
