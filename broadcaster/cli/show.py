"""``broadcaster show``: everything that is known of one generation, its answer last."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Any, Final

import typer
from rich.table import Table
from rich.text import Text

from broadcaster.cli.failures import ExitCode
from broadcaster.cli.screen import Screen, harmless
from broadcaster.cli.visit import Id, Json, Url, Visit
from broadcaster.cli.words import as_json, moment, number, span
from broadcaster.client import AsyncClient, ClientError, Generation, StreamState

MAX_SHOWN_CHARS: Final = 2000

# What a provider counts, in our words; other counts are shown by their own names.
_COUNTS: Final = {
    "inputTokens": "in",
    "outputTokens": "out",
    "reasoningTokens": "of them reasoning",
    "cachedInputTokens": "read from its cache",
    "cacheWriteInputTokens": "written to its cache",
}
_NOT_COUNTS: Final = frozenset({"type", "estimated", "providerMetadata"})


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(show)


def show(id: Id, json: Json = False, url: Url = None) -> None:
    """Show everything about a generation (status, model, times, usage, error, tool calls, its answer), or a feed."""
    visit = Visit(url)

    async def work(client: AsyncClient) -> ExitCode:
        shown = await _look(client, id)
        if json:
            visit.screen.line(as_json(shown))
        elif isinstance(shown, StreamState):
            visit.screen.table(_table(_feed_facts(shown, now_s=time.time())))
        else:
            _show(visit.screen, shown, now_s=time.time())
        return ExitCode.OK

    visit.run(work)


async def _look(client: AsyncClient, id: str) -> Generation | StreamState:
    """The generation, or else the feed, of this id."""
    try:
        return await client.get(id)
    except ClientError as unknown:
        if unknown.code != "unknown_stream":
            raise
        try:
            return await client.stream(id)
        except ClientError as error:
            # A front-end of before feeds has no such path.
            raise (unknown if error.code == "not_found" else error) from None


def _table(facts: Iterable[tuple[str, str]]) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts:
        table.add_row(name, Text(harmless(value)))
    return table


def _feed_facts(shown: StreamState, *, now_s: float) -> Iterator[tuple[str, str]]:
    yield shown.kind, shown.id
    yield "status", shown.status
    for name, at in (("created", shown.created_at), ("ended", shown.ended_at)):
        if at is not None:
            yield name, moment(at, now_s=now_s)
    yield "events", f"{shown.first_seq} to {shown.last_seq}, the last is {shown.last_id}" if shown.last_id else "none"
    yield "viewers", str(shown.viewers)
    if shown.metadata:
        yield "metadata", as_json(shown.metadata)


def _show(screen: Screen, shown: Generation, *, now_s: float) -> None:
    screen.table(_table(_facts(shown, now_s=now_s)))
    for heading, text in (("reasoning", shown.reasoning), ("answer", shown.text)):
        if text:
            screen.line(f"\n{heading}:")
            screen.answer(text)
            screen.rest()


def _facts(shown: Generation, *, now_s: float) -> Iterator[tuple[str, str]]:
    """Name and value of every fact there is, in the order of a person's questions."""
    yield "id", shown.id
    yield "status", _status(shown)
    if shown.error is not None:
        yield "error", f"{shown.error.code}: {shown.error.message}"
    yield "model", shown.model
    yield "attempt", str(shown.attempt) if shown.attempt else "none yet"
    yield from _times(shown, now_s=now_s)
    yield "events", f"{shown.last_seq}, the last is {shown.last_id}" if shown.last_id else "none yet"
    yield "viewers", str(shown.viewers)
    if shown.usage is not None:
        yield "usage", _usage(shown.usage)
    if shown.metadata:
        yield "metadata", as_json(shown.metadata)
    if prompt := shown.prompt or shown.title:
        yield "prompt", _short(prompt)
    for part in shown.parts:
        if line := _part(part):
            yield line


def _status(shown: Generation) -> str:
    return f"{shown.status}, a stop is asked for" if shown.stop_requested and not shown.is_over else shown.status


def _times(shown: Generation, *, now_s: float) -> Iterator[tuple[str, str]]:
    if shown.created_at is not None:
        yield "created", moment(shown.created_at, now_s=now_s)
    if shown.created_at is not None and shown.started_at is not None:
        waited = span(shown.started_at - shown.created_at)
        yield "started", f"{moment(shown.started_at, now_s=now_s)}, after {waited} in the queue"
    if shown.ended_at is not None:
        ran = "" if shown.started_at is None else f", it ran for {span(shown.ended_at - shown.started_at)}"
        yield "ended", f"{moment(shown.ended_at, now_s=now_s)}{ran}"


def _usage(usage: dict[str, Any]) -> str:
    counts = [
        f"{count} {_COUNTS.get(name, name)}" for name, count in usage.items() if name not in _NOT_COUNTS and count
    ]
    return "tokens: " + (", ".join(counts) or "none") + (" (estimated)" if usage.get("estimated") else "")


def _part(part: dict[str, Any]) -> tuple[str, str] | None:
    """A part that is neither text nor reasoning, as a fact; parts of a newer version by their own names."""
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
    """``get_weather {"city":"Paris"} → {"sky":"clear"}``, or how far it has come."""
    asked = as_json(part["input"]) if "input" in part else str(part.get("rawInput", part.get("inputText", "")))
    call = f"{part.get('toolName', '?')} {_short(asked)}"
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
    return text if len(text) <= MAX_SHOWN_CHARS else f"{text[:MAX_SHOWN_CHARS]}… ({number(len(text), 'character')})"
