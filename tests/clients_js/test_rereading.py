"""What a caller is given when the log loses more while ``watch`` reads a stream anew after a lost tail."""

from __future__ import annotations

import pytest

from broadcaster.core.entry import Entry
from broadcaster.core.events import Finish, TextDelta
from tests.client.conftest import EPOCH, as_log
from tests.clients_js.test_watching import cursors, entries_of, folded, follow, gap, gaps_of, notice
from tests.compat.node_clients import Driver
from tests.support.servers.sse_server import SseServer, frame

OLD = as_log(*(TextDelta(id="0", delta=f"{number} ") for number in range(1, 7)))


def new(first_seq: int) -> list[Entry]:
    """What a later attempt writes, from this number on."""
    return as_log(TextDelta(id="0", delta="new"), Finish(), epoch=EPOCH + 2, first_seq=first_seq)


def frames(entries: list[Entry]) -> bytes:
    return b"".join(frame(entry) for entry in entries)


def lose_tail(server: SseServer, then: bytes) -> None:
    """Of six entries the last two are lost; the connection that reads the stream anew brings ``then``."""
    server.entries = []
    server.plans.append(server.raw(server.snapshot() + frames(OLD) + gap("rewound", f"{EPOCH}-4", 5, 6), hold=True))
    server.plans.append(server.raw(then))


@pytest.mark.parametrize("reason", ["trimmed", "expired"])
async def test_what_left_the_log_while_it_is_read_anew_was_given_before_and_is_no_gap(
    driver: Driver, server: SseServer, reason: str
) -> None:
    rest = [*OLD[2:4], *new(5)]
    lose_tail(server, gap(reason, f"{EPOCH}-2", 1, 2) + frames(rest))
    result = await follow(driver, server)
    assert entries_of(result) == cursors([*OLD, *new(5)])
    assert gaps_of(result) == [("rewound", f"{EPOCH}-4")]
    assert result["state"] == folded(rest)


async def test_what_left_the_log_beyond_the_lost_tail_is_a_gap_after_it(driver: Driver, server: SseServer) -> None:
    lose_tail(server, gap("trimmed", f"{EPOCH + 2}-5", 1, 5) + frames(new(6)))
    result = await follow(driver, server)
    assert entries_of(result) == cursors([*OLD, *new(6)])
    assert gaps_of(result) == [("rewound", f"{EPOCH}-4"), ("trimmed", f"{EPOCH + 2}-5")]


@pytest.mark.parametrize("is_live", [True, False])
@pytest.mark.parametrize(("kept", "at"), [(2, f"{EPOCH}-2"), (0, "0-0")])
async def test_a_further_loss_moves_the_gap_back_to_what_is_left(
    driver: Driver, server: SseServer, is_live: bool, kept: int, at: str
) -> None:
    live = notice("hub.live") if is_live else b""
    lose_tail(server, frames(OLD[:kept]) + live + frames(new(kept + 1)))
    result = await follow(driver, server)
    assert entries_of(result) == cursors([*OLD, *new(kept + 1)])
    [lost] = [update for update in result["updates"] if update["kind"] == "gap"]
    assert (lost["reason"], lost["cursor"], lost["from"], lost["to"]) == ("rewound", at, kept + 1, 6)
    assert result["state"] == folded([*OLD[:kept], *new(kept + 1)])


@pytest.mark.parametrize("beyond", [0, 1])
async def test_a_reading_that_began_after_a_cursor_goes_on_after_the_gap_of_a_trimming_feed_that_was_made_anew(
    driver: Driver, server: SseServer, beyond: int
) -> None:
    server.entries = OLD
    anew = server.raw(gap("reset", f"{EPOCH + 2}-5") + frames(new(6)))
    if beyond:
        server.plans.append(server.serve(stop_after=beyond))
    server.plans.extend([anew] * 3)
    result = await follow(driver, server, after=f"{EPOCH}-2")
    assert gaps_of(result) == [("reset", f"{EPOCH + 2}-5")]
    assert entries_of(result) == [*cursors(OLD[2 : 2 + beyond]), *cursors(new(6))]
    assert result["state"] == folded(new(6))
    # At the cursor where it began there is nothing to read once more; beyond it there might be.
    assert len(server.requests) == 1 + 2 * beyond


@pytest.mark.parametrize("name", ["one", None], ids=["the same watch", "another watch"])
async def test_a_loop_that_ends_at_a_gap_leaves_the_entry_behind_it_to_the_next_loop(
    driver: Driver, server: SseServer, name: str | None
) -> None:
    lose_tail(server, frames(OLD[:4]) + frames(new(5)))
    server.entries = [*OLD[:4], *new(5)]
    first = await follow(driver, server, name=name or "first", until="gap")
    assert first["cursor"] == first["updates"][-1]["cursor"] == f"{EPOCH}-4"
    rest = await follow(driver, server, **({"name": "one"} if name else {"after": first["cursor"]}))
    assert entries_of(rest) == cursors(new(5))
    assert rest["state"]["text"].endswith("new")
