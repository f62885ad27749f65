"""The programs, pages and configurations of docs/guides do what the guides say, as they stand there."""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
import subprocess
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import httpx2
import pytest
from playwright.async_api import Page, expect

from broadcaster import Broadcaster
from broadcaster.testing import ScriptedProvider
from tests.examples.conftest import expire_logs
from tests.support.documents import REDIS_URL, ROOT, Block, marked_blocks, run_to_its_end, started
from tests.support.log.valkey import ValkeyServer
from tests.support.servers.browser import open_tabs
from tests.support.servers.nginx import TEMPORARY, Nginx, run_nginx
from tests.support.servers.ports import free_port
from tests.support.servers.processes import Running, children, until_dead
from tests.support.servers.programs import find_program

GUIDES = "docs/guides"
FASTAPI, DATABASE, CELERY = f"{GUIDES}/fastapi.md", f"{GUIDES}/database.md", f"{GUIDES}/celery.md"
AUTHENTICATION, NGINX, MOVING = f"{GUIDES}/authentication.md", f"{GUIDES}/nginx.md", f"{GUIDES}/moving.md"
RUN = {
    FASTAPI: ["app", "page", "serve", "start"],
    DATABASE: ["answers", "webhook"],
    CELERY: ["tasks", "web", "worker", "serve", "page"],
    AUTHENTICATION: ["keys", "caller", "token"],
    NGINX: ["site"],
    MOVING: ["resumable", "sse-starlette"],
}
MODEL = "gpt-5.4-mini"  # of the guide's app
# A process that imports much, on a machine that is busy with other tests.
START_S = 60.0


def block_of(document: str, name: str, **addresses: str) -> Block:
    """A block with a reader's addresses replaced; ``redis`` and ``at`` are the two that guides use."""
    known = {"redis": REDIS_URL, "at": "127.0.0.1:8000", "port": "8080"}
    return marked_blocks(document)[name].with_addresses({known[key]: ours for key, ours in addresses.items()})


@asynccontextmanager
async def uvicorn(block: Block, folder: Path, **environment: str) -> AsyncIterator[Running]:
    """The guide's command, on a free port, in the folder of its program."""
    port = free_port()
    serving = block.with_addresses({"--port 8000": f"--port {port}"}).run_in(folder)
    async with started(serving, folder, **environment) as running:
        running.url = f"http://127.0.0.1:{port}"
        await running.logged("Uvicorn running on", START_S)
        yield running


@asynccontextmanager
async def before(url: str, folder: Path) -> AsyncIterator[Nginx]:
    """An nginx with the guide's file, before the app at this URL."""
    folder.mkdir()
    (folder / "temporary").mkdir()
    port = free_port()
    site = block_of(NGINX, "site", at=url.removeprefix("http://"), port=f"127.0.0.1:{port}").text
    (folder / "site.conf").write_text(site)
    temporary = "".join(f"{each}_temp_path temporary/{each};\n" for each in TEMPORARY)
    (folder / "nginx.conf").write_text(f"events {{}}\nhttp {{\n{temporary}include site.conf;\n}}\n")
    async with run_nginx(folder, plain_port=port, tls_port=port) as nginx:
        yield nginx


def test_every_marked_block_of_the_guides_is_run() -> None:
    marked = {str(path.relative_to(ROOT)): list(marked_blocks(str(path))) for path in ROOT.glob(f"{GUIDES}/*.md")}
    assert {document: names for document, names in marked.items() if names} == RUN


