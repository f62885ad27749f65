"""Events of the Responses wire, built the way the API sends them.

    answer(message(text("Hello ", "world")), call("get_weather", '{"city":', '"Paris"}'))

gives every event from ``response.created`` to ``response.completed``, items at their indexes. The single builders are
for streams that are wrong on purpose.

Source: the openai package's ``ResponseStreamEvent``.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

Json: TypeAlias = dict[str, Any]

USAGE = {
    "input_tokens": 25,
    "input_tokens_details": {"cached_tokens": 5, "cache_write_tokens": 0},
    "output_tokens": 12,
    "output_tokens_details": {"reasoning_tokens": 4},
    "total_tokens": 37,
}


def frame(event: Json) -> bytes:
    data = json.dumps(event, ensure_ascii=False, separators=(",", ":"))
    return f"event: {event['type']}\ndata: {data}\n\n".encode()


def numbered(events: Sequence[Json]) -> list[Json]:
    return [{**event, "sequence_number": number} for number, event in enumerate(events)]


def stream(*events: Json) -> bytes:
    """The events as they are on the wire: numbered from 0."""
    return b"".join(frame(event) for event in numbered(events))


def bare(*events: Json) -> bytes:
    """The events as some servers send them: without numbers, indexes, or the ids of content."""
    absent = ("output_index", "content_index", "summary_index")
    return b"".join(frame({name: value for name, value in event.items() if name not in absent}) for event in events)


# --------------------------------------------------------------------------------------------------------- the response


def response(status: str = "in_progress", **fields: Any) -> Json:
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1700000000,
        "model": "gpt-scripted",
        "status": status,
        "error": None,
        "incomplete_details": None,
        "instructions": "the secret system prompt",
        "tools": [{"type": "function", "name": "secret_tool"}],
        "tool_choice": "auto",
        "parallel_tool_calls": True,
        "output": [],
        "usage": None,
        **fields,
    }


def created(**fields: Any) -> Json:
    return {"type": "response.created", "response": response(**fields)}


def in_progress() -> Json:
    return {"type": "response.in_progress", "response": response()}


def completed(*output: Json, **fields: Any) -> Json:
    fields = {"usage": USAGE, "output": list(output), **fields}
    return {"type": "response.completed", "response": response("completed", **fields)}


def incomplete(reason: str | None = "max_output_tokens", *output: Json) -> Json:
    made = {"reason": reason} if reason is not None else None
    body = response("incomplete", usage=USAGE, output=list(output), incomplete_details=made)
    return {"type": "response.incomplete", "response": body}


def failed(code: str = "server_error", message: str = "secret words") -> Json:
    return {"type": "response.failed", "response": response("failed", error={"code": code, "message": message})}


def error(code: str = "server_error", message: str = "secret words") -> Json:
    return {"type": "error", "code": code, "message": message, "param": None}


# ------------------------------------------------------------------------------------------------------------ the items


@dataclass(frozen=True)
class Output:
    """One output item: as it is announced, what comes in between, and as it is when whole."""

    start: Json
    inner: Sequence[Json]
    item: Json

    def events(self, index: int) -> list[Json]:
        at = {"item_id": self.item["id"], "output_index": index}
        return [added(self.start, index), *({**at, **event} for event in self.inner), done(self.item, index)]


def added(item: Json, index: int = 0) -> Json:
    return {"type": "response.output_item.added", "output_index": index, "item": item}


def done(item: Json, index: int = 0) -> Json:
    return {"type": "response.output_item.done", "output_index": index, "item": item}


def text_delta(piece: str, *, item_id: str = "msg_1", index: int = 0, content_index: int = 0, **fields: Any) -> Json:
    at = {"item_id": item_id, "output_index": index, "content_index": content_index}
    return {"type": "response.output_text.delta", **at, "delta": piece, "logprobs": [], **fields}


def text(*pieces: str, annotations: Sequence[Json] = ()) -> tuple[Json, list[Json]]:
    """A content part and its events."""
    whole: Json = {"type": "output_text", "text": "".join(pieces), "annotations": list(annotations), "logprobs": []}
    made: list[Json] = [{"type": "response.output_text.delta", "delta": piece, "logprobs": []} for piece in pieces]
    made += [
        {"type": "response.output_text.annotation.added", "annotation_index": at, "annotation": annotation}
        for at, annotation in enumerate(annotations)
    ]
    made.append({"type": "response.output_text.done", "text": whole["text"], "logprobs": []})
    empty = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
    return whole, _around(empty, made, whole, kind="content_part")


def refusal(*pieces: str) -> tuple[Json, list[Json]]:
    whole = {"type": "refusal", "refusal": "".join(pieces)}
    made = [{"type": "response.refusal.delta", "delta": piece} for piece in pieces]
    made.append({"type": "response.refusal.done", "refusal": whole["refusal"]})
    return whole, _around({"type": "refusal", "refusal": ""}, made, whole, kind="content_part")


def _around(empty: Json, made: list[Json], whole: Json, *, kind: str) -> list[Json]:
    opening, closing = f"response.{kind}.added", f"response.{kind}.done"
    return [{"type": opening, "part": empty}, *made, {"type": closing, "part": whole}]


def message(*parts: tuple[Json, list[Json]], id: str = "msg_1", **fields: Any) -> Output:
    whole = {"id": id, "type": "message", "role": "assistant", "status": "completed", **fields}
    made = [{**event, "content_index": at} for at, (_, events) in enumerate(parts) for event in events]
    start = {**whole, "status": "in_progress", "content": []}
    return Output(start, made, {**whole, "content": [part for part, _ in parts]})


def reasoning(
    *summaries: Sequence[str], texts: Sequence[Sequence[str]] = (), id: str = "rs_1", encrypted: str | None = None
) -> Output:
    """Reasoning: each summary, and each text of its content, as its pieces."""
    made: list[Json] = []
    whole: Json = {"id": id, "type": "reasoning", "summary": []}
    for at, pieces in enumerate(summaries):
        part = {"type": "summary_text", "text": "".join(pieces)}
        whole["summary"].append(part)
        deltas: list[Json] = [{"type": "response.reasoning_summary_text.delta", "delta": piece} for piece in pieces]
        deltas.append({"type": "response.reasoning_summary_text.done", "text": part["text"]})
        events = _around({"type": "summary_text", "text": ""}, deltas, part, kind="reasoning_summary_part")
        made += [{**event, "summary_index": at} for event in events]
    for at, pieces in enumerate(texts):
        part = {"type": "reasoning_text", "text": "".join(pieces)}
        whole.setdefault("content", []).append(part)
        deltas = [{"type": "response.reasoning_text.delta", "delta": piece} for piece in pieces]
        deltas.append({"type": "response.reasoning_text.done", "text": part["text"]})
        events = _around({"type": "reasoning_text", "text": ""}, deltas, part, kind="content_part")
        made += [{**event, "content_index": at} for event in events]
    if encrypted is not None:
        whole["encrypted_content"] = encrypted
    return Output({"id": id, "type": "reasoning", "summary": []}, made, whole)


_INPUTS = {
    "function_call": ("function_call_arguments", "arguments"),
    "custom_tool_call": ("custom_tool_call_input", "input"),
    "mcp_call": ("mcp_call_arguments", "arguments"),
    "code_interpreter_call": ("code_interpreter_call_code", "code"),
}


def call(
    name: str, *pieces: str, id: str = "fc_1", type: str = "function_call", call_id: str = "call_1", **end: Any
) -> Output:
    """A call whose input streams; further fields are those of the finished item."""
    family, field = _INPUTS[type]
    whole: Json = {"id": id, "type": type, field: "".join(pieces), "status": "completed"}
    if name:
        whole["name"] = name
    if type in ("function_call", "custom_tool_call"):
        whole["call_id"] = call_id
    made: list[Json] = [{"type": f"response.{family}.delta", "delta": piece} for piece in pieces]
    made.append({"type": f"response.{family}.done", field: whole[field]})
    start = {**whole, field: "", "status": "in_progress"}
    return Output(start, made, {**whole, **end})


def provider_run(type: str, *progress: str, id: str = "tool_1", **end: Any) -> Output:
    """A tool that the provider runs: whole with its item's end."""
    made = [{"type": f"response.{type}.{step}"} for step in progress]
    whole = {"id": id, "type": type, "status": "completed", **end}
    return Output({"id": id, "type": type, "status": "in_progress"}, made, whole)


def answer(*outputs: Output, end: Json | None = None) -> list[Json]:
    """A whole answer, from ``response.created`` to ``response.completed``."""
    events = [created(), in_progress()]
    for index, output in enumerate(outputs):
        events += output.events(index)
    return [*events, end or completed(*(output.item for output in outputs))]


def url_citation(url: str, title: str = "A page") -> Json:
    return {"type": "url_citation", "url": url, "title": title, "start_index": 0, "end_index": 3}


FILE_CITATION = {"type": "file_citation", "file_id": "file_1", "filename": "a.pdf", "index": 3}
COMPACTION = {"id": "cmp_1", "type": "compaction", "encrypted_content": "eA=="}
HOLOGRAM: tuple[Json, list[Json]] = (
    {"type": "hologram", "size": 3},
    _around({"type": "hologram"}, [], {"type": "hologram", "size": 3}, kind="content_part"),
)
