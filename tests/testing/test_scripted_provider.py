"""The scripted provider on its socket: scripts, faults, and the log of requests."""

import asyncio
import contextlib
import json

import pytest

from broadcaster.testing import (
    Answer,
    BadJson,
    Cut,
    Gate,
    Hang,
    Headers,
    PacedText,
    Reset,
    Script,
    ScriptedProvider,
    Send,
    SendCut,
    SendRaw,
    Wait,
    wire,
)
from tests.testing.raw_client import connected


async def test_an_answer_is_a_chunked_event_stream_with_a_request_id():
    async with ScriptedProvider() as provider, connected(provider) as client:
        client.post()
        head = (await client.head()).decode().lower()
        assert head.startswith("http/1.1 200 ok\r\n")
        assert "transfer-encoding: chunked" in head
        assert "content-type: text/event-stream" in head
        assert "request-id: req_scripted_1" in head
        chunks = await client.chunks()
    assert [chunk.partition(b"\n")[0] for chunk in chunks] == [
        b"event: message_start",
        b"event: content_block_start",
        *[b"event: content_block_delta"] * 3,
        b"event: content_block_stop",
        b"event: message_delta",
        b"event: message_stop",
    ]


async def test_one_connection_serves_request_after_request_even_when_they_come_at_once():
    async with ScriptedProvider() as provider, connected(provider) as client:
        provider.script("a", Script(SendRaw(b"a")))
        provider.script("b", Script(SendRaw(b"b")))
        client.post("a")
        client.post("b")
        bodies = []
        for _ in range(2):
            await client.head()
            bodies.append(await client.chunks())
        assert bodies == [[b"a"], [b"b"]]
        assert [request.connection for request in provider.requests] == [1, 1]


async def test_a_request_may_have_a_chunked_body_and_arrive_byte_by_byte():
    async with ScriptedProvider() as provider, connected(provider) as client:
        request = (
            b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
            b'e\r\n{"model": "m",\r\n10\r\n "stream": true}\r\n0\r\n\r\n'
        )
        for at in range(len(request)):
            client.send(request[at : at + 1])
            await asyncio.sleep(0)
        assert b" 200 " in await client.head()
        await client.chunks()
        assert [sent.body for sent in provider.requests] == [{"model": "m", "stream": True}]


async def test_requests_of_a_model_take_its_scripts_in_order_and_the_last_one_stays():
    async with ScriptedProvider() as provider, connected(provider) as client:
        provider.script(
            "m", Script(Answer(529)), Script(Answer(429, headers={"retry-after": "2"})), Script.of_text("ok")
        )
        statuses = []
        for _ in range(4):
            client.post("m")
            head = await client.head()
            statuses.append(int(head.split()[1]))
            if statuses[-1] == 200:
                await client.chunks()
            else:
                length = int(head.partition(b"content-length: ")[2].partition(b"\r")[0])
                assert json.loads(await client.reader.readexactly(length))["type"] == "error"
        assert statuses == [529, 429, 200, 200]


async def test_the_log_holds_the_request_as_it_came():
    async with ScriptedProvider() as provider, connected(provider) as client:
        client.post("m", max_tokens=3)
        await client.head()
        (request,) = await provider.wait_requests(1)
        assert (request.method, request.path) == ("POST", "/v1/messages")
        assert request.headers["x-test"] == "One"
        assert request.body == {"model": "m", "stream": True, "max_tokens": 3}
        assert request.started_at <= asyncio.get_running_loop().time()
        await client.chunks()
        assert request.ended_at is not None
        assert request.disconnected_at is None


async def test_a_disconnect_is_seen_at_once_also_at_a_gate():
    gate = Gate()
    async with ScriptedProvider() as provider, connected(provider) as client:
        provider.script("m", Script(Send(wire.message_start()), Wait(gate)))
        client.post("m")
        await gate.wait_reached()
        (request,) = provider.requests
        closed_at = asyncio.get_running_loop().time()
        client.writer.close()
        assert 0 <= await request.wait_disconnected() - closed_at < 5
        assert request.ended_at is None


async def test_a_client_that_stays_is_distinguished_from_one_that_left():
    async with ScriptedProvider() as provider, connected(provider) as client:
        provider.script("m", Script(Hang()))
        client.post("m")
        (request,) = await provider.wait_requests(1)
        with pytest.raises(TimeoutError, match="had not closed"):
            await request.wait_disconnected(timeout_s=0.01)


async def test_waiting_for_requests_that_do_not_come_reports_how_many_came():
    async with ScriptedProvider() as provider:
        with pytest.raises(TimeoutError, match="0 of 1 requests"):
            await provider.wait_requests(1, timeout_s=0.01)


async def test_a_gate_holds_what_comes_after_it_until_the_test_opens():
    gate = Gate()
    async with ScriptedProvider() as provider, connected(provider) as client:
        provider.script("m", Script(SendRaw(b"before"), Wait(gate), SendRaw(b"after")))
        client.post("m")
        await client.head()
        assert await client.chunk() == b"before"
        await gate.wait_reached()
        gate.open()
        assert await client.chunks() == [b"after"]