async def test_the_fastapi_guides_page_survives_a_reload_and_shows_others_nothing_also_behind_the_guides_nginx(
    server: ValkeyServer, tmp_path: Path
) -> None:
    (tmp_path / "app.py").write_text(block_of(FASTAPI, "app", redis=server.url).text)
    (tmp_path / "page.html").write_text(block_of(FASTAPI, "page").text)
    async with ScriptedProvider() as scripted:
        variables = {"OPENAI_BASE_URL": scripted.openai_base_url, "OPENAI_API_KEY": "test-key"}
        first, second = scripted.conversation(MODEL), scripted.conversation(MODEL)
        async with uvicorn(block_of(FASTAPI, "serve"), tmp_path, **variables) as app, open_tabs() as tabs:
            async with before(app.url, tmp_path / "nginx") as nginx:
                page = (await tabs.open(nginx.url)).page
                await send_prompt(page, "Why?")
                await first.send_text("Rivers ")
                await shows(page, "Rivers ")
                await page.reload()
                await shows(page, "Rivers ")
                await first.send_text("carry it.")
                await first.finish()
                await shows(page, "Rivers carry it.")
                await expect(page.locator("#stop")).to_be_hidden()
                expire_logs(server.url)
                await page.reload()
                await shows(page, "[An earlier part has expired.] ")
                await shows((await tabs.open(page.url)).page, " [no longer stored]")
                await send_prompt(page, "And now?")
                await second.send_text("It ")
                await shows(page, "It ")
                await page.get_by_role("button", name="Stop").click()
                await shows(page, "It  [stopped]")
                await app.end()
                async with httpx2.AsyncClient(base_url=nginx.url, trust_env=False) as http:
                    response = await http.get("/llm/v1/streams/any/events")
        assert (response.status_code, response.headers["content-type"]) == (200, "text/event-stream")
        assert "event: hub.bye\nretry: 2000\n" in response.text
        assert '/llm/v1/streams/any/events" 200' in (nginx.folder / "access.log").read_text()


async def send_prompt(page: Page, prompt: str) -> None:
    await page.get_by_label("Ask something").fill(prompt)
    await page.get_by_role("button", name="Send").click()


async def shows(page: Page, text: str) -> None:
    """The answer is exactly this text, spaces included."""
    await page.wait_for_function("text => document.getElementById('answer').textContent === text", arg=text)


async def test_the_snippets_of_the_guides_start_generations(server: ValkeyServer) -> None:
    async with Broadcaster.from_url(server.url, webhook_hosts="app.example") as broadcaster:
        names: dict[str, Any] = {"broadcaster": broadcaster, "prompt": "Why?"}
        await run_here(block_of(FASTAPI, "start").text, names)
        generation = await broadcaster.get(names["stream_id"])
        assert generation.status == "queued"
        await run_here(block_of(DATABASE, "webhook").text, names)


async def run_here(text: str, names: dict[str, Any]) -> None:
    """Lines that await, on this loop."""
    body = "\n    ".join(text.strip().split("\n"))
    exec(f"async def run():\n    {body}\n    return locals()", names)
    names |= await names["run"]()


