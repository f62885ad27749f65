"""The programs and commands of the documents do what the text describes, as they stand there."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import cast

import httpx2
import pytest

from broadcaster import Broadcaster
from broadcaster.client import EntryReceived
from broadcaster.core.requests.stream_ids import LOCAL_TENANT
from broadcaster.log.redis.connect import LogConnection
from broadcaster.testing import Script, ScriptedProvider
from tests.support.documents import REDIS_URL, ROOT, Block, marked_blocks, run_to_its_end, started
from tests.support.log.valkey import ValkeyServer
from tests.support.servers.ports import free_port
from tests.support.servers.processes import open_stack

DOCUMENTS = sorted(str(path.relative_to(ROOT)) for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")))
# What the programs print, as patterns, a line each; those of other names have a test of their own below.
PRINTED = {
    ("README.md", "library"): [r"EntryReceived\(.*data-progress.*", r"EntryReceived\(.*Finish\(.*"],
    ("docs/publishing.md", "answer"): ["Rivers ", r"carry it there\."],
}
BLOCKING = "docs/publishing.md"
OTHERS = {
    ("README.md", "server"),
    (BLOCKING, "sync"),
    ("docs/library.md", "mount"),
    ("docs/hosts.md", "guard"),
    (BLOCKING, "generation"),
    (BLOCKING, "client"),
    (BLOCKING, "http-feed"),
    ("docs/tokens.md", "follow"),
    *(("docs/webhooks.md", name) for name in ("verify", "verify-plain")),
    *(("docs/testing.md", name) for name in ("fixtures", "app", "app-test")),
    *(("docs/tutorial.md", name) for name in ("up", "ask", "list", "watch", "resume", "feed")),
}
# What docs/publishing.md calls the reader's front-end.
FRONT_END_URL = "http://localhost:8000"
NO_PROVIDER = "http://127.0.0.1:1"


def test_every_marked_block_is_run() -> None:
    marked = {(document, name) for document in DOCUMENTS for name in marked_blocks(document)}
    assert marked == PRINTED.keys() | OTHERS


@pytest.mark.parametrize(("document", "name"), PRINTED)
async def test_a_program_prints_what_it_should(server: ValkeyServer, tmp_path: Path, document: str, name: str) -> None:
    logged = await run_to_its_end(marked_blocks(document)[name].with_addresses({REDIS_URL: server.url}), tmp_path)
    lines = logged.split("\n")[:-1]
    assert len(lines) == len(PRINTED[document, name])
    assert all(map(re.fullmatch, PRINTED[document, name], lines)), logged


async def test_the_events_of_the_sync_publisher_are_in_the_log_at_each_run(
    server: ValkeyServer, tmp_path: Path
) -> None:
    snippet = marked_blocks(BLOCKING)["sync"].with_addresses({REDIS_URL: server.url})
    for _ in range(2):
        await run_to_its_end(snippet, tmp_path)
    async with LogConnection(server.url) as connection:
        members = await connection.redis.zrange(connection.keys.recent_feeds(LOCAL_TENANT), 0, -1)
        listed = [each.decode() for each in cast(list[bytes], members)]
    assert len(listed) == 2
    async with Broadcaster.from_url(server.url) as broadcaster:
        for each in listed:
            found = [got async for got in broadcaster.events(each) if isinstance(got, EntryReceived)]
            assert [got.data["done"] for got in found[:-1]] == [1, 2, 3]
            assert found[-1].type == "finish"


async def test_the_command_of_the_server_prints_the_answer(server: ValkeyServer, tmp_path: Path) -> None:
    async with (
        ScriptedProvider() as scripted,
        open_stack(
            tmp_path, redis_url=server.url, provider_url=scripted.base_url, default_model="claude-scripted"
        ) as stack,
    ):
        scripted.script("claude-scripted", Script.of_text("Rivers ", "carry it ", "there."))
        front_end, _ = await asyncio.gather(stack.front_end(), stack.worker())
        logged = await run_to_its_end(marked_blocks("README.md")["server"], tmp_path, BROADCASTER_URL=front_end.url)
    assert "Rivers carry it there." in logged


@pytest.mark.parametrize(
    ("name", "printed"),
    [("generation", "finished Rivers carry it there.\n"), ("client", "Rivers \ncarry it \nthere.\nfinished\n")],
)
async def test_blocking_programs_get_an_answer_of_a_worker(
    server: ValkeyServer, tmp_path: Path, name: str, printed: str
) -> None:
    async with (
        ScriptedProvider() as scripted,
        open_stack(
            tmp_path, redis_url=server.url, provider_url=scripted.base_url, default_model="claude-scripted"
        ) as stack,
    ):
        scripted.script("claude-scripted", Script.of_text("Rivers ", "carry it ", "there."))
        front_end, _ = await asyncio.gather(stack.front_end(), stack.worker())
        block = marked_blocks(BLOCKING)[name].with_addresses({REDIS_URL: server.url, FRONT_END_URL: front_end.url})
        logged = await run_to_its_end(block, tmp_path, BROADCASTER_DEFAULT_MODEL="claude-scripted")
    assert logged == printed


async def test_a_job_reports_its_progress_over_http(server: ValkeyServer, tmp_path: Path) -> None:
    async with open_stack(tmp_path, redis_url=server.url, provider_url=NO_PROVIDER) as stack:
        front_end = await stack.front_end()
        block = marked_blocks(BLOCKING)["http-feed"].with_addresses({FRONT_END_URL: front_end.url})
        await run_to_its_end(block, tmp_path)
    async with Broadcaster.from_url(server.url) as broadcaster:
        found = [got async for got in broadcaster.events("nightly-copy") if isinstance(got, EntryReceived)]
    assert [got.data["done"] for got in found[:-1]] == [1, 2, 3]
    assert found[-1].type == "finish"


MY_TABLES = """
from collections.abc import AsyncIterator
from typing import Annotated
from fastapi import Cookie, HTTPException

