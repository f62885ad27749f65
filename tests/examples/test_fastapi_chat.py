"""examples/fastapi_chat on stock uvicorn with two processes: reloads in the middle, and which user may see what."""

from __future__ import annotations

import asyncio
import json
import signal
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
import redis
from playwright.async_api import Page, expect

from broadcaster.testing import ScriptedProvider
from examples.fastapi_chat.tokens import answer
from tests.examples.conftest import expire_logs
from tests.support.documents import REDIS_URL, marked_blocks, started
from tests.support.log.valkey import ValkeyServer
from tests.support.servers.browser import open_tabs
from tests.support.servers.ports import free_port
from tests.support.servers.processes import Running, children, open_stack, until_dead
from tests.support.watching import Seen, watch

MODEL = "claude-scripted"
# From the last viewer gone to the end of both processes.
END_S = 5.0


@asynccontextmanager
async def chat(server: ValkeyServer, folder: Path, **environment: str) -> AsyncIterator[Running]:
    """The app as its README starts it, on a free port, with its table in ``folder``; no process of it is left."""
    block = marked_blocks("examples/fastapi_chat/README.md")["chat"].with_addresses({REDIS_URL: server.url})
    port = free_port()
    own = {"UVICORN_PORT": str(port), "CHAT_DB": str(folder / "chat.sqlite3"), "SECONDS_PER_WORD": "0.05"}
    async with started(block, folder, **(own | environment)) as running:
        running.url = f"http://127.0.0.1:{port}"
        await running.logged("Application startup complete")
        family = children(running.pid)
        yield running
    await until_dead([running.pid, *family], 10)


@asynccontextmanager
async def signed_in(running: Running, name: str) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(base_url=running.url, trust_env=False) as http:
        assert (await http.post("/login", json={"name": name})).status_code == 204
        yield http


async def start(http: httpx2.AsyncClient, prompt: str) -> str:
    response = await http.post("/chat", json={"prompt": prompt})
    assert response.status_code == 202, response.text
    return str(response.json()["id"])


async def watched(http: httpx2.AsyncClient, stream_id: str, **options: Any) -> Seen:
    """A new connection, which either process may take."""
    cookie = "; ".join(f"{name}={value}" for name, value in http.cookies.items())
    return await watch(f"{http.base_url}/stream", stream_id, query="wait_s=10", cookie=cookie, **options)


def text_of(seen: Seen) -> str:
    events = [json.loads(data) for _, data in seen.entries]
    return "".join(event["delta"] for event in events if event["type"] == "text-delta")


async def whole_answer(prompt: str) -> str:
    return "".join([word async for word in answer(prompt)])


async def test_a_reload_in_the_middle_and_a_second_tab_show_the_whole_answer(
    server: ValkeyServer, tmp_path: Path
) -> None:
    whole = await whole_answer("why?")
    async with chat(server, tmp_path) as running, open_tabs() as tabs:
        page = (await tabs.open(running.url)).page
        await page.get_by_label("Your name").fill("ada")
        await page.get_by_role("button", name="Log in").click()
        await page.get_by_label("Ask something").fill("why?")
        await page.get_by_role("button", name="Send").click()
        await expect(page.get_by_test_id("answer")).to_contain_text("a list of words")
        assert await page.get_by_test_id("answer").text_content() != whole
        await page.reload()
        await expect(page.get_by_test_id("turn")).to_have_attribute("data-state", "open")
        second = await page.context.new_page()
        await second.goto(running.url)
        for tab in (page, second):
            await expect(tab.get_by_test_id("turn")).to_have_attribute("data-state", "finished")
            assert await tab.get_by_test_id("answer").text_content() == whole
        await stopped_in_the_middle(page, second)


async def stopped_in_the_middle(page: Page, other: Page) -> None:
    """Stop, pressed in one tab, ends the answer in every tab."""
    await page.get_by_label("Ask something").fill("and now?")
    await page.get_by_role("button", name="Send").click()
    await expect(page.get_by_test_id("turn")).to_have_count(2)  # it is requested: a tab that loads now finds it
    await other.reload()
    for tab in (page, other):
        await expect(tab.get_by_test_id("turn")).to_have_count(2)
        await expect(tab.get_by_test_id("answer").last).to_contain_text("You asked")
        await expect(tab.get_by_test_id("turn").first).to_have_attribute("data-state", "finished")
    await other.get_by_role("button", name="Stop").click()
    for tab in (page, other):
        await expect(tab.get_by_test_id("note").last).to_have_text("Stopped.")


