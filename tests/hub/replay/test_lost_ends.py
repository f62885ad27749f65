"""The log goes before the hub has read the rest of an answer: only the terminal event is left, in the meta."""

from __future__ import annotations

import pytest

from broadcaster.core import events as ev
from broadcaster.core.cursor import Cursor
from broadcaster.core.entry import Entry
from broadcaster.core.notices import Gap, GapReason
from broadcaster.dialects import Dialect
from broadcaster.dialects.ag_ui.encode import AgUiDialect
from broadcaster.dialects.ai_sdk.encode import AiSdkDialect
from broadcaster.dialects.tutorial.delta import DeltaDialect
from broadcaster.dialects.tutorial.named import NamedDialect
from broadcaster.dialects.tutorial.parts import PartsDialect
from broadcaster.hub.hub import Hub
from broadcaster.hub.stop_reasons import StopReason
from tests.dialects.ai_sdk.ai_sdk_packages import read_by_package
from tests.hub.replay.test_lost_attempts import body_of, read_on_socket
from tests.support.memory.fake_tail import FakeTail

TORN: list[ev.Event] = [ev.Start(), ev.StartStep(), ev.TextDelta(id="0", delta="Take 10 mg, but ")]
REST_SEQ = 60
ENDS = (b'"type":"finish"', b"RUN_FINISHED", b"[DONE]", b"event: complete")

pytestmark = pytest.mark.usefixtures("unpaced")

every_dialect = pytest.mark.parametrize(
    "dialect",
    [AiSdkDialect(), AiSdkDialect(version=7), AgUiDialect(), DeltaDialect(), NamedDialect(), PartsDialect()],
    ids=lambda dialect: dialect.name,
)


async def what_is_sent(hub: Hub, tail: FakeTail, dialect: Dialect, *left: ev.Event) -> tuple[bytes, StopReason | None]:
    """To a viewer that has the torn text when all but these last events is gone."""
    reader = await read_on_socket(hub, dialect)
    tail.append("g", *(Entry(5, seq, ev.encode_event(event)) for seq, event in enumerate(TORN, 1)))
    assert b"Take 10 mg" in await body_of(reader)
    tail.fast_paths["g"].close()
    tail.sinks["g"].gap(Gap(GapReason.TRIMMED, Cursor(5, REST_SEQ), len(TORN) + 1, REST_SEQ))
    tail.sinks["g"].deliver([Entry(5, seq, ev.encode_event(event)) for seq, event in enumerate(left, REST_SEQ + 1)])
    body = await body_of(reader)
    reader.close()
    return body, reader.viewer.stop_reason


@every_dialect
async def test_a_torn_answer_does_not_end_as_a_whole_one(hub: Hub, tail: FakeTail, dialect: Dialect) -> None:
    body, reason = await what_is_sent(hub, tail, dialect, ev.Finish(finish_reason="stop"))
    assert [end for end in ENDS if end in body] == []
    assert reason is StopReason.EXPIRED
    assert b"expired" in body


@every_dialect
async def test_an_error_that_is_left_is_sent_with_the_gap_before_it(hub: Hub, tail: FakeTail, dialect: Dialect) -> None:
    body, reason = await what_is_sent(hub, tail, dialect, ev.Error(error_text="no more", code="worker_lost"))
    assert b"no more" in body
    assert b"gap" in body
    assert reason is StopReason.TERMINAL


@every_dialect
async def test_a_rest_that_is_left_is_sent_with_the_gap_before_it(hub: Hub, tail: FakeTail, dialect: Dialect) -> None:
    body, reason = await what_is_sent(hub, tail, dialect, ev.TextDelta(id="0", delta="alcohol."), ev.Finish())
    assert b"alcohol." in body
    assert b"gap" in body
    assert reason is StopReason.TERMINAL


@pytest.mark.parametrize("version", [6, 7])
async def test_a_page_with_a_torn_answer_shows_an_error(hub: Hub, tail: FakeTail, version: int) -> None:
    body, _ = await what_is_sent(hub, tail, AiSdkDialect(), ev.Finish(finish_reason="stop"))
    (page,) = read_by_package(version, [[body]])
    assert (page["status"], "cannot be had" in page["error"]) == ("error", True)
