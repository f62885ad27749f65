"""The adapters for `resumable-stream` and TanStack AI behave as the packages do, and store in broadcaster."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from broadcaster.core.events import DataEvent
from broadcaster.log.redis.connect import LogConnection
from tests.client.conftest import as_log
from tests.clients_js.test_package import PACKAGE, run
from tests.clients_js.test_watching import notice
from tests.compat.node_clients import FOLDER, Driver, Json, require_modules, start_driver
from tests.support.servers.processes import open_stack
from tests.support.servers.programs import lacking
from tests.support.servers.sse_server import Exchange, SseServer, frame

ADAPTERS = PACKAGE / "adapters"
DEADLINE_S = 20.0
KINDS = ("theirs", "ours")
ANSWER = ["TEXT_MESSAGE_CONTENT It is ", "TEXT_MESSAGE_CONTENT warm."]
BEFORE = ["RUN_STARTED", "RUN_FINISHED", "TEXT_MESSAGE_START", ANSWER[0]]
GAP = b'id: 7-3\nevent: hub.gap\ndata: {"reason":"trimmed","from":1,"to":3}\n\n'
LOST = "Redis lost a part of this stream"
WHOLE = ["CUSTOM", *BEFORE, ANSWER[1], "TEXT_MESSAGE_END", "RUN_FINISHED"]


TYPED = """
import type { StreamDurability } from "@tanstack/ai";
import { toServerSentEventsResponse, type StreamChunk } from "@tanstack/ai";
import type { ResumableStreamContext } from "resumable-stream/generic";
import { createResumableStreamContext } from "llm-broadcaster/resumable-stream";
import { broadcasterDurability } from "llm-broadcaster/tanstack-ai";

const after = (promise: Promise<unknown>): void => void promise;
const context: ResumableStreamContext = createResumableStreamContext({ waitUntil: after, server: "https://a.example" });
const adapter: StreamDurability = broadcasterDurability({ runId: "r" }, { prefix: "u:", config: { lease_s: 15 } });
const respond = (chunks: AsyncIterable<StreamChunk>, request: Request): Response =>
  toServerSentEventsResponse(chunks, { durability: { adapter: broadcasterDurability(request, { token: () => "t" }) } });