async def test_an_answer_whose_log_has_expired_is_shown_with_a_note(server: ValkeyServer, tmp_path: Path) -> None:
    async with chat(server, tmp_path, SECONDS_PER_WORD="0.001") as running, open_tabs() as tabs:
        page = (await tabs.open(running.url)).page
        await page.get_by_label("Your name").fill("ada")
        await page.get_by_role("button", name="Log in").click()
        await page.get_by_label("Ask something").fill("why?")
        await page.get_by_role("button", name="Send").click()
        await expect(page.get_by_test_id("turn")).to_have_attribute("data-state", "finished")
        await expect(page.get_by_test_id("note")).to_have_text("")
        expire_logs(server.url)
        await page.reload()
        await expect(page.get_by_test_id("turn")).to_have_attribute("data-state", "finished")
        await expect(page.get_by_test_id("note")).to_have_text("An earlier part has expired.")


async def test_users_watch_their_own_answers_and_no_others(server: ValkeyServer, tmp_path: Path) -> None:
    whole = await whole_answer("why?")
    async with chat(server, tmp_path, SECONDS_PER_WORD="0.02") as running:
        async with signed_in(running, "ada") as ada, signed_in(running, "bob") as bob:
            stream_id = await start(ada, "why?")
            middle = await watched(ada, stream_id, until=lambda seen: len(seen.entries) == 7)
            rest = await watched(ada, stream_id, after=middle.entries[-1][0])
            assert text_of(middle) + text_of(rest) == whole
            assert text_of(await watched(ada, stream_id)) == whole
            assert (await watched(bob, stream_id)).status == 404
            assert (await watch(f"{running.url}/stream", stream_id)).status == 401
            assert (await ada.delete(f"/stream/v1/generations/{stream_id}")).status_code == 405
            assert (await ada.post(f"/stream/v1/streams/{stream_id}/close", json={})).status_code == 404
            assert [question["id"] for question in (await ada.get("/chat")).json()] == [stream_id]
            assert (await bob.get("/chat")).json() == []
            assert (await bob.post(f"/chat/{stream_id}/stop", json={})).status_code == 404


@contextmanager
def failing(write: str, folder: Path) -> Iterator[None]:
    """Every INSERT or UPDATE of the app's table fails."""
    with closing(sqlite3.connect(folder / "chat.sqlite3", timeout=5.0)) as database:
        raising = "SELECT RAISE(FAIL, 'the disk is full')"
        database.execute(f"CREATE TRIGGER failing BEFORE {write} ON questions BEGIN {raising}; END")
        yield
        database.execute("DROP TRIGGER failing")


async def refused(http: httpx2.AsyncClient) -> int:
    """The status of a question that raises: uvicorn then closes the connection, which must serve no other call."""
    return (await http.post("/chat", json={"prompt": "why?"}, headers={"connection": "close"})).status_code


def streams_of(server: ValkeyServer) -> int:
    with redis.Redis.from_url(server.url) as client:
        return len(client.keys("bc:*:meta"))


@pytest.mark.parametrize("environment", [{}, {"CHAT_MODEL": MODEL}], ids=["words", "model"])
async def test_an_answer_whose_question_cannot_be_stored_is_not_begun_and_one_that_is_stored_begins_once(
    environment: dict[str, str], server: ValkeyServer, tmp_path: Path
) -> None:
    async with chat(server, tmp_path, SECONDS_PER_WORD="0.001", **environment) as running:
        async with signed_in(running, "ada") as ada:
            with failing("INSERT", tmp_path):
                assert await refused(ada) == 500
            assert (streams_of(server), (await ada.get("/chat")).json()) == (0, [])
            with failing("UPDATE", tmp_path):
                assert await refused(ada) == 500
            (question,) = (await ada.get("/chat")).json()
            assert (await ada.get("/chat")).json() == [question]
            assert (await ada.post(f"/chat/{question['id']}/stop", json={})).status_code == 204
    assert streams_of(server) == 1


async def test_with_a_model_an_answer_outlives_every_process_of_the_app(server: ValkeyServer, tmp_path: Path) -> None:
    async with (
        ScriptedProvider() as scripted,
        open_stack(tmp_path, redis_url=server.url, provider_url=scripted.base_url) as stack,
    ):
        await stack.worker()
        conversation = scripted.conversation(MODEL)
        async with chat(server, tmp_path, CHAT_MODEL=MODEL) as running, signed_in(running, "ada") as ada:
            stream_id = await start(ada, "why?")
            await conversation.send_text("Because ")
            ends = iter([signal.SIGTERM])

            def end_the_app_once(seen: Seen) -> bool:
                if text_of(seen):
                    for number in ends:
                        running.signal(number)
                return False

            seen = await watched(ada, stream_id, until=end_the_app_once)
            assert seen.notices[-1][0] == "hub.bye"
            async with asyncio.timeout(END_S):
                assert await running.process.wait() == 0
        await conversation.send_text("of that.")
        await conversation.finish()
        async with chat(server, tmp_path, CHAT_MODEL=MODEL) as running, signed_in(running, "ada") as ada:
            last_seen, _ = seen.entries[-1]
            rest = await watched(ada, stream_id, after=last_seen)
    assert text_of(seen) + text_of(rest) == "Because of that."
