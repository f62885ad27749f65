"""A rolling upgrade: workers and front-ends of two versions over one Redis (docs/protocol.md §8), and the way back.

The other version is the code of an earlier commit, run as it was.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from broadcaster.client import AsyncClient
from broadcaster.log.redis.connect import LogConnection
from broadcaster.log.streams.reader import Streams
from broadcaster.testing import Script, ScriptedProvider, Send, wire
from tests.support.servers.processes import Stack
from tests.support.versions import unpack
from tests.support.watching import Seen, watch

MODEL = "claude-scripted"

# The parent of what is tested, and the first version of log format 1. The latter moves on with FORMAT_VERSION.
EARLIER = {"the commit before": "HEAD^", "the first of this format": "d302cfc2563c0563fcdc8805d7cbe31347ac4004"}

THE_OTHER_WORKER = "the worker is of the other version"
THE_OTHER_FRONT_END = "the front-end is of the other version"

Versions = tuple[Path | None, Path | None]
"""Where the code of the older part, and of the newer part, is; None: here."""


@pytest.fixture(scope="session", params=list(EARLIER.values()), ids=list(EARLIER))
def earlier(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The code of an earlier version."""
    folder = unpack(request.param, tmp_path_factory.mktemp("earlier"))
    if folder is None:
        pytest.skip(f"this checkout has no history with {request.param}: git fetch --unshallow")
    return folder


@pytest.fixture(params=["upgrade", "way back"])
def versions(request: pytest.FixtureRequest, earlier: Path) -> Versions:
    """(what runs first, what replaces it)."""
    return (earlier, None) if request.param == "upgrade" else (None, earlier)


def rich_answer() -> Script:
    """Reasoning, text, a tool call: every kind of part."""
    return Script(
        Send(
            *wire.message(
                wire.thinking("Let me ", "see."),
                wire.text("It is ", "raining ", "in Paris — ☂."),
                wire.tool_use("get_weather", "", '{"city": ', '"Paris"}'),
                stop_reason="tool_use",
            )
        )
    )


def types(seen: Seen | Sequence[tuple[str, str]]) -> list[str]:
    entries = seen.entries if isinstance(seen, Seen) else seen
    return [json.loads(data)["type"] for _, data in entries]


@pytest.mark.parametrize("other", [THE_OTHER_WORKER, THE_OTHER_FRONT_END])
async def test_a_worker_of_one_version_and_a_front_end_of_the_next_keep_every_promise_of_a_stream(
    stack: Stack, scripted: ScriptedProvider, connection: LogConnection, earlier: Path, other: str
) -> None:
    scripted.script(MODEL, rich_answer())
    worker_code, front_end_code = (earlier, None) if other == THE_OTHER_WORKER else (None, earlier)
    await stack.of(worker_code).worker()
    front_end = await stack.of(front_end_code).front_end()
    async with AsyncClient(front_end.url) as client:
        generation = await client.start("how is the weather?")
        await _until_begun(connection, generation.id)
        whole = await watch(front_end.url, generation.id)
        final = await client.get(generation.id, wait_s=5)
        assert (final.status, final.text, final.attempt) == ("finished", "It is raining in Paris — ☂.", 1)
        assert final.reasoning == "Let me see."
        assert [part["input"] for part in final.parts if "input" in part] == [{"city": "Paris"}]
        assert final.usage is not None
        assert types(whole)[-1] == "finish"
        for k, (id, _) in enumerate(whole.entries[:-1]):
            assert (await watch(front_end.url, generation.id, after=id)).entries == whole.entries[k + 1 :]

        conversation = scripted.conversation(MODEL)
        stopped = await client.start("and tomorrow?")
        await conversation.send_text("Perhaps ")
        request = await conversation.request()
        await client.stop(stopped.id)
        await request.wait_disconnected()
        assert (await client.get(stopped.id, wait_s=5)).status == "aborted"


async def test_two_front_ends_of_different_versions_send_the_same_bytes(
    stack: Stack, scripted: ScriptedProvider, connection: LogConnection, earlier: Path
) -> None:
    scripted.script(MODEL, rich_answer())
    await stack.worker()
    ours, theirs = await stack.front_end(), await stack.of(earlier).front_end()
    async with AsyncClient(ours.url) as client:
        generation = await client.start("hi")
        await _until_begun(connection, generation.id)
        seen = await asyncio.gather(*(watch(each.url, generation.id) for each in (ours, theirs)))
    assert seen[0].entries == seen[1].entries
    assert types(seen[0])[-1] == "finish"


async def test_a_rolling_upgrade_loses_nothing_of_an_answer_that_runs_through_it(
    stack: Stack, scripted: ScriptedProvider, connection: LogConnection, versions: Versions
) -> None:
    before, after = versions
    torn, whole = scripted.conversation(MODEL), scripted.conversation(MODEL)
    first_worker = await stack.of(before).worker(drain_s=0)
    first_front_end = await stack.of(before).front_end(drain_window_s=0)
    async with AsyncClient(first_front_end.url) as client:
        generation = await client.start("hi")
        # It watches while processes start: on a busy machine each takes seconds.
        viewer = asyncio.create_task(watch(first_front_end.url, generation.id, timeout_s=90))
    await torn.send_text("torn ")
    await _until_in_log(connection, generation.id, "torn ")

    second_front_end = await stack.of(after).front_end()
    await stack.of(after).worker()
    assert await first_worker.end() == 0, first_worker.log.read_text()[-3000:]
    await whole.send_text("the whole answer")
    await _until_in_log(connection, generation.id, "the whole answer")
    assert await first_front_end.end() == 0
    seen = await viewer
    await whole.finish()
    last_id = seen.entries[-1][0]
    rest = await watch(second_front_end.url, generation.id, after=last_id)

    entries = seen.entries + rest.entries
    assert [int(id.partition("-")[2]) for id, _ in entries] == list(range(1, len(entries) + 1))
    assert "hub.gap" not in {name for name, _ in seen.notices + rest.notices}
    assert types(entries).count("attempt") == 1
    assert [kind for kind in types(entries) if kind in ("finish", "error", "abort")] == ["finish"]
    async with AsyncClient(second_front_end.url) as client:
        final = await client.get(generation.id, wait_s=5)
    assert (final.status, final.text, final.attempt) == ("finished", "the whole answer", 2)
    second = await watch(second_front_end.url, generation.id)
    assert second.entries == entries


async def _until_begun(connection: LogConnection, stream_id: str) -> None:
    """Earlier versions took a stream that began and ended between two checks for one that was trimmed."""
    await _until_in_log(connection, stream_id, "")


async def _until_in_log(connection: LogConnection, stream_id: str, text: str) -> None:
    streams = Streams(connection)
    async with asyncio.timeout(20):
        while not any(text.encode() in each.event for each in await streams.read(stream_id)):
            await asyncio.sleep(0.01)
