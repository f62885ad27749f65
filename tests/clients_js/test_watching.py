"""``watch`` of the JavaScript client under each runtime, against a server that fails in the ways that front-ends do."""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import asdict
from typing import Any

import msgspec
import pytest

from broadcaster.core.entry import Entry
from broadcaster.core.events import Attempt, Finish, Start, TextDelta, TextEnd, TextStart
from broadcaster.core.fold import Fold
from broadcaster.core.sse import encode_frame
from tests.client.conftest import EPOCH, as_log
from tests.clients_js.runtimes import runtime_params
from tests.compat.node_clients import Driver, JobFailed
from tests.support.servers.sse_server import Exchange, Plan, SseServer, frame

TEXT = "Héllo\u2028"
# Bun drops the bytes that came just before a connection broke, so that their entries are read once more.
exact = pytest.mark.parametrize("driver", runtime_params(without=("bun",)), indirect=True)
REFUSALS = [(404, "unknown_stream"), (403, "forbidden"), (410, "gone"), (400, "bad_cursor")]


def events_url(server: SseServer) -> str:
    return f"{server.url}/v1/streams/s/events"


async def follow(driver: Driver, server: SseServer, **options: Any) -> dict[str, Any]:
    return await driver.request("follow", **{"url": events_url(server), **options})


def entries_of(result: dict[str, Any]) -> list[str]:
    return [update["cursor"] for update in result["updates"] if update["kind"] == "entry"]


def gaps_of(result: dict[str, Any]) -> list[tuple[str, str]]:
    return [(update["reason"], update["cursor"]) for update in result["updates"] if update["kind"] == "gap"]


def cursors(entries: list[Entry]) -> list[str]:
    return [str(entry.cursor) for entry in entries]


def folded(entries: list[Entry]) -> dict[str, Any]:
    fold = Fold()
    for entry in entries:
        fold.apply(entry.event)
    state = msgspec.to_builtins(asdict(fold.state))
    return {re.sub("_(.)", lambda found: found[1].upper(), name): value for name, value in state.items()}


def gap(reason: str, cursor: str, first: int = 0, last: int = 0) -> bytes:
    fields = json.dumps({"reason": reason, "from": first, "to": last}).encode()
    return encode_frame(fields, id=cursor, event="hub.gap")


def notice(name: str, **fields: Any) -> bytes:
    return encode_frame(json.dumps(fields).encode(), event=name)


def refusal(status: int, code: str, *, retry: bool = False, **headers: str) -> Plan:
    async def plan(exchange: Exchange) -> None:
        await exchange.problem(status, code, retry=retry, **headers)

    return plan


def status(number: int, **headers: str) -> Plan:
    async def plan(exchange: Exchange) -> None:
        await exchange.answer(number, b"", **headers)

    return plan


def keyed(server: SseServer, good: str, *, code: str = "token_expired") -> Plan:
    """Refuses every token but one."""

    async def plan(exchange: Exchange) -> None:
        if exchange.request.headers.get("authorization") == f"Bearer {good}":
            await server.serve()(exchange)
        else:
            await exchange.problem(401, code)

    return plan


async def test_a_stream_is_given_in_order_and_its_state_is_the_servers_fold(driver: Driver, server: SseServer) -> None:
    result = await follow(driver, server)
    assert entries_of(result) == cursors(server.entries)
    assert result["state"] == folded(server.entries)
    assert (result["isOver"], result["connection"], result["failure"]) == (True, "ended", None)


async def test_a_state_that_was_given_is_never_changed(driver: Driver, server: SseServer) -> None:
    assert await driver.request("snapshots", url=events_url(server)) == {"changed": 0}