async def test_bytes_can_be_cut_at_given_places():
    async with ScriptedProvider() as provider, connected(provider) as client:
        provider.script("m", Script(SendCut("aéb".encode(), at=[2, 3])))
        client.post("m")
        await client.head()
        assert await client.chunks() == [b"a\xc3", b"\xa9", b"b"]


async def test_a_script_without_a_terminal_event_still_ends_the_body_properly():
    async with ScriptedProvider() as provider, connected(provider) as client:
        provider.script("m", Script(Send(wire.message_start())))
        client.post("m")
        await client.head()
        assert len(await client.chunks()) == 1


async def test_a_cut_closes_in_the_middle_of_a_chunk():
    async with ScriptedProvider() as provider, connected(provider) as client:
        provider.script("m", Script(SendRaw(b"whole"), Cut()))
        client.post("m")
        await client.head()
        assert await client.chunk() == b"whole"
        with pytest.raises(asyncio.IncompleteReadError):
            await client.chunk()
        assert provider.requests[0].disconnected_at is None


async def test_a_cut_before_the_head_is_no_answer_at_all():
    async with ScriptedProvider() as provider, connected(provider) as client:
        provider.script("m", Script(Cut()))
        client.post("m")
        assert await client.rest() == b""


async def test_a_reset_is_a_reset():
    async with ScriptedProvider() as provider, connected(provider) as client:
        provider.script("m", Script(Headers(), Reset()))
        client.post("m")
        with pytest.raises(ConnectionResetError):
            await client.rest()


async def test_bad_json_is_a_frame_whose_data_does_not_parse():
    async with ScriptedProvider() as provider, connected(provider) as client:
        provider.script("m", Script(BadJson()))
        client.post("m")
        await client.head()
        data = (await client.chunk()).partition(b"data: ")[2]
        with pytest.raises(json.JSONDecodeError):
            json.loads(data)


async def test_headers_can_go_out_alone():
    async with ScriptedProvider() as provider, connected(provider) as client:
        provider.script("m", Script(Headers({"x-extra": "1"}), Hang()))
        client.post("m")
        assert b"x-extra: 1" in await client.head()


async def test_paced_text_names_the_model_and_counts_its_pieces():
    async with ScriptedProvider() as provider, connected(provider) as client:
        provider.script("m", Script(PacedText(tokens=3, rate=1000)))
        client.post("m")
        await client.head()
        events = [json.loads(chunk.partition(b"data: ")[2]) for chunk in await client.chunks()]
    assert events[0]["message"]["model"] == "m"
    assert [event["delta"]["text"] for event in events if event["type"] == "content_block_delta"] == [
        "word0 ",
        "word1 ",
        "word2 ",
    ]
    assert events[-2]["usage"]["output_tokens"] == 3


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET /v1/messages HTTP/1.1\r\nHost: x\r\n\r\n", 404),
        (b"POST /v1/models HTTP/1.1\r\nHost: x\r\n\r\n", 404),
        (b"POST /v1messages HTTP/1.1\r\nHost: x\r\n\r\n", 404),
        (b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n{", 400),
        (b"POST /v1/responses HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}", 400),
        (b'POST /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: 26\r\n\r\n{"model":"m","stream":"no"}', 400),
    ],
)
async def test_a_request_that_no_script_can_serve_is_refused_in_the_shape_of_the_api(request_bytes: bytes, status: int):
    async with ScriptedProvider() as provider, connected(provider) as client:
        client.send(request_bytes)
        head = await client.head()
        assert int(head.split()[1]) == status
        assert len(provider.requests) == 1


@pytest.mark.parametrize(
    "nonsense", [b"nonsense\r\n\r\n", b"x" * 70_000, b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n"]
)
async def test_a_connection_that_does_not_speak_http_is_closed(nonsense: bytes):
    async with ScriptedProvider() as provider, connected(provider) as client:
        client.send(nonsense)
        try:
            answer = await client.rest()
        except ConnectionResetError:
            answer = b""
        assert answer == b""
        assert provider.requests == []


async def test_a_script_that_is_itself_wrong_fails_the_test():
    with pytest.raises(ExceptionGroup) as caught:
        async with ScriptedProvider() as provider, connected(provider) as client:
            provider.script("m", Script(Answer(500), Send(wire.ping())))
            client.post("m")
            await client.rest()
    assert "the answer is over" in str(caught.value.exceptions[0])


async def test_leaving_the_provider_ends_every_connection():
    async with ScriptedProvider() as provider:
        provider.script("m", Script(Hang()))
        async with connected(provider) as client:
            client.post("m")
            await provider.wait_requests(1)
            await provider.__aexit__(None, None, None)
            with contextlib.suppress(ConnectionResetError):
                assert await client.rest() == b""
            assert provider.requests[0].disconnected_at is None


async def test_a_slow_reader_holds_the_script_back():
    gate = Gate()
    async with ScriptedProvider() as provider, connected(provider) as client:
        provider.script("m", Script(SendRaw(b"x" * 32 * 2**20), Wait(gate)))
        client.post("m")
        await client.head()
        with pytest.raises(TimeoutError):
            await gate.wait_reached(timeout_s=0.05)
        await client.chunk()
        await gate.wait_reached()
        gate.open()
