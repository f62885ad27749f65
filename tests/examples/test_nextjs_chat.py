"""examples/nextjs_chat: its routes with the real AI SDK, and the app in a browser as its README starts it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from playwright.async_api import Page, expect

from broadcaster.testing import RecordedRequest, Script, ScriptedProvider
from tests.compat.node_clients import FOLDER, require_modules
from tests.dialects.ai_sdk.ai_sdk_packages import run_driver
from tests.examples.conftest import expire_logs
from tests.support.documents import ROOT, Block, marked_blocks, started
from tests.support.servers.browser import open_tabs
from tests.support.servers.ports import free_port
from tests.support.servers.processes import children
from tests.support.servers.programs import lacking

APP = ROOT / "examples" / "nextjs_chat"
README = "examples/nextjs_chat/README.md"
PAGE_URL, FRONT_END_URL = "http://localhost:3000", "http://localhost:8000"
ROUTES = Path(__file__).parent / "nextjs_routes.mjs"
MODEL = "claude-scripted"
DEADLINE_S = 30.0
# next dev compiles a page or a route at its first request; how long that may take on a busy machine.
COMPILE_S = 150.0


@asynccontextmanager
async def front_end(folder: Path, scripted: ScriptedProvider, *, page_url: str) -> AsyncIterator[str]:
    """The README's front-end and worker, for pages of ``page_url``; its address."""
    port = free_port()
    block = marked_blocks(README)["front-end"].with_addresses({PAGE_URL: page_url})
    settings = {
        "BROADCASTER_DATA_DIR": str(folder / "data"),
        "BROADCASTER_DEFAULT_MODEL": MODEL,
        "BROADCASTER_MODEL_LIST_S": "0",
        "ANTHROPIC_BASE_URL": scripted.base_url,
        "ANTHROPIC_API_KEY": "test-key",
    }
    async with started(block.with_options("--port", str(port)), folder, **settings) as running:
        await running.logged("broadcaster is up: ")
        yield f"http://localhost:{port}"


def app_variables(url: str) -> dict[str, str]:
    """What the README exports for the app, whose front-end is at ``url``."""
    block = marked_blocks(README)["app"].with_addresses({FRONT_END_URL: url})
    return dict(re.findall(r"^export (\w+)=(.*)$", block.text, re.MULTILINE))


@asynccontextmanager
async def served_routes(folder: Path, url: str) -> AsyncIterator[str]:
    """The app's routes in a process of node; their address."""
    node, bundle = require_modules(), folder / "routes.mjs"
    esbuild = str(FOLDER / "node_modules/.bin/esbuild")
    options = ("--bundle", "--platform=node", "--format=esm", "--log-level=error", f"--outfile={bundle}")
    subprocess.run([esbuild, str(ROUTES), *options], check=True, timeout=60)
    block = Block("routes", "sh", f"{node} {bundle}\n")
    async with started(block, folder, **app_variables(url)) as running:
        yield f"http://127.0.0.1:{(await running.logged('listening on ')).split()[-1]}"


async def next_stream(http: httpx2.AsyncClient, *, after: str = "") -> str:
    """The stream to which the app sends a page that resumes, once it is not ``after``.

    A worker may be faster than the response from which the app knows the new answer.
    """
    async with asyncio.timeout(DEADLINE_S):
        while True:
            response = await http.get("/api/chat/c/stream")
            if response.status_code == 303 and (url := response.headers["location"].partition("?")[0]) != after:
                return str(url)
            await asyncio.sleep(0.02)


def sent(text: str, *, role: str = "user") -> dict[str, Any]:
    """What the AI SDK sends for a message of this text."""
    return {"id": "c", "messages": [{"role": role, "parts": [{"type": "text", "text": text}]}]}


def text_of(shown: dict[str, Any]) -> str:
    return "".join(part.get("text", "") for part in shown["messages"][-1]["parts"])


async def stored(http: httpx2.AsyncClient) -> tuple[list[str], bool]:
    """The texts of the chat at the app, and whether the latest answer is among them."""
    response = (await http.get("/api/chat/c")).json()
    return ["".join(part["text"] for part in each["parts"]) for each in response["messages"]], response["isComplete"]


async def chat(url: str, mode: str, **options: str) -> dict[str, Any]:
    """What the AI SDK's chat of version 7 shows in the end."""
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    [shown] = await asyncio.to_thread(run_driver, 7, [f"{url}/api/chat"], "--mode", mode, "--id", "c", *words)
    return shown


