"""Reading a stream over connections that break: nothing lost, nothing twice, an honest end."""

from __future__ import annotations

import asyncio
import itertools
from contextlib import aclosing

import pytest

from broadcaster.client import (
    AsyncClient,
    BadAnswer,
    ClientError,
    EntryReceived,
    GapReceived,
    GaveUp,
    Notice,
    Reconnecting,
    StreamClosed,
    responses,
)
from broadcaster.core.cursor import START, Cursor
from broadcaster.core.entry import Entry
from broadcaster.core.events import Finish, TextDelta
from broadcaster.core.sse import encode_comment, encode_frame
from tests.client.conftest import EPOCH, STORY, as_log, entries_of, read
from tests.support.servers.sse_server import DEADLINE_S, Exchange, Plan, SseServer, frame

LOG = as_log(*STORY)
HELLO = encode_frame(b'{"id":"s","status":"running"}', event="hub.hello", retry_ms=1)


async def test_a_whole_stream_is_given_and_its_terminal_entry_is_the_end(server, client):
    received = await read(client)
    assert received[0] == Notice("hub.hello", {"id": "s", "status": "running"})
    assert entries_of(received) == LOG
    assert isinstance(received[-1], EntryReceived)
    assert received[-1].is_terminal
    assert "last-event-id" not in server.requests[0].headers


async def test_reading_after_a_cursor_gives_what_follows_it(server, client):
    assert entries_of(await read(client, LOG[2].cursor)) == LOG[3:]
    assert server.resumed_after == [LOG[2].cursor]


async def test_events_that_come_later_are_given_as_they_come(server, client):
    terminal = server.entries.pop()
    async with aclosing(client.events("s")) as events:
        async for event in events:
            if isinstance(event, EntryReceived) and event.cursor == LOG[-2].cursor:
                await server.append(terminal)
                assert entries_of([await anext(events)]) == [terminal]
                return
    pytest.fail("the stream ended before its last delta")


@pytest.mark.parametrize("clean", [True, False], ids=["clean end", "cut"])
@pytest.mark.parametrize("count", range(len(LOG)))
async def test_a_connection_that_ends_at_any_event_is_resumed_there(server, client, count, clean):
    server.plans.append(server.serve(stop_after=count, clean=clean))
    received = await read(client)
    assert entries_of(received) == LOG
    assert server.resumed_after == [START, LOG[count - 1].cursor if count else START]
    assert len([event for event in received if isinstance(event, Reconnecting)]) == 1


async def test_connections_that_all_end_after_one_event_still_give_the_whole(server, client):
    server.plans.extend(server.serve(stop_after=1, clean=bool(at % 2)) for at in range(len(LOG)))
    assert entries_of(await read(client)) == LOG
    assert server.resumed_after == [START, *(entry.cursor for entry in LOG[:-1])]


async def test_a_connection_cut_at_any_byte_loses_and_doubles_nothing(server, client):
    stream = HELLO + b"".join(map(frame, LOG))

    async def one(cut: int) -> list[Entry]:
        server.routes["GET", f"/v1/streams/{cut}/events"] = first_then(
            server.raw(stream[:cut], clean=False), server.serve()
        )
        async with aclosing(client.events(str(cut))) as events:
            return entries_of([event async for event in events])

    for answer in await asyncio.gather(*map(one, range(len(stream)))):
        assert answer == LOG


async def test_a_server_that_forgets_the_cursor_doubles_nothing(server, client):
    def from_the_start(count):
        return server.raw(HELLO + b"".join(map(frame, LOG[:count])))

    server.plans.extend(map(from_the_start, (2, 4, len(LOG))))
    assert entries_of(await read(client)) == LOG


@pytest.mark.parametrize("missing", range(len(LOG) - 1))
async def test_an_entry_that_is_missing_without_a_gap_is_requested_by_reconnecting(server, client, missing):
    server.plans.append(server.raw(HELLO + b"".join(map(frame, LOG[:missing] + LOG[missing + 1 :]))))
    assert entries_of(await read(client)) == LOG
    assert server.resumed_after[1:] == [LOG[missing - 1].cursor if missing else START]


async def test_another_answer_under_the_same_numbers_is_never_mixed_in_without_a_gap(server, client):
    fork = as_log(*STORY[1:], epoch=EPOCH + 1, first_seq=2)
    rewound = encode_frame(b'{"reason":"rewound","from":2,"to":3}', id=f"{EPOCH}-1", event="hub.gap")
    server.plans.append(server.raw(b"".join(map(frame, LOG[:3] + fork))))
    server.plans.append(server.raw(rewound + b"".join(map(frame, fork))))
    received = await read(client)
    assert server.resumed_after == [START, LOG[2].cursor]
    assert entries_of(received) == [*LOG[:3], *fork]
    assert received[3:5][-1] == GapReceived("rewound", Cursor(EPOCH, 1), 2, 3)