@exact
@pytest.mark.parametrize("clean", [True, False])
async def test_broken_connections_are_resumed_after_the_last_entry(
    driver: Driver, server: SseServer, clean: bool
) -> None:
    server.plans.extend([server.serve(stop_after=2, clean=clean), server.serve(stop_after=1, clean=clean)])
    result = await follow(driver, server)
    assert entries_of(result) == cursors(server.entries)
    assert [str(cursor) for cursor in server.resumed_after] == ["0-0", f"{EPOCH}-2", f"{EPOCH}-3"]
    assert result["state"]["text"] == TEXT


async def test_over_broken_connections_each_entry_is_given_once(driver: Driver, server: SseServer) -> None:
    server.plans.extend([server.serve(stop_after=3, clean=False)] * 3)
    result = await follow(driver, server)
    assert entries_of(result) == cursors(server.entries)
    assert result["state"] == folded(server.entries)


@exact
async def test_doubles_are_dropped_and_a_hole_without_a_gap_is_read_anew(driver: Driver, server: SseServer) -> None:
    first, second, third, *_ = (frame(entry) for entry in server.entries)
    server.plans.append(server.raw(first + second + first + second + third[:9], clean=False))
    server.plans.append(server.raw(frame(server.entries[4]), hold=True))
    result = await follow(driver, server)
    assert entries_of(result) == cursors(server.entries)
    reasons = [update["reason"] for update in result["updates"] if update.get("name") == "reconnecting"]
    assert ["cannot follow" in reason for reason in reasons] == [False, True]
    assert reasons[1] == f"{EPOCH}-5 cannot follow {EPOCH}-2"


@pytest.mark.parametrize("number", [503, 429])
async def test_a_busy_server_is_not_called_before_its_delay_is_over(
    driver: Driver, server: SseServer, number: int
) -> None:
    server.plans.append(status(number, **{"retry-after": "1"}))
    result = await follow(driver, server)
    [pause] = [update for update in result["updates"] if update.get("name") == "reconnecting"]
    assert 1000 <= pause["delayMs"] <= 1500
    assert result["state"]["text"] == TEXT


async def test_a_delay_that_a_busy_server_requires_holds_for_one_connection(driver: Driver, server: SseServer) -> None:
    server.plans.extend([status(503, **{"retry-after": "1"}), server.raw(b":\n\n")])
    result = await follow(driver, server)
    first, second = [update["delayMs"] for update in result["updates"] if update.get("name") == "reconnecting"]
    assert second < 1000 <= first


async def test_a_delay_is_at_most_five_minutes(driver: Driver, server: SseServer) -> None:
    server.plans.append(server.raw(b"retry: 99999999999\n\n"))
    result = await follow(driver, server, abort_ms=2000)
    [pause] = [update for update in result["updates"] if update.get("name") == "reconnecting"]
    assert 300_000 <= pause["delayMs"] <= 300_500


@pytest.mark.parametrize(("number", "code"), REFUSALS)
async def test_a_refusal_ends_the_reading_with_its_code(
    driver: Driver, server: SseServer, number: int, code: str
) -> None:
    server.plans.extend([server.serve(stop_after=1), refusal(number, code)])
    result = await follow(driver, server)
    assert (result["failure"]["code"], result["failure"]["status"]) == (code, number)
    assert result["failure"]["cursor"] == cursors(server.entries)[0]
    assert result["failure"]["message"] == f"{code}: it is {code}"
    assert result["connection"] == "closed"
    assert entries_of(result) == cursors(server.entries[:1])


async def test_a_refusal_whose_body_does_not_come_is_tried_once_more(driver: Driver, server: SseServer) -> None:
    async def hang(exchange: Exchange) -> None:
        await exchange.answer(404, b"", **{"content-length": "9"})
        await asyncio.Event().wait()

    server.plans.append(hang)
    assert (await follow(driver, server, idleTimeoutMs=200))["state"]["text"] == TEXT