// @ts-expect-error a server is a text
createResumableStreamContext({ server: 7 });
export { adapter, context, respond };
"""


@pytest.fixture
async def adapters() -> AsyncIterator[Driver]:
    """The driver of the adapters, beside the packages."""
    node = require_modules()
    for package in ("@tanstack/ai", "resumable-stream"):
        if not (FOLDER / "node_modules" / package).is_dir():
            lacking(f"no {package}: get it with `make compat-modules`")
    async with start_driver(node, Path(__file__).parent / "adapters_driver.mjs") as driver:
        yield driver


@pytest.fixture
async def server_url(connection: LogConnection, tmp_path: Path) -> AsyncIterator[str]:
    """A front-end over Valkey: the adapters create feeds twice, as every publisher does that renews a lease."""
    async with open_stack(tmp_path, redis_url=connection.url, provider_url="http://127.0.0.1:9") as stack:
        yield (await stack.front_end()).url


@pytest.mark.parametrize("kind", KINDS)
async def test_a_resumable_stream_is_created_resumed_and_over_as_in_the_package(
    adapters: Driver, server_url: str, kind: str
) -> None:
    seen = await adapters.request("resume", kind=kind, server=server_url, stream="answer")
    assert seen == {
        "before": [None, "none"],
        "during": True,
        "texts": ["one two three", "one two three", "two three", "three"],
        "after": [None, None],
    }


async def test_calls_at_once_make_one_resumable_stream_which_all_of_them_read(
    adapters: Driver, server_url: str
) -> None:
    seen = await adapters.request("race", kind="ours", server=server_url, stream="answer")
    assert seen == {"made": 1, "texts": ["one two"] * 10}


async def test_a_source_that_fails_is_an_error_of_the_readers_without_its_text(
    adapters: Driver, server_url: str
) -> None:
    seen = await adapters.request("failing", kind="ours", server=server_url, stream="answer")
    assert seen["error"] == {"code": "publisher_failed", "message": "the publisher failed"}
    assert seen["failures"] == ["the source is broken: secret"]
    assert seen["taken"] == "stream_exists"


async def test_a_reader_that_fails_over_a_gap_closes_its_connection(adapters: Driver) -> None:
    async def plan(exchange: Exchange) -> None:
        await exchange.answer(200, b'{"status": "running"}', **{"content-type": "application/json"})

    async with SseServer() as server:
        server.routes["GET", "/v1/streams/answer"] = plan
        server.plans.append(server.raw(GAP, hold=True))
        seen = await adapters.request("read_gap", kind="ours", server=server.url, stream="answer")
        assert seen == {"code": "gap"}
        await server.wait_for(lambda: server.left > 0)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_run_of_tanstack_ai_is_stored_resumed_and_joined_as_in_the_package(
    adapters: Driver, server_url: str, kind: str
) -> None:
    seen = await adapters.request("durable", kind=kind, server=server_url, run="run-1")
    assert seen["empty"] == []
    assert seen["snapshot"] == ["CUSTOM", *(each.split()[0] for each in BEFORE)]
    assert seen["live"] == seen["fromStart"] == seen["late"] == WHOLE
    assert seen["resumed"] == WHOLE[3:]
    assert seen["atEnd"] == []
    assert seen["sameIds"] is True


@pytest.mark.parametrize("kind", KINDS)
async def test_a_run_that_fails_ends_with_its_error_for_late_readers_too(
    adapters: Driver, server_url: str, kind: str
) -> None:
    seen = await adapters.request("broken_run", kind=kind, server=server_url, run="run-1")
    begun = ["CUSTOM", *(each for each in BEFORE if each != "RUN_FINISHED")]
    assert seen["live"] == seen["late"] == [*begun, "RUN_ERROR"]
    if kind == "ours":
        state = await _state(server_url, "run-1")
        assert (state["status"], state["error"]["code"]) == ("failed", "run_failed")


async def test_the_readers_of_a_run_that_another_program_stops_get_an_error(adapters: Driver, server_url: str) -> None:
    """And the producer's close is no failure then."""
    reading = asyncio.create_task(adapters.request("lost_run", kind="ours", server=server_url, run="run-1"))
    async with asyncio.timeout(DEADLINE_S):
        while not (await _state(server_url, "run-1")).get("viewers"):
            await asyncio.sleep(0.02)
    await _close(server_url, "run-1", {"type": "error", "code": "writer_lost", "errorText": "the writer is lost"})
    seen: Json = await reading
    assert seen["rest"][-1] == {"type": "RUN_ERROR", "message": "the writer is lost", "code": "writer_lost"}
    assert [chunk["type"] for chunk in seen["rest"][:-1]] == [each.split()[0] for each in BEFORE[2:]]
    assert len(set(seen["offsets"])) == len(BEFORE)


@pytest.mark.parametrize(
    ("texts", "chars", "values"),
    [(1001, 10, 0), (80, 60_000, 0), (600, 10, 200)],
    ids=["many chunks", "large chunks", "chunks of many values"],
)
async def test_chunks_that_are_more_than_one_append_takes_go_with_several(
    adapters: Driver, server_url: str, texts: int, chars: int, values: int
) -> None:
    size = {"texts": texts, "chars": chars, "values": values}
    seen = await adapters.request("many_run", kind="ours", server=server_url, run="run-1", **size)
    assert seen == {"offsets": texts, "lengths": [chars] * texts}


async def _state(server_url: str, stream_id: str) -> dict[str, Any]:
    async with httpx2.AsyncClient(base_url=server_url) as client:
        state: dict[str, Any] = (await client.get(f"/v1/streams/{stream_id}", params={"parts": "true"})).json()
        return state


async def _close(server_url: str, stream_id: str, end: dict[str, Any]) -> None:
    async with httpx2.AsyncClient(base_url=server_url) as client:
        (await client.post(f"/v1/streams/{stream_id}/close", json=end)).raise_for_status()


