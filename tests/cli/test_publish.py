"""``publish`` against a real server: what is sent, in which batches, and the message of a failure."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from broadcaster.cli.main import create_app
from broadcaster.cli.terminal.stdin_lines import LONGEST_LINE_BYTES, LineTooLong, StdinLines
from broadcaster.core.requests.publishing import MAX_EVENTS_PER_APPEND
from tests.cli.conftest import DEADLINE_S
from tests.support.servers.sse_server import Exchange, SseServer

PATH = "/v1/streams/job"
STATE = {"id": "job", "kind": "feed", "status": "running"}
PROGRAM = "from broadcaster.cli.main import create_app\ncreate_app(['publish'])()"
NOTE = {"type": "data-note", "data": 1}

app = create_app(["publish"])


async def state(exchange: Exchange) -> None:
    await exchange.answer(200, json.dumps(STATE | {"status": "finished"}).encode())


class Taker:
    """The feed's append route: takes every event; ``hold`` lets answers wait."""

    def __init__(self) -> None:
        self.taken: list[Any] = []
        self.batches: list[int] = []
        self.lost = 0  # how many events Redis has lost
        self.hold = asyncio.Event()
        self.hold.set()

    async def __call__(self, exchange: Exchange) -> None:
        body: Any = exchange.request.body
        self.taken += body
        self.batches.append(len(body))
        await self.hold.wait()
        ids = [f"7-{len(self.taken) - len(body) + at}" for at in range(1, len(body) + 1)]
        await exchange.answer(200, json.dumps({"ids": ids, "last_id": ids[-1], "last_seq": self.last_seq}).encode())

    @property
    def last_seq(self) -> int:
        return len(self.taken) - self.lost

    async def state(self, exchange: Exchange) -> None:
        """The route of a creation, and of a close."""
        end = {"status": "finished", "last_seq": self.last_seq + 1}
        changed = end if exchange.request.method == "POST" else {"last_seq": self.last_seq}
        await exchange.answer(200, json.dumps(STATE | changed).encode())


@pytest.fixture
async def server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[SseServer]:
    async with SseServer() as server:
        server.routes["PUT", PATH] = server.routes["POST", f"{PATH}/close"] = state
        monkeypatch.setenv("BROADCASTER_URL", server.url)
        yield server


@pytest.fixture
def taker(server: SseServer) -> Taker:
    taker = server.routes["POST", f"{PATH}/events"] = Taker()
    server.routes["PUT", PATH] = server.routes["POST", f"{PATH}/close"] = taker.state
    return taker


async def run(*arguments: str) -> Result:
    return await asyncio.to_thread(CliRunner().invoke, app, ["publish", "job", *arguments])


async def start(server: SseServer, *arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PROGRAM, "publish", "job", *arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "BROADCASTER_URL": server.url, "PYTHONPATH": os.getcwd()},
    )


async def piped(server: SseServer, text: bytes, *arguments: str) -> tuple[int | None, str, str]:
    """Exit code, stdout and stderr of a publish from stdin."""
    process = await start(server, "-", *arguments)
    async with asyncio.timeout(DEADLINE_S):
        out, err = await process.communicate(text)
    return process.returncode, out.decode(), err.decode()


async def test_an_event_or_an_array_is_appended_and_reported_beside_stdout(server, taker):
    result = await run(json.dumps(NOTE))
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == "1 event appended to job; the last is 7-1\n"
    await run(json.dumps([NOTE, NOTE]))
    assert taker.batches == [1, 2]


async def test_create_and_close_come_before_and_after(server, taker):
    await run(json.dumps(NOTE), "--create", "--close")
    assert [(each.method, each.path) for each in server.requests] == [
        ("PUT", PATH), ("POST", f"{PATH}/events"), ("POST", f"{PATH}/close"),
    ]  # fmt: skip
    assert (await run("--create")).exit_code == 0
    assert (await run("--close")).stderr == "job is closed: finished\n"


