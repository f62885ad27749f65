"""What the real OpenAI SDK makes of the bytes of one Responses stream."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, Literal

import httpx2
import openai

from broadcaster.core import events as ev
from broadcaster.core.entry import Entry
from broadcaster.dialects.openai_responses.decode import OpenAIResponsesDecoder
from broadcaster.dialects.openai_responses.encode import RESPONSES, ResponsesDialect
from broadcaster.dialects.openai_responses.ids import provider_id
from tests.dialects.decoding import read_all
from tests.dialects.openai_responses.responses_wire import Json

STREAM = "gen_1"
CREATED_MS = 1_790_000_000_000


def response_of(entries: Sequence[Entry], *, dialect: ResponsesDialect = RESPONSES) -> Json:
    """The Response object that these entries amount to."""
    transcript = dialect.open(STREAM)
    transcript.encode(entries)
    return transcript.response()


@contextmanager
def served(raw: bytes) -> Iterator[openai.OpenAI]:
    """A client whose every request is answered with these bytes."""

    def answer(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=raw)

    with openai.OpenAI(
        api_key="any", http_client=openai.DefaultHttpxClient(transport=httpx2.MockTransport(answer)), max_retries=0
    ) as client:
        yield client


def raw_events(raw: bytes) -> list[Json]:
    """The events as the plain iterator yields them."""
    with served(raw) as client:
        stream = client.responses.create(model="m", input="Hi", stream=True)
        return [event.to_dict(warnings=False) for event in stream]


def final(raw: bytes, *, way: Literal["asked", "by id"] = "asked") -> Json:
    """The helper's final response, of a new request or of one that resumes by id."""
    with served(raw) as client:
        creating: Any = {"model": "m", "input": "Hi"} if way == "asked" else {"response_id": f"resp_{STREAM}"}
        with client.responses.stream(**creating) as stream:
            return stream.get_final_response().to_dict(warnings=False)


def folded(events: Sequence[Json]) -> Json:
    """What a client puts together from the deltas alone; the response as the last event that holds one has it."""
    items: dict[int, Json] = {}
    texts: dict[tuple[Any, ...], str] = {}
    ended: Json = {}
    for event in events:
        kind, at = event["type"], event.get("output_index", -1)
        if kind == "response.in_progress":
            items, texts = {}, {}
        elif kind == "response.output_item.added":
            assert at not in items
            items[at] = event["item"]
        elif kind == "response.output_item.done":
            items[at] = event["item"]
        elif kind.endswith(".delta"):
            place = (at, kind, event.get("content_index", event.get("summary_index", 0)))
            texts[place] = texts.get(place, "") + event["delta"]
        elif kind in ("response.completed", "response.incomplete", "response.failed"):
            ended = {"type": kind, **event["response"]}
    return {
        "items": [items[at] for at in sorted(items)],
        "texts": [texts[place] for place in sorted(texts)],
        "ended": ended,
    }


def entries_of(events: Sequence[ev.Event], *, first_seq: int = 1, epoch: int = CREATED_MS) -> list[Entry]:
    """Events as the entries of a log."""
    return [Entry(epoch, first_seq + at, ev.encode_event(event)) for at, event in enumerate(events)]


def entries_from(raw: bytes) -> list[Entry]:
    """A provider's bytes as the entries that a worker writes of them."""
    return entries_of(read_all(OpenAIResponsesDecoder(), raw).events)


_OURS = ("id", "created_at")
"""What is ours and not the provider's."""
_REQUEST = ("instructions", "tools", "tool_choice", "metadata", "text")
"""What repeats the request: it stays out of the log."""


_DEFAULTS: Final = {"service_tier": "default", "truncation": "disabled"}


def seen(response: Json) -> Json:
    """All that a client can see of a final response, but for what is ours, and what repeats the request.

    The wire has two forms of several things: nothing at all as null or by leaving it out, a default by its name or by
    leaving it out, no log probabilities as an empty list, no arguments as an empty text. A message without any content
    counts as none. Items are compared under their provider's ids: ours name the generation as well.
    """
    output = [item for item in response.get("output", []) if item["type"] != "message" or item.get("content")]
    output = [{**item, "id": provider_id(item["id"])} if "id" in item else item for item in output]
    response = {**response, "output": output}
    fields = {name: _plain(value) for name, value in response.items() if name not in (*_OURS, *_REQUEST)}
    unsaid: tuple[Any, ...] = (None, [], False, True)
    return {name: value for name, value in fields.items() if value not in unsaid and value != _DEFAULTS.get(name)}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        fields = {name: _plain(each) for name, each in value.items()}
        if fields.get("type") in ("function_call", "mcp_call") and not str(fields.get("arguments", "")).strip():
            fields["arguments"] = "{}"
        if fields.get("type") == "reasoning":
            fields["content"] = [part for part in fields.get("content") or [] if part.get("text")]
        return {name: each for name, each in fields.items() if each not in (None, [])}
    return [_plain(each) for each in value] if isinstance(value, list) else value