async def test_a_snapshot_of_tanstack_ai_is_whole_when_a_stall_ends_while_it_is_read(
    adapters: Driver, server: SseServer
) -> None:
    stall = notice("hub.stalled", reason="log_unavailable") + notice("hub.stalled", reason=None)
    chunks = as_log(DataEvent(type="data-tanstack-ai", data="one"), DataEvent(type="data-tanstack-ai", data="two"))
    past = b"".join(frame(entry) for entry in chunks)
    server.plans.append(server.raw(stall + past + notice("hub.live"), hold=True))
    seen = await adapters.request("snapshot", kind="ours", server=server.url, run="run-1")
    assert seen == {"chunks": ["one", "two"]}


async def test_a_second_request_for_a_run_is_refused_and_the_first_one_goes_on(
    adapters: Driver, server_url: str
) -> None:
    seen = await adapters.request("two_requests", kind="ours", server=server_url, run="run-1")
    assert seen == {"second": ["stream_exists", "stream_exists"], "texts": ["It is ", "warm."]}
    assert (await _state(server_url, "run-1"))["status"] == "finished"


@pytest.mark.parametrize("rest", [[], ["warm."]], ids=["at its end", "before its end"])
async def test_a_run_of_which_redis_has_lost_a_part_is_never_finished(
    adapters: Driver, server_url: str, connection: LogConnection, rest: list[str]
) -> None:
    job = {"kind": "ours", "server": server_url, "run": "run-1"}
    assert (await adapters.request("begin_run", **job, text="It is not "))["offsets"] == 1
    await _lose(server_url, connection)
    seen = await adapters.request("end_run", **job, texts=rest)
    assert set(seen["codes"]) == {"log_lost"}
    if rest:
        assert seen["read"][-1] == {"type": "RUN_ERROR", "message": LOST, "code": "log_lost"}


async def test_a_run_that_has_failed_ends_by_its_lease_when_it_is_not_closed(
    adapters: Driver, server_url: str, connection: LogConnection
) -> None:
    job = {"kind": "ours", "server": server_url, "run": "run-1"}
    await adapters.request("begin_run", **job, text="It is not ", config={"lease_s": 2})
    await _lose(server_url, connection)
    assert (await adapters.request("end_run", **job, texts=["warm."], closes=False))["codes"] == ["log_lost"]
    assert (await _state(server_url, "run-1"))["error"]["code"] == "writer_lost"


async def _lose(server_url: str, connection: LogConnection) -> None:
    """Redis comes back empty, and a renewal creates the feed of the run anew."""
    state = await _state(server_url, "run-1")
    await connection.redis.flushall()
    async with httpx2.AsyncClient(base_url=server_url) as client:
        body = {"lease_s": state["lease_s"], "metadata": state["metadata"]}
        await client.put("/v1/streams/run-1", json=body)


async def test_a_run_that_is_unknown_is_refused_by_name(adapters: Driver, server_url: str) -> None:
    seen = await adapters.request("refusal", kind="ours", server=server_url, run="run-1", offset="-1")
    assert seen["code"] == "unknown_stream"


async def test_misuse_is_refused_with_what_to_write(adapters: Driver) -> None:
    seen = await adapters.request("misuse")
    assert "X-Run-Id" in seen["run"]
    assert "pass {server, token}" in seen["redis"]


async def test_the_types_are_those_of_the_packages(tmp_path: Path) -> None:
    node, modules = require_modules(), FOLDER / "node_modules"
    compiler = modules / "typescript" / "bin" / "tsc"
    if not compiler.exists() or not (modules / "resumable-stream").is_dir():
        lacking("no TypeScript or no resumable-stream: get them with `make compat-modules`")
    (tmp_path / "typed.ts").write_text(TYPED)
    paths = {
        "llm-broadcaster/*": [str(ADAPTERS / "*.d.ts")],
        "resumable-stream/generic": [str(modules / "resumable-stream" / "dist" / "generic.d.ts")],
        "@tanstack/ai": [str(modules / "@tanstack" / "ai" / "dist" / "esm" / "index.d.ts")],
    }
    options = {"strict": True, "noEmit": True, "skipLibCheck": True, "target": "es2022", "lib": ["es2022", "dom"]}
    options |= {"module": "esnext", "moduleResolution": "bundler", "types": [], "paths": paths}
    (tmp_path / "tsconfig.json").write_text(json.dumps({"compilerOptions": options, "files": ["typed.ts"]}))
    await asyncio.to_thread(run, node, str(compiler), cwd=tmp_path)
