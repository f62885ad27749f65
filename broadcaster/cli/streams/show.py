"""``broadcaster show``: everything about one generation or feed, its text last."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from rich.table import Column

from broadcaster.cli.front_end_client import Id, Json, Plain, Url, Visit
from broadcaster.cli.terminal.formats import as_json, moment, number, span
from broadcaster.cli.terminal.screen import Screen
from broadcaster.client import AsyncClient, ClientError, Generation, StreamState
from broadcaster.core.requests.progress import progress_in

MAX_DISPLAY_CHARS: Final = 2000

# The labels of a provider's counts; other counts have their own names.
_COUNTS: Final = {
    "inputTokens": "in",
    "outputTokens": "out",
    "reasoningTokens": "of them reasoning",
    "cachedInputTokens": "read from its cache",
    "cacheWriteInputTokens": "written to its cache",
}
_INCOMPLETE: Final = ("content", "incomplete: its log has expired or was trimmed")
_NOT_COUNTS: Final = frozenset({"type", "estimated", "providerMetadata"})


def show(id: Id, plain: Plain = False, json: Json = False, url: Url = None) -> None:
    """Show everything about a generation (status, model, times, usage, error, tool calls, its answer), or a feed."""
    visit = Visit(url, is_plain=plain or json, stream=id)

    async def work(client: AsyncClient) -> None:
        state = await _fetch(client, id)
        if json:
            visit.screen.line(as_json(state))
        elif isinstance(state, StreamState):
            _show_facts(visit.screen, _feed_facts(state, now_s=time.time()))
            _show_texts(visit.screen, state, of="text")
        else:
            _show_facts(visit.screen, _facts(state, now_s=time.time()))
            _show_texts(visit.screen, state, of="answer")

    visit.run(work)


async def _fetch(client: AsyncClient, id: str) -> Generation | StreamState:
    """The generation, or else the feed, of this id."""
    try:
        return await client.get(id)
    except ClientError as unknown:
        if unknown.code != "unknown_stream":
            raise
        try:
            return await client.stream(id, parts=True)
        except ClientError as error:
            # A front-end of before feeds has no such path.
            raise (unknown if error.code == "not_found" else error) from None


def _feed_facts(state: StreamState, *, now_s: float) -> Iterator[tuple[str, str]]:
    yield state.kind, state.id
    yield "status", state.status
    for name, at in (("created", state.created_at), ("ended", state.ended_at)):
        if at is not None:
            yield name, moment(at, now_s=now_s)
    yield "events", f"{state.first_seq} to {state.last_seq}, the last is {state.last_id}" if state.last_id else "none"
    yield "viewers", str(state.viewers)
    if state.error is not None:
        yield "error", f"{state.error.code}: {state.error.message}"
    if state.usage is not None:
        yield "usage", _usage(state.usage)
    if state.metadata:
        yield "metadata", as_json(state.metadata)
    if state.truncated:
        yield _INCOMPLETE
    yield from _newest_parts(state.parts)


def _newest_parts(parts: Sequence[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    """The parts as facts; of each progress only its newest state, where it stood first."""
    newest: dict[object, tuple[str, str] | None] = {}
    for at, part in enumerate(parts):
        step = progress_in(part)
        if step is None:
            newest[at] = _part(part)
        else:
            newest[step.job, "progress"] = ("progress", step.line.removeprefix("progress").lstrip(": "))
    yield from filter(None, newest.values())


def _show_facts(screen: Screen, facts: Iterable[tuple[str, str]]) -> None:
    screen.table(facts, Column(style="bold", no_wrap=True), Column(overflow="fold"), has_header=False)


def _show_texts(screen: Screen, state: Generation | StreamState, *, of: str) -> None:
    for heading, text in (("reasoning", state.reasoning), (of, state.text)):
        if text:
            screen.line(f"\n{heading}:")
            screen.answer(text)
            screen.rest()


def _facts(state: Generation, *, now_s: float) -> Iterator[tuple[str, str]]:
    """Name and value of every known fact, the most important first."""
    yield "id", state.id
    yield "status", _status(state)
    if state.error is not None:
        yield "error", f"{state.error.code}: {state.error.message}"
    yield "model", state.model
    yield "attempt", str(state.attempt) if state.attempt else "none yet"
    yield from _times(state, now_s=now_s)
    yield "events", f"{state.last_seq}, the last is {state.last_id}" if state.last_id else "none yet"
    yield "viewers", str(state.viewers)
    if state.usage is not None:
        yield "usage", _usage(state.usage)
    if state.metadata:
        yield "metadata", as_json(state.metadata)
    if prompt := state.prompt or state.title:
        yield "prompt", _short(prompt)
    if state.truncated:
        yield _INCOMPLETE
    for part in state.parts:
        if line := _part(part):
            yield line


def _status(state: Generation) -> str:
    return f"{state.status}, stop requested" if state.stop_requested and not state.is_over else state.status


def _times(state: Generation, *, now_s: float) -> Iterator[tuple[str, str]]:
    if state.created_at is not None:
        yield "created", moment(state.created_at, now_s=now_s)
    if state.created_at is not None and state.started_at is not None:
        waited = span(state.started_at - state.created_at)
        yield "started", f"{moment(state.started_at, now_s=now_s)}, after {waited} in the queue"
    if state.ended_at is not None:
        ran = "" if state.started_at is None else f", it ran for {span(state.ended_at - state.started_at)}"
        yield "ended", f"{moment(state.ended_at, now_s=now_s)}{ran}"


def _usage(usage: dict[str, Any]) -> str:
    counts = [
        f"{count} {_COUNTS.get(name, name)}" for name, count in usage.items() if name not in _NOT_COUNTS and count
    ]
    return "tokens: " + (", ".join(counts) or "none") + (" (estimated)" if usage.get("estimated") else "")


def _part(part: dict[str, Any]) -> tuple[str, str] | None:
    """A part other than text and reasoning, as a fact; parts of a newer version have their own names."""
    match part:
        case {"type": "text" | "reasoning" | "step-start"}:
            return None
        case {"type": "tool"}:
            return "tool", _tool(part)
        case {"type": "source-url", "url": url}:
            return "source", " ".join(filter(None, (str(part.get("title") or ""), str(url))))
        case {"type": "source-document"}:
            return "source", str(part.get("title", ""))
        case {"type": "file", "url": url}:
            return "file", _short(f"{part.get('mediaType', '')} {url}")
        case _:
            kind = str(part.get("type", "part"))
            return kind.removeprefix("data-"), _short(as_json(part.get("data", part)))


def _tool(part: dict[str, Any]) -> str:
    """``get_weather {"city":"Paris"} → {"sky":"clear"}``, or the state that it has reached."""
    arguments = as_json(part["input"]) if "input" in part else str(part.get("rawInput", part.get("inputText", "")))
    call = f"{part.get('toolName', '?')} {_short(arguments)}"
    match part.get("state"):
        case "output-available":
            return f"{call} → {_short(as_json(part.get('output')))}"
        case "output-error":
            return f"{call} → failed: {_short(str(part.get('errorText', '')))}"
        case "input-streaming":
            return f"{call}…"
        case _:
            return call


def _short(text: str) -> str:
    return text if len(text) <= MAX_DISPLAY_CHARS else f"{text[:MAX_DISPLAY_CHARS]}… ({number(len(text), 'character')})"
