"""``top`` without a terminal, its table, and the end of its redrawing."""

from __future__ import annotations

import io
import json
import time

from rich.console import Console

from broadcaster.cli.streams.top import Overview, render
from broadcaster.client import ListedStream, QueueCounts, WorkerState
from tests.cli.conftest import run
from tests.support.servers.sse_server import Exchange, SseServer

STREAM = {"id": "gen_a", "kind": "generation", "status": "running", "model": "local", "last_seq": 7, "viewers": 2}


def serve(server: SseServer, path: str, document: dict) -> None:
    async def plan(exchange: Exchange) -> None:
        await exchange.answer(200, json.dumps(document).encode())

    server.routes["GET", path] = plan


def printed(now: Overview, before: Overview | None = None) -> list[list[str]]:
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(render(now, before))
    return [line.split() for line in console.export_text().splitlines() if line.strip()]


async def test_top_prints_streams_workers_and_queue_once_without_a_terminal(server):
    serve(server, "/v1/streams", {"streams": [STREAM]})
    pages = [{"id": "w1", "alive": True, "slots": 8, "free": 5, "running": 3, "uptime_s": 90.0}]
    serve(server, "/v1/admin/workers", {"workers": pages, "alive": 1, "silent": 0})
    serve(
        server, "/v1/admin/queue", {"waiting": 4, "delayed": 0, "running": 3, "dead_letters": 1, "oldest_wait_s": 2.5}
    )
    result = await run("top")
    assert result.exit_code == 0
    for text in (
        "1 generation ",
        "0 feeds",
        "2 viewers",
        "1 worker with 5 free slots",
        "4 waiting (the oldest for 2.5s)",
    ):
        assert text in result.stdout
    assert "1 dead letter" in result.stdout
    document = json.loads((await run("top", "--json")).stdout)
    assert [each["id"] for each in document["streams"]] == ["gen_a"]
    assert (document["queue"]["waiting"], document["workers"][0]["free"]) == (4, 5)


async def test_top_without_the_right_admin_prints_the_streams_alone(server):
    async def refused(exchange: Exchange) -> None:
        await exchange.problem(403, "forbidden")

    serve(server, "/v1/streams", {"streams": [STREAM]})
    server.routes["GET", "/v1/admin/queue"] = refused
    result = await run("top")
    assert (result.exit_code, "gen_a" in result.stdout, "right admin" in result.stdout) == (0, True, True)
    assert json.loads((await run("top", "--json")).stdout)["workers"] is None


def test_the_rate_of_a_stream_is_that_between_two_readings():
    at = time.monotonic()
    streams = [ListedStream(id=id, kind="feed", status="running", last_seq=seq) for id, seq in (("a", 30), ("new", 5))]
    earlier = [ListedStream(id="a", kind="feed", status="running", last_seq=10)]
    rows = printed(Overview(streams, read_at=at), Overview(earlier, read_at=at - 4))
    assert ["a", "feed", "running", "30", "5.0", "0"] in rows
    assert ["new", "feed", "running", "5", "0"] in rows


def test_a_front_end_that_does_not_answer_is_named_above_the_tables_which_a_low_terminal_cuts():
    streams = [ListedStream(id=f"f{at}", kind="feed", status="running") for at in range(50)]
    console = Console(width=80, height=10, record=True, file=io.StringIO())
    console.print(render(Overview(streams), None, fault="cannot connect\x1b[2J"))
    assert console.export_text().splitlines()[1].strip() == "cannot connect\N{REPLACEMENT CHARACTER}[2J"


def test_a_silent_or_draining_worker_is_named_so_and_has_no_free_slot():
    workers = [
        WorkerState(id="w1", alive=False, silent_s=12.0, free=3),
        WorkerState(id="w\x1b2", alive=True, draining=True, slots=8, free=0, running=2, uptime_s=7.0),
    ]
    queue = QueueCounts(waiting=0, delayed=0, running=2, dead_letters=0)
    rows = printed(Overview([], workers, queue))
    assert "1 worker with 0 free slots" in " ".join(rows[0])
    assert ["w1", "?", "?", "silent", "for", "12s"] in rows
    assert ["w\N{REPLACEMENT CHARACTER}2", "8", "2", "7s", "draining"] in rows