async def test_a_lease_is_renewed_for_as_long_as_stdin_is_open(server, taker):
    process = await start(server, "-", "--create", "--lease", "0.3")
    assert process.stdin is not None
    await server.wait_for(lambda: len(server.requests) >= 4)
    process.stdin.write(json.dumps(NOTE).encode() + b"\n")
    await server.wait_for(lambda: taker.batches == [1])
    async with asyncio.timeout(DEADLINE_S):
        _, err = await process.communicate(b"")
    assert (process.returncode, err.decode()) == (0, "1 event appended to job; the last is 7-1\n")
    renewals = [request for request in server.requests if request.method == "PUT"]
    assert all(request.body == {"lease_s": 0.3} for request in renewals)
    assert len(renewals) >= 4
    assert (await run(json.dumps(NOTE), "--lease", "9")).exit_code == 2


TORN = {"type": "error", "code": "log_lost", "errorText": "Redis lost a part of this stream"}


async def test_a_feed_that_lost_events_before_an_append_ends_with_an_error(server, taker):
    process = await start(server, "-", "--close")
    assert process.stdin is not None
    process.stdin.write(json.dumps(NOTE).encode() + b"\n")
    await server.wait_for(lambda: taker.batches == [1])
    taker.lost = 1
    async with asyncio.timeout(DEADLINE_S):
        _, err = await process.communicate(json.dumps(NOTE).encode())
    assert process.returncode == 1
    assert "log_lost: Redis lost a part of this stream: job; publish it again" in err.decode()
    assert [each.body for each in server.requests if each.path == f"{PATH}/close"] == [TORN]


async def test_a_feed_that_a_renewal_created_anew_ends_with_an_error(server, taker):
    process = await start(server, "-", "--create", "--lease", "0.3", "--close")
    assert process.stdin is not None
    process.stdin.write(json.dumps(NOTE).encode() + b"\n")
    await server.wait_for(lambda: taker.batches == [1])
    taker.lost = 1
    await server.wait_for(lambda: server.requests[-1].path == f"{PATH}/close")
    async with asyncio.timeout(DEADLINE_S):
        _, err = await process.communicate(json.dumps(NOTE).encode())
    assert (process.returncode, taker.batches) == (1, [1])
    assert "log_lost" in err.decode()
    assert [each.body for each in server.requests if each.path == f"{PATH}/close"] == [TORN]


async def test_an_append_that_was_under_way_when_the_loss_was_found_fails_with_it(server, taker):
    process = await start(server, "-", "--create", "--lease", "0.3")
    assert process.stdin is not None
    process.stdin.write(json.dumps(NOTE).encode() + b"\n")
    await server.wait_for(lambda: taker.batches == [1])

    async def late(exchange: Exchange) -> None:
        taker.lost = 1
        await server.wait_for(lambda: server.requests[-1].path == f"{PATH}/close")
        await exchange.problem(409, "stream_closed")

    server.routes["POST", f"{PATH}/events"] = late
    async with asyncio.timeout(DEADLINE_S):
        _, err = await process.communicate(json.dumps(NOTE).encode())
    assert process.returncode == 1
    assert "log_lost: Redis lost a part of this stream: job" in err.decode()


async def test_the_lease_of_a_feed_that_has_ended_is_not_renewed(server, taker):
    process = await start(server, "-", "--create", "--lease", "0.3")
    assert process.stdin is not None
    await server.wait_for(lambda: len(server.requests) >= 2)
    server.routes["PUT", PATH] = state
    assert process.stderr is not None
    async with asyncio.timeout(DEADLINE_S):
        assert await process.stderr.readline() == b"job has ended (finished): its lease is not renewed any more\n"
        await process.communicate(b"")
    assert process.returncode == 0


async def test_a_feed_that_lost_events_before_its_end_fails_the_command(server, taker):
    process = await start(server, "-", "--close")
    assert process.stdin is not None
    process.stdin.write(json.dumps([NOTE, NOTE]).encode() + b"\n")
    await server.wait_for(lambda: taker.batches == [2])
    taker.lost = 1
    async with asyncio.timeout(DEADLINE_S):
        _, err = await process.communicate(b"")
    assert process.returncode == 1
    assert "log_lost" in err.decode()