class Database:
    def __init__(self) -> None:
        self._owners: dict[str, str] = {}

    def owner_of(self, id: str) -> str | None:
        return self._owners.get(id)

    def set_owner(self, id: str, user: str) -> None:
        self._owners[id] = user

database = Database()

def signed_in(user: Annotated[str, Cookie()] = "") -> str:
    if user not in ("me", "you"):
        raise HTTPException(401)
    return user

async def answer(prompt: str) -> AsyncIterator[str]:
    yield prompt
"""


async def test_the_app_of_the_librarys_guide_shows_an_answer_to_its_owner_alone(
    server: ValkeyServer, tmp_path: Path
) -> None:
    (tmp_path / "my_app.py").write_text(MY_TABLES)
    block = marked_blocks("docs/library.md")["mount"].with_addresses({REDIS_URL: server.url})
    (tmp_path / "guide_app.py").write_text(block.text)
    port = free_port()
    serving = Block("uvicorn", "sh", f"uvicorn --app-dir {tmp_path} --port {port} guide_app:app\n")
    url = f"http://127.0.0.1:{port}"
    async with started(serving, tmp_path) as running, httpx2.AsyncClient(base_url=url, trust_env=False) as http:
        await running.logged("Uvicorn running on")
        response = await http.post("/ask?prompt=why", headers={"cookie": "user=me"})
        events_url = response.json()["events_url"]
        mine = await http.get(events_url, headers={"cookie": "user=me"})
        assert (mine.status_code, '"delta":"why"' in mine.text) == (200, True)
        for other, status in (("user=you", 404), ("user=nobody", 401)):
            assert (await http.get(events_url, headers={"cookie": other})).status_code == status
        paths = (await http.get("/openapi.json")).json()["paths"]
    assert {method for path in paths.values() for method in path} == {"get", "post"}
    assert [path for path, methods in paths.items() if "post" in methods] == ["/ask"]


MY_SESSIONS = """
owner_of = {"report-1": "ann"}.get
user_of = {"session-of-ann": "ann", "session-of-bob": "bob"}.get
"""


async def test_the_guard_of_the_page_on_hosts_shows_a_stream_to_its_owner_alone(
    server: ValkeyServer, tmp_path: Path
) -> None:
    (tmp_path / "my_app.py").write_text(MY_SESSIONS)
    block = marked_blocks("docs/hosts.md")["guard"].with_addresses({REDIS_URL: server.url})
    (tmp_path / "guarded_app.py").write_text(f"{block.text}\napp = broadcaster.asgi(can_watch=can_watch)\n")
    async with Broadcaster.from_url(server.url) as broadcaster:
        for stream_id in ("report-1", "report-without-an-owner"):
            async with broadcaster.feed(stream_id) as feed:
                await feed.text("why")
    port = free_port()
    serving = Block("uvicorn", "sh", f"uvicorn --app-dir {tmp_path} --port {port} guarded_app:app\n")
    url = f"http://127.0.0.1:{port}/v1/streams"
    async with started(serving, tmp_path) as running, httpx2.AsyncClient(trust_env=False) as http:
        await running.logged("Uvicorn running on")
        for session, status in (("session=session-of-ann", 200), ("session=session-of-bob", 404), ("", 404)):
            seen = await http.get(f"{url}/report-1", headers={"cookie": session})
            assert (session, seen.status_code) == (session, status)
            unowned = await http.get(f"{url}/report-without-an-owner", headers={"cookie": session})
            assert (session, unowned.status_code) == (session, 404)