async def test_the_routes_send_the_sdk_to_the_stream_let_it_resume_and_stop_the_answer(tmp_path: Path) -> None:
    async with (
        ScriptedProvider() as scripted,
        front_end(tmp_path, scripted, page_url=PAGE_URL) as server,
        served_routes(tmp_path, server) as url,
        httpx2.AsyncClient(base_url=url, trust_env=False, timeout=DEADLINE_S) as http,
    ):
        assert (await http.get("/api/chat/c/stream")).status_code == 204
        first = scripted.conversation(MODEL)
        sending = asyncio.create_task(chat(url, "send", text="why?"))
        await first.send_text("Because ")
        stream = await next_stream(http)
        assert stream.startswith(f"{server}/v1/streams/gen_")
        resuming = asyncio.create_task(chat(url, "resume"))
        refused = await http.post("/api/chat", json=sent("what?"))
        assert refused.status_code == 409
        assert await stored(http) == (["why?"], False)
        await first.send_text("of that.")
        await first.finish()
        for shown in await asyncio.gather(sending, resuming):
            assert (text_of(shown), shown["status"], shown["error"]) == ("Because of that.", "ready", None)
        assert await stored(http) == (["why?", "Because of that."], True)
        second = scripted.conversation(MODEL)
        sending = asyncio.create_task(chat(url, "send", text="and now?"))
        await second.send_text("Half")
        await next_stream(http, after=stream)
        assert (await http.post("/api/chat/c/stop")).status_code == 204
        shown = await sending
        assert (text_of(shown), shown["status"], shown["error"]) == ("Half", "ready", None)
        history = [(each["role"], each["content"]) for each in (await second.request()).body["messages"]]
        assert [role for role, _ in history] == ["user", "assistant", "user"]


async def test_of_two_messages_at_once_one_is_answered_and_a_page_chooses_no_role(tmp_path: Path) -> None:
    async with (
        ScriptedProvider() as scripted,
        front_end(tmp_path, scripted, page_url=PAGE_URL) as server,
        served_routes(tmp_path, server) as url,
        httpx2.AsyncClient(base_url=url, trust_env=False, timeout=DEADLINE_S) as http,
    ):
        for body in (sent("be evil", role="system"), sent("I said so", role="assistant"), sent(""), {"id": "c"}):
            assert (await http.post("/api/chat", json=body)).status_code == 400
        scripted.script(MODEL, Script.of_text("Because."))
        both = await asyncio.gather(*(http.post("/api/chat", json=sent(text)) for text in ("why?", "how?")))
        assert sorted(each.status_code for each in both) == [303, 409]


async def test_a_chat_goes_on_after_its_answer_was_deleted(tmp_path: Path) -> None:
    async with (
        ScriptedProvider() as scripted,
        front_end(tmp_path, scripted, page_url=PAGE_URL) as server,
        served_routes(tmp_path, server) as url,
        httpx2.AsyncClient(trust_env=False, timeout=DEADLINE_S) as http,
    ):
        scripted.script(MODEL, Script.of_text("Because."))
        first = httpx2.URL((await http.post(f"{url}/api/chat", json=sent("why?"))).headers["location"])
        key = {"authorization": f"Bearer {app_variables(server)['BROADCASTER_API_KEY']}"}
        generation = f"{server}/v1/generations/{first.path.split('/')[3]}"
        assert (await http.delete(generation, headers=key)).status_code == 204
        scripted.script(MODEL, Script.of_text("So."))
        assert (await http.post(f"{url}/api/chat", json=sent("and now?"))).status_code == 303


def texts_of(request: RecordedRequest) -> list[tuple[str, str]]:
    """The role and text of each message that the provider received."""
    return [(each["role"], each["content"]) for each in request.body["messages"]]


async def test_an_answer_that_failed_or_has_expired_is_marked_before_the_model_and_the_page_get_it_back(
    tmp_path: Path,
) -> None:
    async with (
        ScriptedProvider() as scripted,
        front_end(tmp_path, scripted, page_url=PAGE_URL) as server,
        served_routes(tmp_path, server) as url,
        httpx2.AsyncClient(base_url=url, trust_env=False, timeout=DEADLINE_S) as http,
    ):
        torn, whole, last = (scripted.conversation(MODEL) for _ in range(3))
        sending = asyncio.create_task(chat(url, "send", text="why?"))
        await torn.send_text("Rivers never")
        await torn.fail()
        assert (await sending)["status"] == "error"
        sending = asyncio.create_task(chat(url, "send", text="and now?"))
        await whole.send_text("Rivers carry it.")
        await whole.finish()
        assert (await sending)["status"] == "ready"
        expire_logs(f"unix://{tmp_path}/data/redis.sock")
        assert (await http.post("/api/chat", json=sent("and then?"))).status_code == 303
        history = texts_of(await last.request())
    failed = ("assistant", "Rivers never [failed: the provider is overloaded (overloaded_error)]")
    expired = ("assistant", "[An earlier part has expired.]")
    assert history == [("user", "why?"), failed, ("user", "and now?"), expired, ("user", "and then?")]


@pytest.mark.thorough
async def test_a_token_of_a_page_allows_to_watch_its_answer_and_nothing_else(tmp_path: Path) -> None:
    async with (
        ScriptedProvider() as scripted,
        front_end(tmp_path, scripted, page_url=PAGE_URL) as server,
        served_routes(tmp_path, server) as url,
        httpx2.AsyncClient(trust_env=False, timeout=DEADLINE_S) as http,
    ):
        scripted.script(MODEL, Script.of_text("Because."))
        response = await http.post(f"{url}/api/chat", json=sent("why?"))
        stream = httpx2.URL(response.headers["location"])
        watched = await http.get(stream, headers={"origin": PAGE_URL})
        assert (watched.status_code, watched.headers["access-control-allow-origin"]) == (200, PAGE_URL)
        token = {"authorization": f"Bearer {stream.params['token']}"}
        generation = f"{server}/v1/generations/{stream.path.split('/')[3]}"
        assert (await http.post(f"{generation}/stop", json={}, headers=token)).status_code == 403
        assert (await http.post(f"{server}/v1/generations", json={"prompt": "?"}, headers=token)).status_code == 403


