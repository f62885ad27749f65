"""A viewer's response over real sockets, on our runner and on a stock server."""

from __future__ import annotations

import asyncio
import dataclasses
import gc

import pytest

from broadcaster.dialects import NativeEncoder
from broadcaster.dialects.native.encode import NativeTranscript
from broadcaster.hub.hub import Hub
from broadcaster.hub.limits import HubLimits
from broadcaster.hub.stop_reasons import StopReason
from tests.hub.support import answer, finish, seen_by_client, text, texts
from tests.support.memory.fake_tail import FakeTail
from tests.support.streaming import on_our_runner, on_stock_uvicorn, open_viewer, stream_app

LIMITS = HubLimits(heartbeat_s=60, slow_viewer_s=60, linger_s=60)


@pytest.fixture
def tail():
    return FakeTail()


@pytest.fixture
async def open_hub(tail):
    hubs = []

    def open_one(**limits):
        hubs.append(Hub(tail, tail, limits=dataclasses.replace(LIMITS, **limits)))
        return hubs[-1]

    yield open_one
    for hub in hubs:
        await hub.aclose()


@pytest.fixture(params=[on_our_runner, on_stock_uvicorn], ids=["our runner", "stock uvicorn"])
def server(request):
    return request.param


def serve(server, hub, **options):
    return server(stream_app(hub, **options), on_drain=lambda: hub.drain(window_s=0))


async def until(condition) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


async def test_the_head_has_the_headers_that_browsers_and_proxies_need(server, open_hub, tail):
    hub = open_hub()
    async with serve(server, hub) as port:
        viewer = await open_viewer(port, "gen_1")
        assert viewer.status == 200
        assert viewer.headers["content-type"] == "text/event-stream"
        assert viewer.headers["cache-control"] == "no-store, no-transform"
        assert viewer.headers["x-accel-buffering"] == "no"
        assert viewer.headers["broadcaster-generation-id"] == "gen_1"
        assert "content-length" not in viewer.headers
        viewer.close()


async def test_replay_and_live_are_the_whole_and_the_end_is_clean(server, open_hub, tail):
    hub = open_hub()
    tail.log["g"] = texts(5, 1, 300)
    async with serve(server, hub) as port:
        viewer = await open_viewer(port)
        await viewer.until_live()
        tail.append("g", *texts(5, 301, 310), finish(5, 311))
        await viewer.until_over()
        assert list(viewer.witness.entries.values()) == seen_by_client(tail.log["g"])
        assert viewer.ended_cleanly
        repeated = await open_viewer(port, after="5-311")
        assert repeated.status == 204
        assert hub.statistics().stopped == {StopReason.TERMINAL: 1}
        viewer.close()
        repeated.close()


async def test_prefix_and_resume_are_the_whole_for_every_cursor(server, open_hub, tail):
    tail.log["g"] = whole = answer(12)
    async with serve(server, open_hub()) as port:
        for seen in range(1, 12):
            viewer = await open_viewer(port, after=f"5-{seen}")
            await viewer.until_over()
            assert seen_by_client(whole[:seen]) + list(viewer.witness.entries.values()) == seen_by_client(whole)
            viewer.close()


async def test_a_viewer_that_cannot_be_served_now_is_refused_within_200_and_ends_cleanly(server, open_hub, tail):
    hub = open_hub(max_viewers=0)
    async with serve(server, hub) as port:
        viewer = await open_viewer(port)
        await viewer.until_over()
        assert viewer.status == 200
        assert viewer.ended_cleanly
        assert viewer.witness.notices == [("hub.bye", {"reason": "limit", "reconnect": True})]
        assert viewer.witness.retries_ms
        viewer.close()


async def test_a_client_that_closes_is_forgotten_at_once(server, open_hub, tail):
    hub = open_hub()
    async with serve(server, hub) as port:
        for method in ("GET", "POST"):
            viewer = await open_viewer(port, method=method)
            await viewer.until_live()
            assert hub.viewers() == {"g": 1}
            viewer.close()
            await until(lambda: not hub.viewers())
    assert hub.statistics().stopped == {StopReason.CLIENT_GONE: 2}


async def test_a_heartbeat_comes_when_nothing_else_does(server, open_hub, tail):
    hub = open_hub(heartbeat_s=0.2)
    async with serve(server, hub) as port:
        viewer = await open_viewer(port)
        await viewer.until(lambda: viewer.raw.count(b":\n\n") == 2)
        tail.append("g", finish(5, 1))
        await viewer.until_over()
        viewer.close()


async def test_no_heartbeat_comes_while_events_do(server, open_hub, tail):
    hub = open_hub(heartbeat_s=0.4)
    async with serve(server, hub) as port:
        viewer = await open_viewer(port)
        await viewer.until_live()
        loop = asyncio.get_running_loop()
        begin, seq, longest_s = loop.time(), 0, 0.0
        while loop.time() - begin < 1.0:
            seq += 1
            before = loop.time()
            tail.append("g", text(5, seq))
            await viewer.until_seq(seq)
            longest_s = max(longest_s, loop.time() - before)
        assert longest_s > 0.4 or b":\n\n" not in viewer.raw
        viewer.close()