async def test_204_is_the_end(driver: Driver, server: SseServer) -> None:
    server.plans.append(status(204))
    result = await follow(driver, server, after=f"{EPOCH}-6")
    assert (result["isOver"], result["failure"], entries_of(result)) == (True, None, [])


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (("data: {}\n\n", "text/html"), "text/html, not an event stream"),
        (("data: {\n\n", "text/event-stream"), "not JSON"),
        (("id: 7-1\ndata: {}\n\n", "text/event-stream"), "without a type"),
        (('data: {"type": "start"}\n\n', "text/event-stream"), 'its id is ""'),
        (("event: hub.snapshot\ndata: {}\n\n", "text/event-stream"), "replay=snapshot"),
    ],
)
async def test_a_server_that_is_not_a_front_end_is_reported(
    driver: Driver, server: SseServer, plan: tuple[str, str], message: str
) -> None:
    server.plans.append(server.raw(plan[0].encode(), content_type=plan[1]))
    failure = (await follow(driver, server))["failure"]
    assert (failure["name"], failure["code"]) == ("BroadcasterError", "bad_answer")
    assert message in failure["message"]


async def test_a_server_that_comes_back_is_read_on(driver: Driver, server: SseServer) -> None:
    server.plans.append(server.serve(stop_after=3))
    server.plans.append(server.raw(b"", hold=True))
    following = asyncio.create_task(follow(driver, server))
    await server.wait_for(lambda: len(server.requests) == 2)
    await server.stop()
    await server.start()
    assert entries_of(await following) == cursors(server.entries)


async def test_a_silent_connection_is_replaced(driver: Driver, server: SseServer) -> None:
    server.plans.append(server.raw(frame(server.entries[0]), hold=True))
    result = await follow(driver, server, idleTimeoutMs=200)
    assert entries_of(result) == cursors(server.entries)
    assert "nothing came for 200 ms" in [update.get("reason") for update in result["updates"]]


async def test_a_new_attempt_drops_the_text_before_it(driver: Driver, server: SseServer) -> None:
    lost = as_log(Start(message_id="a"), TextStart(id="0"), TextDelta(id="0", delta="lost"))
    rest = [Attempt(attempt=2), TextStart(id="0"), TextDelta(id="0", delta="whole"), TextEnd(id="0"), Finish()]
    server.entries = [*lost, *as_log(*rest, epoch=EPOCH + 1, first_seq=4)]
    result = await follow(driver, server)
    assert (result["state"]["text"], result["state"]["attempt"]) == ("whole", 2)
    assert result["state"] == folded(server.entries)


async def test_after_a_lost_tail_only_new_entries_are_given_and_the_state_is_that_of_the_new_log(
    driver: Driver, server: SseServer
) -> None:
    before = list(server.entries)
    server.plans.append(server.serve(stop_after=4))
    rest = [TextDelta(id="0", delta="Other"), TextEnd(id="0"), Finish()]
    new = as_log(*rest, epoch=EPOCH + 1, first_seq=3)

    async def rewind(exchange: Exchange) -> None:
        server.entries = [*before[:2], *new]
        await server.raw(gap("rewound", f"{EPOCH}-2", 3, 4), hold=True)(exchange)

    server.plans.append(rewind)
    result = await follow(driver, server)
    assert entries_of(result) == [*cursors(before[:4]), *cursors(new)]
    assert gaps_of(result) == [("rewound", f"{EPOCH}-2")]
    assert result["state"] == folded(server.entries)
    assert str(server.resumed_after[-1]) == "0-0"


async def test_a_stream_begun_anew_drops_all_that_was_given(driver: Driver, server: SseServer) -> None:
    server.plans.append(server.serve(stop_after=4))
    new = as_log(TextStart(id="0"), TextDelta(id="0", delta="New"), Finish(), epoch=EPOCH + 9)
    server.plans.append(server.raw(gap("reset", f"{EPOCH + 9}-0") + b"".join(frame(entry) for entry in new)))
    result = await follow(driver, server)
    assert entries_of(result)[4:] == cursors(new)
    assert result["state"] == folded(new)