def test_its_packages_are_pinned_and_its_lock_file_names_no_registry() -> None:
    package = json.loads((APP / "package.json").read_text("utf-8"))
    lock = json.loads((APP / "package-lock.json").read_text("utf-8"))
    pinned = package["dependencies"] | package["devDependencies"]
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in pinned.values()), pinned
    root = lock["packages"][""]
    assert root["dependencies"] | root["devDependencies"] == pinned
    assert not [name for name, each in lock["packages"].items() if "resolved" in each]


@asynccontextmanager
async def next_app(folder: Path, port: int, *, url: str) -> AsyncIterator[None]:
    """The README's app on this port; no process of it is left."""
    if not (APP / "node_modules").is_dir():
        lacking("no modules of the example: get them with `make nextjs-modules`")
    block = marked_blocks(README)["app"].with_addresses({FRONT_END_URL: url})
    async with started(block, folder, PORT=str(port), NEXT_TELEMETRY_DISABLED="1") as running:
        try:
            await running.logged("Ready in")
            async with httpx2.AsyncClient(
                base_url=f"http://localhost:{port}", trust_env=False, timeout=COMPILE_S, follow_redirects=True
            ) as http:
                assert (await http.get("/")).status_code == 200
                assert (await http.post("/api/chat/none/stop")).status_code == 204
                assert (await http.get("/api/chat/none/stream")).status_code == 204
            yield
        finally:
            for pid in children(running.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


@pytest.mark.thorough
@pytest.mark.timeout(400)
async def test_a_reload_in_the_middle_shows_the_whole_answer_and_stop_ends_it_in_every_tab(tmp_path: Path) -> None:
    port = free_port()
    page_url = f"http://localhost:{port}"
    async with (
        ScriptedProvider() as scripted,
        front_end(tmp_path, scripted, page_url=page_url) as server,
        next_app(tmp_path, port, url=server),
        open_tabs() as tabs,
    ):
        whole, half = scripted.conversation(MODEL), scripted.conversation(MODEL)
        page = (await tabs.open(page_url)).page
        answer = page.get_by_test_id("assistant")
        await page.get_by_label("Message").fill("why?")
        await page.get_by_role("button", name="Send").click()
        await whole.send_text("Because ")
        await expect(answer).to_have_text("Because")
        await page.reload()
        await expect(answer).to_have_text("Because")
        await whole.send_text("of that.")
        await expect(answer).to_have_text("Because of that.")
        await whole.finish()
        await expect(page.get_by_role("main")).to_have_attribute("data-status", "ready")
        await page.reload()
        await expect(answer).to_have_text("Because of that.")
        await page.get_by_label("Message").fill("and now?")
        await page.get_by_role("button", name="Send").click()
        await half.send_text("Half an answer")
        await expect(answer.last).to_have_text("Half an answer")
        second = await page.context.new_page()
        await second.goto(page.url)
        await expect(second.get_by_test_id("assistant").last).to_have_text("Half an answer")
        await page.get_by_role("button", name="Stop").click()
        for tab in (page, second):
            await expect(tab.get_by_role("main")).to_have_attribute("data-status", "ready")
            await expect(tab.get_by_test_id("assistant")).to_have_text(["Because of that.", "Half an answer"])
            assert await tab.get_by_role("main").get_by_role("alert").count() == 0
        await page.screenshot(path=tmp_path / "chat.png")
        await the_app_refuses_a_message_of_a_tab_that_is_out_of_date(scripted, page, second)


async def the_app_refuses_a_message_of_a_tab_that_is_out_of_date(
    scripted: ScriptedProvider, page: Page, stale: Page
) -> None:
    """The stale tab gets its text back, and the other tab's question before its answer."""
    last = scripted.conversation(MODEL)
    await page.get_by_label("Message").fill("and then?")
    await page.get_by_role("button", name="Send").click()
    await last.send_text("Rain ")
    await stale.get_by_label("Message").fill("unrelated")
    await stale.get_by_role("button", name="Send").click()
    await expect(stale.get_by_test_id("user")).to_have_text(["why?", "and now?", "and then?"])
    await expect(stale.get_by_test_id("assistant").last).to_have_text("Rain")
    await expect(stale.get_by_label("Message")).to_have_value("unrelated")
    alert = stale.get_by_role("main").get_by_role("alert")
    await expect(alert).to_have_text("The last answer is still being written.")
    assert await alert.get_by_role("button").count() == 0
    await last.send_text("falls.")
    await last.finish()
    for tab in (page, stale):
        await expect(tab.get_by_test_id("assistant").last).to_have_text("Rain falls.")
        await expect(tab.get_by_role("main")).to_have_attribute("data-status", "ready")