async def test_a_viewer_that_stops_reading_delays_no_other_and_is_cut_without_a_clean_end(
    server, open_hub, tail, caplog
):
    hub = open_hub(slow_viewer_s=0.5, room_bytes=64 * 2**20)
    async with serve(server, hub) as port:
        stuck = await open_viewer(port, receive_bytes=4096)
        stuck.reader._transport.pause_reading()  # type: ignore[attr-defined]
        quick = [await open_viewer(port) for _ in range(5)]
        for viewer in quick:
            await viewer.until_live()
        seq = 0
        async with asyncio.timeout(30):
            while StopReason.SLOW not in hub.statistics().stopped:
                seq += 1
                tail.append("g", text(5, seq, size=60_000))
                await asyncio.gather(*(viewer.until_seq(seq) for viewer in quick))
        assert hub.viewers() == {"g": 5}
        stuck.reader._transport.resume_reading()  # type: ignore[attr-defined]
        await stuck.until_over()
        assert stuck.ended_cleanly is False
        # It goes on from its cursor when it comes back.
        repeated = await open_viewer(port, after=str(stuck.witness.after))
        await repeated.until_seq(seq)
        for viewer in (*quick, stuck, repeated):
            viewer.close()
        await until(lambda: not hub.viewers())
    assert hub.statistics().stopped[StopReason.SLOW] == 1


async def test_a_viewer_that_is_cut_is_released_though_it_never_reads_more(server, open_hub, tail, caplog):
    hub = open_hub(slow_viewer_s=0.3, room_bytes=64 * 2**20)
    async with serve(server, hub) as port:
        stuck = await open_viewer(port, receive_bytes=4096)
        stuck.reader._transport.pause_reading()  # type: ignore[attr-defined]
        tail.append("g", *(text(5, seq, size=60_000) for seq in range(1, 200)))
        await until(lambda: hub.statistics().stopped == {StopReason.SLOW: 1})
        await until(lambda: not running_responses())
        stuck.close()
    assert ("ViewerCut" in caplog.text) == (server is on_stock_uvicorn)


def running_responses() -> list[asyncio.Task]:
    return [task for task in asyncio.all_tasks() if "run_asgi" in repr(task.get_coro())]


async def test_a_drain_sends_a_goodbye_and_ends_cleanly(server, open_hub, tail):
    hub = open_hub()
    async with serve(server, hub) as port:
        viewers = [await open_viewer(port) for _ in range(10)]
        for viewer in viewers:
            await viewer.until_live()
        await hub.drain(window_s=0.1)
        for viewer in viewers:
            await viewer.until_over()
            assert viewer.ended_cleanly
            assert viewer.witness.notices[-1] == ("hub.bye", {"reason": "drain", "reconnect": True})
            viewer.close()
        late = await open_viewer(port)
        await late.until_over()
        assert late.witness.notices == [("hub.bye", {"reason": "drain", "reconnect": True})]
        late.close()


class WordlessTranscript(NativeTranscript):
    def bye(self, reason: str, *, reconnect: bool, retry_ms: int, last_number: int | None = None) -> bytes:
        return b""


class Wordless(NativeEncoder):
    """A dialect without a block that ends a response early."""

    def open(self, stream_id: str) -> WordlessTranscript:
        return WordlessTranscript(stream_id)


async def test_a_stream_of_a_dialect_without_a_goodbye_is_aborted_and_never_seems_finished(
    server, open_hub, tail, caplog
):
    hub = open_hub()
    async with serve(server, hub, dialect=Wordless()) as port:
        viewer = await open_viewer(port)
        await viewer.until_live()
        await hub.drain(window_s=0)
        await viewer.until_over()
        assert viewer.ended_cleanly is False
        viewer.close()
    assert ("ViewerCut" in caplog.text) == (server is on_stock_uvicorn)
    assert "without completing response" not in caplog.text


async def test_one_connection_may_watch_one_stream_after_another(server, open_hub, tail):
    tail.log["g"], tail.log["h"] = answer(3), answer(4)
    async with serve(server, open_hub()) as port:
        viewer = await open_viewer(port)
        await viewer.until_over()
        viewer.writer.write(b"GET /h HTTP/1.1\r\nHost: x\r\n\r\n")
        await viewer.reader.readuntil(b"\r\n\r\n")
        viewer.witness = type(viewer.witness)()
        await viewer.until_over()
        assert len(viewer.witness.entries) == 4
        viewer.close()


async def test_responses_leave_nothing_behind(server, open_hub, tail):
    hub = open_hub()
    async with serve(server, hub) as port:
        for _ in range(3):
            viewers = [await open_viewer(port) for _ in range(20)]
            for viewer in viewers:
                await viewer.until_live()
                viewer.close()
            await until(lambda: not hub.viewers())
            await until(lambda: not running_responses())
        gc.collect()
        assert not [each for each in gc.get_objects() if type(each).__name__ == "SendDriver"]
