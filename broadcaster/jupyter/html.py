"""What a notebook shows of a stream: HTML for the page, and plain text for what shows no HTML. Pure.

Every text of the stream is escaped: a model's answer must not run scripts in the notebook.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from typing import Any, Final

import msgspec

from broadcaster.core.fold import FoldState
from broadcaster.core.requests.progress import JobProgress, progress_in
from broadcaster.core.status import Status

# Of data parts without a progress; earlier ones are counted.
MOST_DATA_PARTS: Final = 20
_PRE: Final = "white-space:pre-wrap;word-break:break-word;margin:0.3em 0"
_MARKS: Final = {
    Status.QUEUED: "waiting",
    Status.RUNNING: "running",
    Status.FINISHED: "finished",
    Status.FAILED: "failed",
    Status.ABORTED: "stopped",
}


@dataclass(frozen=True, slots=True)
class Drawing:
    """A state, with what the reader adds; ``is_whole``: no entry of it is missing."""

    state: FoldState
    note: str
    is_whole: bool


def drawn_html(drawing: Drawing) -> str:
    """The output for a page."""
    state = drawing.state
    bars = [_bar(job, step) for job, step in _steps(state).items()]
    parts = "".join([*bars, *_parts(state)])
    status = f'<div style="opacity:0.7">{escape(_status(drawing))}</div>'
    # These classes keep MathJax away: a text with two prices is no formula.
    return f'<div class="broadcaster tex2jax_ignore mathjax_ignore">{parts}{status}</div>'


def drawn_text(drawing: Drawing) -> str:
    """The output for a terminal, and for a file."""
    steps = _steps(drawing.state).items()
    bars = [f"{job or 'progress'}: {step.percent}% {step.message}".rstrip() for job, step in steps]
    return "\n".join(each for each in [*bars, drawing.state.text, _status(drawing)] if each)


def _status(drawing: Drawing) -> str:
    state = drawing.state
    facts = [_MARKS[state.status]]
    if state.attempt > 1:
        facts.append(f"attempt {state.attempt}")
    if state.error is not None:
        facts.append(f"{state.error['code']}: {state.error['message']}")
    if state.abort_reason is not None:
        facts.append(state.abort_reason)
    if not drawing.is_whole:
        facts.append("some events are missing: they have expired")
    return " · ".join([*facts, drawing.note] if drawing.note else facts)


def _parts(state: FoldState) -> Iterator[str]:
    data = [part for part in state.parts if _is_data(part)]
    hidden = len(data) - MOST_DATA_PARTS
    if hidden > 0:
        yield f"<div>{hidden} earlier data parts</div>"
    shown = {id(part) for part in data[-MOST_DATA_PARTS:]}
    for part in state.parts:
        match part:
            case {"type": "text", "text": str(text)}:
                yield f'<div style="{_PRE}">{escape(text)}</div>'
            case {"type": "reasoning", "text": str(text)} if text:
                yield _folded("reasoning", text, is_open=part["state"] == "streaming" and not state.text)
            case {"type": "tool"}:
                yield _tool(part)
            case {"type": "source-url", "url": str(url)}:
                yield _source(url, part.get("title") or url)
            case _ if id(part) in shown:
                yield _folded(part["type"], _as_json(part["data"]))


def _tool(part: dict[str, Any]) -> str:
    call = part["input"] if "input" in part else part.get("rawInput", part.get("inputText", ""))
    lines = [_as_json(call)]
    if "output" in part:
        lines.append(_as_json(part["output"]))
    if "errorText" in part:
        lines.append(part["errorText"])
    return _folded(f"{part.get('toolName', 'tool')} ({part['state'].replace('-', ' ')})", "\n".join(lines))


def _source(url: str, title: str) -> str:
    if not url.startswith(("https://", "http://")):  # a link may hold a script
        return f"<div>{escape(title)}</div>"
    return f'<div><a href="{escape(url)}" rel="noreferrer noopener" target="_blank">{escape(title)}</a></div>'


def _folded(title: str, text: str, *, is_open: bool = False) -> str:
    mark = " open" if is_open else ""
    return f'<details{mark}><summary>{escape(title)}</summary><div style="{_PRE}">{escape(text)}</div></details>'


def _bar(job: str, step: JobProgress) -> str:
    label = escape(" ".join(each for each in (job, step.message) if each) or "progress")
    bar = f'<progress max="{step.total:g}" value="{step.done:g}" aria-label="{label}"></progress>'
    return f"<div>{bar} {step.percent}% {label}</div>"


def _steps(state: FoldState) -> dict[str, JobProgress]:
    steps: dict[str, JobProgress] = {}
    for part in state.parts:
        if (step := progress_in(part)) is not None:
            steps[step.job] = step
    return steps


def _is_data(part: dict[str, Any]) -> bool:
    return part["type"].startswith("data-") and progress_in(part) is None


def _as_json(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.format(msgspec.json.encode(value), indent=1).decode()