async def test_a_trimmed_beginning_is_a_gap_and_the_rest_is_given(driver: Driver, server: SseServer) -> None:
    rest = b"".join(frame(entry) for entry in server.entries[3:])
    server.plans.append(server.raw(gap("trimmed", f"{EPOCH}-3", 1, 3) + rest))
    result = await follow(driver, server)
    assert gaps_of(result) == [("trimmed", f"{EPOCH}-3")]
    assert (entries_of(result), result["state"]["text"]) == (cursors(server.entries[3:]), "llo\u2028")


async def test_a_stall_is_shown_until_entries_come(driver: Driver, server: SseServer) -> None:
    stall = notice("hub.live") + notice("hub.stalled", reason="worker_lost") + notice("hub.stalled", reason=None)
    server.plans.append(server.raw(stall))
    result = await follow(driver, server)
    names = [update["name"] for update in result["updates"] if update["kind"] == "connection"]
    assert names == ["catching-up", "live", "stalled", "live", "reconnecting", "catching-up"]


async def test_after_a_stall_a_connection_that_was_not_live_is_still_catching_up(
    driver: Driver, server: SseServer
) -> None:
    stall = notice("hub.stalled", reason="log_unavailable") + notice("hub.stalled", reason=None)
    past = b"".join(frame(entry) for entry in server.entries[:2])
    server.plans.append(server.raw(notice("hub.live")))
    server.plans.append(server.raw(stall + past + notice("hub.live")))
    result = await follow(driver, server)
    names = [update.get("name", update["kind"]) for update in result["updates"]]
    resumed = names[names.index("reconnecting") + 1 :]
    assert resumed[:6] == ["catching-up", "stalled", "catching-up", "entry", "entry", "live"]


async def test_a_bye_that_forbids_reconnecting_ends_the_reading_and_another_one_does_not(
    driver: Driver, server: SseServer
) -> None:
    server.plans.append(server.raw(notice("hub.bye", reason="drain", reconnect=True)))
    server.plans.append(server.raw(notice("hub.bye", reason="revoked", reconnect=False), hold=True))
    result = await follow(driver, server, after=f"{EPOCH}-2")
    assert [update.get("reason") for update in result["updates"] if update.get("name") == "reconnecting"] == ["drain"]
    failure = result["failure"]
    assert (failure["code"], failure["cursor"], failure["retry"]) == ("revoked", f"{EPOCH}-2", False)


async def test_a_token_function_is_called_once_more_when_its_token_is_refused(
    driver: Driver, server: SseServer
) -> None:
    server.plans.extend([keyed(server, "new")] * 2)
    result = await follow(driver, server, tokens=["old", "new", "newer"])
    assert (result["tokens"], result["failure"]) == (["old", "new"], None)
    assert result["state"]["text"] == TEXT


async def test_a_token_that_is_refused_twice_in_a_row_ends_the_reading(driver: Driver, server: SseServer) -> None:
    server.plans.extend([keyed(server, "none")] * 3)
    result = await follow(driver, server, tokens=["a", "b", "c"])
    assert (result["tokens"], result["failure"]["code"]) == (["a", "b"], "token_expired")
    assert len(server.requests) == 2
    result = await follow(driver, server, token="fixed")
    assert (result["failure"]["code"], len(server.requests)) == ("token_expired", 3)


async def test_before_a_token_expires_a_connection_with_a_new_one_takes_over(driver: Driver, server: SseServer) -> None:
    expiring = frame(server.entries[0]) + notice("hub.expiring", expires_at=1.0)
    server.plans.append(server.raw(expiring, hold=True))
    server.plans.append(keyed(server, "new"))
    result = await follow(driver, server, tokens=["old", "new"])
    assert entries_of(result) == cursors(server.entries)
    assert "reconnecting" not in [update.get("name") for update in result["updates"]]