async def test_the_database_guides_program_stores_its_answer_and_settles_those_of_lost_processes(
    server: ValkeyServer, tmp_path: Path
) -> None:
    program = block_of(DATABASE, "answers", redis=server.url).run_in(tmp_path)
    printed = "[('ann', 'finished', 'Rivers carry it there.')]\n"
    assert await run_to_its_end(program, tmp_path) == printed
    async with Broadcaster.from_url(server.url) as broadcaster:
        await broadcaster.publish(["Gone."], id="textless")
        expire_logs(server.url)
        await broadcaster.publish(["Old."], id="ended")
        async with broadcaster.feed("open", close=False) as feed:
            await feed.text("So far")
        with closing(sqlite3.connect(tmp_path / "answers.sqlite3")) as database, database:
            rows = [(id, "ann", "why", "open", "", "[]", 0.0) for id in ("ended", "open", "expired", "textless")]
            rows.append(("begins", "ann", "why", "open", "", "[]", time.time()))
            database.executemany("INSERT INTO answers VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
        assert await run_to_its_end(program, tmp_path) == printed
    with closing(sqlite3.connect(tmp_path / "answers.sqlite3")) as database:
        stored = database.execute(
            "SELECT id, status, text FROM answers WHERE user = 'ann' AND length(id) < 9"
        ).fetchall()
    assert stored == [
        ("ended", "finished", "Old."),
        ("open", "open", ""),
        ("expired", "lost", ""),
        ("textless", "lost", ""),
        ("begins", "open", ""),
    ]


@pytest.mark.thorough  # tests/examples/test_celery_progress.py is the same in `make test`
async def test_the_celery_guides_task_moves_the_bar_of_its_page_and_of_no_other_users(
    server: ValkeyServer, tmp_path: Path
) -> None:
    # Celery writes the URL of a unix socket its own way.
    as_celery = {"broker=REDIS_URL": 'broker=REDIS_URL.replace("unix://", "redis+socket://")'}
    (tmp_path / "tasks.py").write_text(block_of(CELERY, "tasks", redis=server.url).with_addresses(as_celery).text)
    (tmp_path / "web.py").write_text(block_of(CELERY, "web").text)
    (tmp_path / "page.mjs").write_text(block_of(CELERY, "page").text)
    async with started(block_of(CELERY, "worker").run_in(tmp_path), tmp_path) as worker:
        async with (
            uvicorn(block_of(CELERY, "serve"), tmp_path) as web,
            httpx2.AsyncClient(base_url=web.url, trust_env=False, timeout=30) as http,
        ):
            await worker.logged(" ready.", START_S)
            family = children(worker.pid)
            begun = await http.post("/films", json={"film": "sunrise"}, headers={"x-user": "ann"})
            events_url = begun.json()["events_url"]
            stream = await http.get(events_url, headers={"x-user": "ann"})
            other = await http.get(events_url, headers={"x-user": "bob"})
    await until_dead([worker.pid, *family], 10)
    assert (begun.status_code, stream.status_code, other.status_code) == (202, 200, 404)
    events = re.findall(r"^data: (\{\"type\".*)$", stream.text, re.MULTILINE)
    assert drawn(tmp_path, events) == {"max": 30, "value": 30, "label": "/films/sunrise.mp4", "isClosed": True}


def test_the_celery_guides_page_reports_a_result_that_is_no_longer_stored(tmp_path: Path) -> None:
    (tmp_path / "page.mjs").write_text(block_of(CELERY, "page").text)
    expected = {"label": "an earlier part is no longer stored", "isClosed": True}
    assert drawn(tmp_path, ['{"type":"finish","finishReason":"stop"}'], gap='{"reason":"expired"}') == expected


def test_the_celery_guides_page_waits_for_a_task_that_is_queued_for_longer_than_a_request_waits(tmp_path: Path) -> None:
    (tmp_path / "page.mjs").write_text(block_of(CELERY, "page").text)
    events = ['{"type":"data-progress","data":{"done":1,"total":2,"message":"frame 1"}}']
    begun = {"max": 2, "value": 1, "label": "frame 1"}
    assert drawn(tmp_path, events, not_found=2) == begun | {"seen": ["waiting", "waiting"]}
    assert drawn(tmp_path, events, not_found=2, closes=True) == begun | {
        "label": "no longer stored",
        "seen": ["waiting", "waiting"],
    }


def drawn(folder: Path, events: list[str], *, gap: str | None = None, not_found: int = 0, closes: bool = False) -> Any:
    """The bar and label of the guide's page after these events, under node.

    ``not_found``: so many requests before were answered with 404. ``closes``: so is the one after the events.
    """
    program = f"""
import {{ showProgress }} from "./page.mjs";
let source;
globalThis.EventSource = class extends EventTarget {{
  static CLOSED = 2;
  constructor() {{ super(); source = this; }}
  close() {{ this.isClosed = true; }}
}};
globalThis.setTimeout = (open) => open();
const refuse = () => {{ source.readyState = 2; source.onerror(); }};
const bar = {{}}, label = {{}}, seen = [];
showProgress("/", bar, label);
for (let refused = 0; refused < {not_found}; refused += 1) {{ refuse(); seen.push(label.textContent); }}
if ({json.dumps(gap)}) source.dispatchEvent(new MessageEvent("hub.gap", {{ data: {json.dumps(gap)} }}));
if (source.readyState !== EventSource.CLOSED) for (const data of {json.dumps(events)}) source.onmessage({{ data }});
if ({json.dumps(closes)}) refuse();
const waited = seen.length ? {{ seen }} : {{}};
console.log(JSON.stringify({{ ...bar, ...waited, label: label.textContent, isClosed: source.isClosed }}));
"""
    (folder / "run.mjs").write_text(program)
    node = find_program("node", remedy="install it, e.g. apt install nodejs")
    return json.loads(subprocess.check_output([node, "run.mjs"], cwd=folder, text=True, timeout=60))


async def test_the_authentication_guides_key_is_known_and_its_token_opens_one_stream(
    server: ValkeyServer, tmp_path: Path
) -> None:
    at = f"127.0.0.1:{free_port()}"
    port = ("--port", at.partition(":")[2])
    variables = {"BROADCASTER_REDIS_URL": server.url}
    async with started(block_of(AUTHENTICATION, "keys").with_options(*port), tmp_path, **variables) as front_end:
        await front_end.logged(at, START_S)
        async with httpx2.AsyncClient(base_url=f"http://{at}", trust_env=False) as http:
            async with asyncio.timeout(START_S):
                while not await is_ready(http):
                    await asyncio.sleep(0.05)
            caller = json.loads(await run_to_its_end(block_of(AUTHENTICATION, "caller", at=at), tmp_path))
            assert caller["tenant"] == "web"
            (key,) = re.findall(r"Bearer (\S+?)\"", block_of(AUTHENTICATION, "caller").text)
            for stream_id in ("job-42", "job-43"):
                await http.put(f"/v1/streams/{stream_id}", json={}, headers={"authorization": f"Bearer {key}"})
            events_url = (await run_to_its_end(block_of(AUTHENTICATION, "token", at=at), tmp_path)).strip()
            for url, status in ((events_url, 200), (events_url.replace("job-42", "job-43"), 403)):
                async with http.stream("GET", url) as response:
                    assert response.status_code == status


async def is_ready(http: httpx2.AsyncClient) -> bool:
    try:
        return (await http.get("/readyz")).status_code == 200
    except httpx2.TransportError:
        return False


MY_APP = """
from collections.abc import AsyncIterator
from itertools import count
from typing import Annotated
from fastapi import Cookie, Depends

calls = count(1)

def signed_in(user: Annotated[str, Cookie()]) -> str:
    return user

User = Annotated[str, Depends(signed_in)]

async def answer(prompt: str) -> AsyncIterator[str]:
    yield f"{prompt} {next(calls)}"
"""


async def test_the_route_that_moved_from_sse_starlette_joins_an_answer_of_its_user_alone(
    server: ValkeyServer, tmp_path: Path
) -> None:
    moved = after_diff(block_of(MOVING, "sse-starlette", redis=server.url).text)
    (tmp_path / "my_app.py").write_text(MY_APP)
    (tmp_path / "app.py").write_text(moved)
    serving = Block("uvicorn", "sh", "uvicorn app:app --port 8000\n")
    async with (
        uvicorn(serving, tmp_path) as app,
        httpx2.AsyncClient(base_url=app.url, trust_env=False) as http,
    ):
        seen = []
        id = uuid.uuid4()
        for user, own in (("me", f"{id}"), ("me", f"{id}"), ("you", f"{id}"), ("me:you", f"{id}"), ("me", f"you:{id}")):
            response = await http.get(f"/ask?prompt=why&id={own}", headers={"cookie": f"user={user}"})
            seen.append(re.findall(r'"delta":"(.*?)"', response.text))
    assert seen == [["why 1"], ["why 1"], ["why 2"], ["why 3"], []]


def test_the_imports_that_replace_resumable_stream_are_those_of_the_clients_guide() -> None:
    lines = [line for line in after_diff(block_of(MOVING, "resumable").text).split("\n") if line]
    assert len(lines) == 2
    text = (ROOT / "docs/javascript.md").read_text("utf-8")
    assert all(line in text for line in lines)


def after_diff(diff: str) -> str:
    """The text with the lines that the diff adds, without those that it takes away."""
    lines = diff.rstrip("\n").split("\n")
    assert all(not line or line[0] in "+- " for line in lines)
    return "\n".join(line[1:] for line in lines if not line.startswith("-")) + "\n"
