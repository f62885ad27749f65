"""A page on another port, in a real browser, as README shows: it generates, watches, stops and reads errors."""

from __future__ import annotations

import asyncio
from pathlib import Path

from fastapi import FastAPI

from broadcaster.core import events as ev
from broadcaster.settings import Settings
from broadcaster.web.app import create_app
from broadcaster.web.services import Services
from tests.support.memory.memory_world import MemoryWorld
from tests.support.servers.browser import open_tabs
from tests.support.servers.front_end import served
from tests.support.servers.programs import find_program

NODE = Path(__file__).parents[2] / "compat" / "node"
PAGE = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 18\r\nconnection: close\r\n\r\n<title>App</title>"
)
WATCH = """async (server) => {
  const headers = { "content-type": "application/json", "x-stainless-lang": "js", "idempotency-key": "once" };
  const asked = await fetch(`${server}/v1/generations`, { method: "POST", headers, body: '{"prompt": "Why?"}' });
  const { id } = await asked.json();
  const text = await new Promise((resolve, reject) => {
    const events = new EventSource(`${server}/v1/streams/${id}/events`);
    let text = "";
    events.onmessage = ({ data }) => {
      const event = JSON.parse(data);
      if (event.type === "text-delta") text += event.delta;
      if (event.type === "finish") { events.close(); resolve(text); }
    };
    events.onerror = () => reject(new Error("the stream is blocked"));
  });
  const stop = await fetch(`${server}/v1/generations/${id}/stop`, { method: "POST" });
  const missing = await fetch(`${server}/v1/generations/gen_none`);
  return [text, asked.headers.get("x-request-id") !== null, stop.status, missing.status, (await missing.json()).code];
}"""
BLOCKED = "async (server) => { try { return (await fetch(`${server}/healthz`)).status; } catch { return 'blocked'; } }"


async def answer_with_page(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(PAGE)
    await writer.drain()
    writer.close()


async def _bundle() -> str:
    """README's lines and the packages that they import, as one script for a browser."""
    esbuild = find_program(str(NODE / "node_modules/.bin/esbuild"), remedy="run make compat-modules")
    arguments = ("browser_page.mjs", "--bundle", "--format=iife", "--platform=browser", "--log-level=error")
    process = await asyncio.create_subprocess_exec(esbuild, *arguments, cwd=NODE, stdout=asyncio.subprocess.PIPE)
    script, _ = await process.communicate()
    assert process.returncode == 0
    return script.decode()


async def test_a_listed_page_on_another_port_calls_watches_and_reads_errors_and_an_unlisted_one_does_not(
    services: Services, world: MemoryWorld
) -> None:
    pages = await asyncio.start_server(answer_with_page, "127.0.0.1", 0)
    port = pages.sockets[0].getsockname()[1]
    listed, other = f"http://localhost:{port}", f"http://127.0.0.1:{port}"
    app: FastAPI = create_app(Settings.model_validate({"cors_origins": listed}), services=services)
    world.on_create = lambda id: world.append(id, ev.TextDelta(id="0", delta="Salt."), ev.Finish(finish_reason="stop"))
    async with pages, served(app, services) as client, open_tabs() as tabs:
        server = str(client.base_url).rstrip("/")
        tab = await tabs.open(listed)
        assert await tab.page.evaluate(WATCH, server) == ["Salt.", True, 202, 404, "unknown_stream"]
        await tab.page.add_script_tag(content=await _bundle())
        for version in (6, 7):
            assert await tab.page.evaluate("([version, server]) => chat(version, server)", [version, server]) == "Salt."
        assert await tab.page.evaluate("(server) => run(server)", server) == "Salt."
        tab = await tabs.open(other)
        assert await tab.page.evaluate(BLOCKED, server) == "blocked"