async def test_a_gap_is_given_and_the_next_connection_goes_on_behind_it(server, client):
    gap = encode_frame(b'{"reason":"trimmed","from":1,"to":3}', id=str(LOG[2].cursor), event="hub.gap")
    server.plans.append(server.raw(HELLO + gap))
    received = await read(client)
    assert GapReceived("trimmed", LOG[2].cursor, 1, 3) in received
    assert entries_of(received) == LOG[3:]
    assert server.resumed_after == [START, LOG[2].cursor]


async def test_notices_are_given_in_their_place(server, client):
    live = encode_frame(b"{}", event="hub.live")
    stalled = encode_frame(b'{"reason":"worker_lost"}', event="hub.stalled")
    server.plans.append(server.raw(frame(LOG[0]) + live + stalled + b"".join(map(frame, LOG[1:]))))
    received = await read(client)
    assert received[1:3] == [Notice("hub.live", {}), Notice("hub.stalled", {"reason": "worker_lost"})]


# ---------------------------------------------------------------------------------------------------- ends and refusals


async def test_no_content_is_the_end(server, client):
    async def no_content(exchange: Exchange) -> None:
        await exchange.answer(204)

    server.plans.append(no_content)
    assert await read(client, LOG[-1].cursor) == []


async def test_a_bye_that_wants_us_back_is_followed_by_another_connection(server, client):
    bye = encode_frame(b'{"reason":"drain","reconnect":true}', event="hub.bye")
    server.plans.append(server.raw(HELLO + frame(LOG[0]) + bye))
    received = await read(client)
    assert Notice("hub.bye", {"reason": "drain", "reconnect": True}) in received
    assert entries_of(received) == LOG


async def test_a_bye_for_good_is_an_error_that_knows_how_far_we_came(server, client):
    server.plans.append(
        server.raw(HELLO + frame(LOG[0]) + encode_frame(b'{"reason":"deleted","reconnect":false}', event="hub.bye"))
    )
    with pytest.raises(StreamClosed) as raised:
        await read(client)
    assert (raised.value.code, raised.value.cursor, raised.value.retry) == ("deleted", LOG[0].cursor, False)
    assert len(server.requests) == 1


@pytest.mark.parametrize(("status", "code"), [(404, "unknown_stream"), (400, "bad_cursor"), (403, "forbidden_host")])
async def test_a_refusal_is_raised_at_once_with_its_code(server, client, status, code):
    async def refuse(exchange: Exchange) -> None:
        await exchange.problem(status, code)

    server.plans.append(refuse)
    with pytest.raises(ClientError) as raised:
        await read(client)
    error = raised.value
    assert (error.code, error.status, error.detail, error.retry) == (code, status, f"it is {code}", False)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "body", [b"<html>", b"data: hello\n\n", b"id: 7-1\ndata: [DONE]\n\n"], ids=["html", "no id", "another dialect"]
)
async def test_a_stream_that_is_not_ours_is_refused_and_not_retried(server, client, body):
    content_type = "text/html" if body == b"<html>" else "text/event-stream"
    server.plans.append(server.raw(body, content_type=content_type))
    with pytest.raises(BadAnswer):
        await read(client)
    assert len(server.requests) == 1


# ------------------------------------------------------------------------------------------------------- bad times


@pytest.mark.parametrize("status", [500, 502, 503, 504, 429])
async def test_a_call_to_a_busy_server_is_retried(server, client, status):
    async def busy(exchange: Exchange) -> None:
        await exchange.problem(status, "log_unavailable", retry=True, **{"retry-after": "0"})

    async def proxy(exchange: Exchange) -> None:
        await exchange.answer(status, b"<html>", **{"retry-after": "0"})

    server.plans.extend([busy, server.serve(stop_after=2), busy, proxy])
    received = await read(client)
    assert entries_of(received) == LOG
    assert next(event.reason for event in received if isinstance(event, Reconnecting)) == "it is log_unavailable"


@pytest.mark.parametrize(("status", "error"), [(503, GaveUp), (404, BadAnswer)])
@pytest.mark.parametrize(
    ("size", "limit_s"), [(1, 0.1), (responses.MAX_ERROR_BYTES + 1, DEADLINE_S)], ids=["slow", "large"]
)
async def test_an_error_whose_body_does_not_end_is_given_up(server, monkeypatch, status, error, size, limit_s):
    monkeypatch.setattr(responses, "ERROR_BODY_S", limit_s)

    async def never_end(exchange: Exchange) -> None:
        await exchange.open_stream("text/html", status=status)
        await exchange.send(b"x" * size)
        await asyncio.Event().wait()

    server.plans.extend([never_end] * 100)
    async with AsyncClient(server.url, idle_timeout_s=DEADLINE_S, give_up_after_s=0.3) as client:
        async with asyncio.timeout(DEADLINE_S):
            with pytest.raises(error):
                await read(client)