async def test_json_prints_every_answer_as_a_line(server, taker):
    result = await run(json.dumps(NOTE), "--create", "--close", "--json")
    lines = [json.loads(line) for line in result.stdout.strip().split("\n")]
    assert [line.get("status") for line in lines] == ["running", None, "finished"]
    assert lines[1] == {"ids": ["7-1"], "last_id": "7-1", "last_seq": 1}
    assert result.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "nothing to do"),
        (("{",), "the event is not JSON"),
        (("\udcff",), "not JSON"),
        (('{"type":"data-x","data":' + 128 * "[" + 128 * "]" + "}",), "the event: NaN, Infinity, lone"),
    ],
)
async def test_input_that_cannot_be_published_is_a_usage_error(server, taker, arguments, message):
    result = await run(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert taker.batches == []


async def test_lines_of_stdin_are_events_in_their_order(server, taker):
    lines = [json.dumps({"type": "data-note", "data": number}) for number in range(2500)]
    code, out, err = await piped(server, "\n".join(lines).encode())  # the last line has no end
    assert (code, out) == (0, "")
    assert err == "2500 events appended to job; the last is 7-2500\n"
    assert [each["data"] for each in taker.taken] == list(range(2500))
    assert max(taker.batches) <= MAX_EVENTS_PER_APPEND


@pytest.mark.parametrize("code", ["too_many_values", "body_too_large"])
async def test_a_batch_that_is_too_large_for_one_body_is_sent_in_halves_with_keys_of_their_own(server, taker, code):
    async def bounded(exchange: Exchange) -> None:
        if len(exchange.request.body) > 100:
            await exchange.problem(413, code)
        else:
            await taker(exchange)

    server.routes["POST", f"{PATH}/events"] = bounded
    lines = [json.dumps({"type": "data-note", "data": number}) for number in range(1500)]
    assert (await piped(server, "\n".join(lines).encode()))[0] == 0
    assert [each["data"] for each in taker.taken] == list(range(1500))
    keys = [request.headers["idempotency-key"] for request in server.requests]
    assert len(set(keys)) == len(keys)


async def test_one_event_that_is_too_large_for_a_body_is_reported_and_those_before_it_are_stored(server, taker):
    async def bounded(exchange: Exchange) -> None:
        if {"type": "data-note", "data": "large"} in exchange.request.body:
            await exchange.problem(413, "body_too_large")
        else:
            await taker(exchange)

    server.routes["POST", f"{PATH}/events"] = bounded
    lines = [*[json.dumps(NOTE)] * 3, json.dumps(NOTE | {"data": "large"})]
    code, _, err = await piped(server, "\n".join(lines).encode())
    assert (code, len(taker.taken)) == (1, 3)
    assert "BROADCASTER_MAX_BODY_BYTES" in err


async def test_blank_lines_are_nothing_and_an_array_is_its_events(server, taker):
    code, _, _ = await piped(server, b'\r\n\n[{"type":"data-a","data":1},{"type":"data-b","data":2}]\r\n\n')
    assert (code, taker.batches) == (0, [2])


async def test_a_line_goes_at_once_and_what_comes_meanwhile_goes_together(server, taker):
    process = await start(server, "-")
    assert process.stdin is not None
    taker.hold.clear()
    process.stdin.write(json.dumps(NOTE).encode() + b"\n")
    await server.wait_for(lambda: taker.batches == [1])
    for _ in range(20):
        process.stdin.write(json.dumps(NOTE).encode() + b"\n")
    process.stdin.close()
    await process.stdin.wait_closed()
    taker.hold.set()
    async with asyncio.timeout(DEADLINE_S):
        assert await process.wait() == 0
    assert sum(taker.batches) == 21
    assert len(taker.batches) < 10


async def test_a_line_that_is_no_json_ends_it_and_what_came_before_is_appended(server, taker):
    code, _, err = await piped(server, b'{"type":"data-note","data":1}\n\nnonsense\n{"type":"data-note","data":2}\n')
    assert code == 2
    assert "line 3 is not JSON" in err
    assert [each["data"] for each in taker.taken] == [1]


async def test_a_refused_event_is_reported_with_its_line(server):
    async def refuse(exchange: Exchange) -> None:
        document = {"code": "invalid_event", "detail": "body #/2/type: not a type", "title": "t", "retry": False}
        await exchange.answer(400, json.dumps(document).encode())

    server.routes["POST", f"{PATH}/events"] = refuse
    code, _, err = await piped(server, b'[{"type":"data-a","data":1},{"type":"data-a","data":1}]\n\n{"type":"x"}\n')
    assert code == 1
    assert err.endswith('error: line 3, field type ("x"): invalid_event: not a type\n')


async def test_a_refused_event_of_an_array_is_reported_with_its_number_field_and_value(server):
    async def refuse(exchange: Exchange) -> None:
        detail = "body #/1/a~1b: this type has no such field; body #/1/c: this type has no such field"
        await exchange.answer(400, json.dumps({"code": "invalid_event", "detail": detail, "retry": False}).encode())

    server.routes["POST", f"{PATH}/events"] = refuse
    result = await run('[{"type":"data-a","data":1},{"type":"data-a","a/b":[1]}]')
    assert result.exit_code == 1
    assert result.stderr.endswith("error: event 2, field a/b ([1]): invalid_event: this type has no such field\n")


async def test_a_missing_feed_is_reported_with_its_remedy(server):
    async def unknown(exchange: Exchange) -> None:
        await exchange.problem(404, "unknown_stream")

    server.routes["POST", f"{PATH}/events"] = unknown
    result = await run(json.dumps(NOTE))
    assert result.exit_code == 1
    assert "--create" in result.stderr


async def test_a_front_end_that_was_away_gets_the_batch_once_more_under_its_key(server, taker):
    plans = iter([taker, *[_busy] * 4, taker])
    server.routes["POST", f"{PATH}/events"] = lambda exchange: next(plans)(exchange)
    process = await start(server, "-")
    assert process.stdin is not None
    process.stdin.write(json.dumps(NOTE).encode() + b"\n")
    await server.wait_for(lambda: taker.batches == [1])
    async with asyncio.timeout(DEADLINE_S):
        _, err = await process.communicate(json.dumps(NOTE).encode())
    assert process.returncode == 0
    assert err.decode().count("retrying (log_unavailable)") == 1
    keys = [request.headers["idempotency-key"] for request in server.requests]
    assert (len(keys), len(set(keys)), len(set(keys[1:]))) == (6, 2, 1)


async def _busy(exchange: Exchange) -> None:
    await exchange.problem(503, "log_unavailable", retry=True)


async def test_a_front_end_that_never_answered_is_not_waited_for(server):
    await server.stop()
    result = await run(json.dumps(NOTE))
    assert result.exit_code == 3
    assert "broadcaster up" in result.stderr


async def test_lines_are_read_ahead_only_so_far():
    chunks = iter([b"x" * 2**20 + b"\n"] * 9)
    reads = 0

    def read() -> bytes:
        nonlocal reads
        reads += 1
        return next(chunks, b"")

    lines = StdinLines(read)
    first = await lines.take(most_bytes=1)
    async with asyncio.timeout(DEADLINE_S):
        while reads < 5:
            await asyncio.sleep(0.005)
    assert reads <= 7
    total = len(first)
    while batch := await lines.take(most_bytes=2**20):
        total += len(batch)
    assert total == 9


async def test_a_line_without_an_end_is_refused_beyond_its_bound():
    chunks = iter([b"ok\n", *[b"x" * 2**20] * (LONGEST_LINE_BYTES // 2**20 + 1)])
    lines = StdinLines(lambda: next(chunks, b""))
    taken: list[bytes] = []
    with pytest.raises(LineTooLong, match="line 2"):
        while batch := await lines.take(most_bytes=2**20):
            taken += [line.text for line in batch]
    assert taken == [b"ok"]


async def test_stdin_that_cannot_be_read_is_reported():
    def read() -> bytes:
        raise OSError("bad descriptor")

    with pytest.raises(OSError, match="bad descriptor"):
        await StdinLines(read).take(most_bytes=1)
