"""An ``attempt`` before any content: Redis may have lost what was written before it. It has no frames."""

from __future__ import annotations

import re

import pytest

from broadcaster.core import events as ev
from broadcaster.core.entry import Entry
from broadcaster.core.fold import Fold
from broadcaster.dialects import DIALECTS, Dialect
from broadcaster.dialects.ai_sdk.encode import AiSdkDialect
from broadcaster.dialects.openai_responses.encode import ResponsesDialect
from broadcaster.dialects.passed.encode import PassedDialect

LOST = ev.Attempt(attempt=1, reason="log_lost")
ANSWER: list[ev.KnownEvent] = [
    *(ev.Start(message_metadata={"model": "m"}), ev.StartStep()),
    *(ev.TextStart(id="0"), ev.TextDelta(id="0", delta="Hi")),
    *(ev.TextEnd(id="0"), ev.FinishStep(finish_reason="stop"), ev.Finish(finish_reason="stop")),
]
SERVED: dict[str, Dialect] = {
    **{name: dialect for name, dialect in DIALECTS.items() if name != "native"},
    "ai-sdk without ids": AiSdkDialect(),
    "a response in the foreground": ResponsesDialect(restarts=False),
    "passed": PassedDialect(),
}
VARYING = re.compile(rb'"sequence_number":\d+|gen_a(-a\d)?|\d+-\d+')
"""Numbers, cursors, and ids of a run's attempt."""


def entries(*events: ev.KnownEvent) -> list[Entry]:
    return [Entry(1_795_000_000_000, seq, ev.encode_event(event)) for seq, event in enumerate(events, 1)]


@pytest.mark.parametrize("dialect", SERVED.values(), ids=SERVED)
def test_an_attempt_before_any_content_has_no_frames_and_changes_none(dialect: Dialect) -> None:
    first, *rest = entries(LOST, *ANSWER)
    transcript = dialect.open("gen_a")
    assert transcript.encode([first]) == b""
    assert not transcript.breaks_off
    assert VARYING.sub(b"", transcript.encode(rest)) == VARYING.sub(b"", dialect.open("gen_a").encode(entries(*ANSWER)))


def test_it_is_the_first_attempt_to_those_who_fold() -> None:
    fold = Fold()
    for entry in entries(LOST, *ANSWER):
        fold.apply(entry.event)
    assert (fold.state.attempt, fold.state.text, fold.state.status) == (1, "Hi", "finished")
