"""The JavaScript client in a real browser: the hook for React, a hidden page, and the transport of React Native."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from playwright.async_api import Page, expect

from broadcaster.core import events as ev
from tests.client.conftest import as_log
from tests.clients_js.conftest import FrontEnd
from tests.compat.node_clients import FOLDER, require_modules
from tests.support.servers.browser import open_tabs
from tests.support.servers.sse_server import Exchange, SseServer, frame

LONG = "0123456789" * 30_000


async def bundle() -> str:
    require_modules()
    command = (str(FOLDER / "node_modules/.bin/esbuild"), "page.mjs", "--bundle", "--format=iife", "--log-level=error")
    process = await asyncio.create_subprocess_exec(
        *command,
        '--define:process.env.NODE_ENV="production"',
        cwd=os.path.dirname(__file__),
        env={**os.environ, "NODE_PATH": str(FOLDER / "node_modules")},
        stdout=asyncio.subprocess.PIPE,
    )
    script, _ = await process.communicate()
    assert process.returncode == 0
    return script.decode()


@asynccontextmanager
async def page_of(url: str) -> AsyncIterator[Page]:
    """A page of this server's own origin that has loaded the client."""
    script = await bundle()
    async with open_tabs() as tabs:
        page = (await tabs.open("about:blank")).page
        await page.route(f"{url}/", lambda route: route.fulfill(body="<body>", content_type="text/html"))
        await page.goto(f"{url}/")
        await page.add_script_tag(content=script)
        yield page


async def test_the_hook_shows_the_answer_as_it_grows_and_another_stream_when_it_changes(front_end: FrontEnd) -> None:
    for name in ("gen_1", "gen_2"):
        front_end.world.add(name)
    front_end.world.append("gen_1", ev.TextDelta(id="0", delta="Salt"))
    async with page_of(front_end.url) as page:
        shown = page.get_by_test_id("answer")
        await page.evaluate("show('gen_1', 'a')")
        await expect(shown).to_have_text("running: Salt")
        await expect(shown).to_have_attribute("data-connection", "live")
        await page.evaluate("show('gen_1', 'b')")
        front_end.world.append("gen_1", *(ev.TextDelta(id="0", delta=".") for _ in range(200)))
        await expect(shown).to_have_text("running: Salt" + "." * 200)
        assert await page.evaluate("renderings") < 50
        front_end.world.append("gen_1", ev.Finish())
        await expect(shown).to_have_text("finished: Salt" + "." * 200)
        await expect(shown).to_have_attribute("data-connection", "ended")
        await page.evaluate("show('gen_2', 'b')")
        await expect(shown).to_have_text("queued: ")
        await front_end.until_watched("gen_2")
        await page.evaluate("show(null, 'b')")
        await front_end.until_watched("gen_2", viewers=0)


async def test_the_hook_connects_when_its_token_becomes_a_function(server: SseServer) -> None:
    async def for_users(exchange: Exchange) -> None:
        if exchange.request.headers.get("authorization") == "Bearer a":
            await server.serve()(exchange)
        else:
            await exchange.answer(401, b'{"code": "unauthorized"}')

    server.plans += [for_users] * 2
    async with page_of(server.url) as page:
        shown = page.get_by_test_id("answer")
        await page.evaluate("show('s', null)")
        await expect(shown).to_have_attribute("data-connection", "closed")
        await page.evaluate("show('s', 'a')")
        await expect(shown).to_have_attribute("data-connection", "ended")


async def test_a_hidden_page_reads_on_but_reconnects_only_when_it_is_seen(front_end: FrontEnd) -> None:
    front_end.world.add("gen_1")
    async with page_of(front_end.url) as page:
        await page.evaluate("followHidden('gen_1')")
        await front_end.until_watched("gen_1")
        await page.evaluate("setVisibility('hidden')")
        front_end.world.append("gen_1", ev.TextDelta(id="0", delta="read on, "))
        await page.wait_for_function("answer.state.text === 'read on, '")
        await front_end.services.hub.drain(window_s=0)
        await page.wait_for_function("answer.connection.name === 'reconnecting'")
        delay_ms = await page.evaluate("answer.connection.delayMs")
        # Longer than its delay: in the page's own time, which the test does not spend.
        await page.evaluate("(ms) => new Promise((resolve) => setTimeout(resolve, ms + 100))", delay_ms)
        assert await page.evaluate("connections") == 1
        await page.evaluate("setVisibility('visible')")
        await page.wait_for_function("connections === 2")


async def test_where_fetch_gives_only_whole_bodies_an_xmlhttprequest_reads_and_resumes(front_end: FrontEnd) -> None:
    front_end.world.add("gen_1")
    front_end.world.append("gen_1", *(ev.TextDelta(id="0", delta=LONG) for _ in range(5)))
    async with page_of(front_end.url) as page:
        following = asyncio.create_task(page.evaluate("followNatively('gen_1')"))
        await front_end.until_watched("gen_1")
        front_end.world.append("gen_1", ev.TextDelta(id="0", delta="é end"), ev.Finish())
        async with asyncio.timeout(20):
            assert await following == LONG * 5 + "é end"


async def test_an_event_that_is_longer_than_what_such_a_body_keeps_is_received_at_once(server: SseServer) -> None:
    whole = b"".join(frame(entry) for entry in as_log(ev.TextDelta(id="0", delta=LONG * 5), ev.Finish()))
    goes_on = asyncio.Event()

    async def in_two_portions(exchange: Exchange) -> None:
        await exchange.open_stream()
        await exchange.send(whole[: len(LONG) * 4])
        await goes_on.wait()
        await exchange.send(whole[len(LONG) * 4 :])
        await exchange.end()

    server.plans.append(in_two_portions)
    async with page_of(server.url) as page:
        following = asyncio.create_task(page.evaluate("followNatively('gen_1')"))
        await page.wait_for_function(f"globalThis.received >= {len(LONG) * 4}")
        goes_on.set()
        async with asyncio.timeout(20):
            assert await following == LONG * 5
    assert len(server.requests) == 1