async def test_an_expired_token_is_replaced_after_the_bye(driver: Driver, server: SseServer) -> None:
    bye = notice("hub.bye", reason="token_expired", reconnect=False)
    server.plans.append(server.raw(frame(server.entries[0]) + bye, hold=True))
    server.plans.append(keyed(server, "new"))
    result = await follow(driver, server, tokens=["old", "new"])
    assert (result["state"]["text"], result["failure"]) == (TEXT, None)


async def test_a_token_function_without_network_is_called_once_more_and_its_own_error_ends_the_reading(
    driver: Driver, server: SseServer
) -> None:
    result = await follow(driver, server, tokens=["!offline", "good"])
    assert (result["state"]["text"], result["tokens"]) == (TEXT, ["!offline", "good"])
    result = await follow(driver, server, tokens=["!signed out"])
    assert result["failure"]["message"] == "!signed out"


async def test_an_aborted_signal_ends_the_loop_and_the_connection(driver: Driver, server: SseServer) -> None:
    server.entries = server.entries[:3]
    result = await follow(driver, server, abort_after=3)
    assert result["failure"]["name"] == "AbortError"
    assert (len(entries_of(result)), result["isOver"]) == (3, False)
    await server.wait_for(lambda: server.left == 1)


async def test_a_loop_that_was_left_goes_on_where_it_stopped(driver: Driver, server: SseServer) -> None:
    first = await follow(driver, server, name="one", most=2)
    assert first["cursor"] == f"{EPOCH}-2"
    second = await follow(driver, server, name="one")
    assert entries_of(first) + entries_of(second) == cursors(server.entries)
    assert second["state"] == folded(server.entries)


@pytest.mark.parametrize("url", ["s", "/v1/streams/s/events", "ftp://host/v1/streams/s/events", "http://"])
async def test_an_address_that_leads_nowhere_is_refused_at_once(driver: Driver, url: str) -> None:
    with pytest.raises(JobFailed, match=r"names no server: pass {server"):
        await driver.request("follow", url=url)


@pytest.mark.parametrize("stream", ["..", ".", ""])
async def test_no_id_leads_out_of_the_path_of_streams(driver: Driver, server: SseServer, stream: str) -> None:
    with pytest.raises(JobFailed, match="is not the id of a stream"):
        await driver.request("follow", url=stream, server=server.url)
    assert server.requests == []


async def test_an_id_and_an_events_url_lead_to_the_same_stream(driver: Driver, server: SseServer) -> None:
    for stream in ("s", "/v1/streams/s/events", f"{server.url}/v1/streams/s/events"):
        result = await driver.request("follow", url=stream, server=server.url)
        assert result["state"]["text"] == TEXT
    assert {request.path for request in server.requests} == {"/v1/streams/s/events"}


@pytest.mark.parametrize("stream", ["s", "/llm/v1/streams/s/events", "/v1/streams/s/events"])
async def test_the_path_of_a_server_is_kept_also_where_a_proxy_takes_it_away(
    driver: Driver, server: SseServer, stream: str
) -> None:
    result = await driver.request("follow", url=stream, server=f"{server.url}/llm")
    assert result["state"]["text"] == TEXT
    assert [request.path for request in server.requests] == ["/llm/v1/streams/s/events"]


@pytest.mark.parametrize(("options", "seq"), [({}, 4), ({"after": f"{EPOCH}-5"}, 5)], ids=["alone", "and an option"])
async def test_a_cursor_in_the_url_is_where_a_watch_begins(
    driver: Driver, server: SseServer, options: dict[str, Any], seq: int
) -> None:
    server.plans.append(server.serve(stop_after=0))
    url = f"{events_url(server)}?wait_s=1&after={EPOCH}-4"
    result = await driver.request("follow", url=url, abort_ms=5000, **options)
    assert (entries_of(result), result["failure"]) == (cursors(server.entries[seq:]), None)
    assert [str(cursor) for cursor in server.resumed_after] == [f"{EPOCH}-{seq}"] * 2