async def test_a_front_end_that_restarts_costs_no_entry(server, client):
    server.plans.append(server.serve(stop_after=None))
    terminal = server.entries.pop()
    received = []
    async with aclosing(client.events("s")) as events:
        async for event in events:
            received.append(event)
            if isinstance(event, EntryReceived) and event.cursor == LOG[-2].cursor:
                await server.stop()
            if isinstance(event, Reconnecting):
                server.entries = [*LOG[:-1], terminal]
                await server.start()
    assert entries_of(received) == LOG


async def test_a_server_that_comes_up_late_is_found():
    async with SseServer(LOG) as server:
        await server.stop()
        async with AsyncClient(server.url, give_up_after_s=5) as client, aclosing(client.events("s")) as events:
            first = await anext(events)
            assert isinstance(first, Reconnecting)
            await server.start()
            assert entries_of([event async for event in events]) == LOG


async def test_a_connection_that_falls_silent_is_replaced(server):
    server.plans.append(server.raw(HELLO + frame(LOG[0]), hold=True))
    async with AsyncClient(server.url, idle_timeout_s=0.5, give_up_after_s=20) as client:
        assert entries_of(await read(client)) == LOG
    assert server.resumed_after == [START, LOG[0].cursor]


async def test_the_servers_retry_is_the_least_delay(server, client):
    hello = encode_frame(b"{}", event="hub.hello", retry_ms=30)
    server.plans.append(server.raw(hello))
    delays = [event.delay_s for event in await read(client) if isinstance(event, Reconnecting)]
    assert len(delays) == 1
    assert 0.03 <= delays[0] <= 0.045


@pytest.mark.parametrize("kind", ["refused", "unavailable", "accepted and closed"])
async def test_without_progress_it_gives_up_in_time_with_the_cursor_to_resume_from(server, kind):
    async def unavailable(exchange: Exchange) -> None:
        await exchange.problem(503, "log_unavailable", retry=True)

    server.plans.append(server.raw(HELLO + frame(LOG[0])))
    server.plans.extend(itertools.repeat(unavailable if kind == "unavailable" else server.raw(HELLO), 1000))
    async with asyncio.timeout(20), AsyncClient(server.url, give_up_after_s=0.3) as client:
        with pytest.raises(GaveUp) as raised:
            async with aclosing(client.events("s")) as events:
                async for event in events:
                    if kind == "refused" and isinstance(event, Reconnecting):
                        await server.stop()
    assert raised.value.cursor == LOG[0].cursor
    assert raised.value.retry


async def test_heartbeats_of_a_long_wait_are_progress(server):
    pulses = 12

    async def beat(exchange: Exchange) -> None:
        await exchange.open_stream()
        await exchange.send(HELLO)
        for _ in range(pulses):
            # The time between heartbeats is the matter of this test.
            await _pass(0.05)
            await exchange.send(encode_comment())
        await exchange.end()

    server.plans.append(beat)
    async with AsyncClient(server.url, give_up_after_s=0.4) as client:
        assert entries_of(await read(client)) == LOG


async def test_the_time_that_the_caller_takes_is_not_time_without_progress(server):
    server.plans.append(server.serve(stop_after=1))
    received = []
    async with AsyncClient(server.url, give_up_after_s=0.2) as client, aclosing(client.events("s")) as events:
        async for event in events:
            received.append(event)
            if len(entries_of(received)) == 1:
                await asyncio.wait_for(_pass(0.3), 5)
    assert entries_of(received) == LOG


async def test_a_reader_that_leaves_early_leaves_no_connection_behind(server, client):
    server.entries.pop()
    async with aclosing(client.events("s")) as events:
        async for event in events:
            if isinstance(event, EntryReceived):
                break
    await server.wait_for(lambda: server.left == 1)


async def test_many_readers_of_one_client_do_not_mix(server, client):
    async def one(after: Cursor) -> list[Entry]:
        return entries_of(await read(client, after))

    answers = await asyncio.gather(*(one(entry.cursor) for entry in LOG[:-1]))
    assert answers == [LOG[at:] for at in range(1, len(LOG))]


async def test_a_large_event_arrives_whole(server, client):
    server.entries[:] = as_log(TextDelta(id="0", delta="x" * 2_000_000), Finish())
    assert entries_of(await read(client)) == server.entries


def first_then(first: Plan, then: Plan) -> Plan:
    plans = itertools.chain([first], itertools.repeat(then))
    return lambda exchange: next(plans)(exchange)


async def _pass(seconds: float) -> None:
    """Let loop time pass: the passing of time is the matter of the test that calls this."""
    passed = asyncio.Event()
    asyncio.get_running_loop().call_later(seconds, passed.set)
    await passed.wait()
