"""examples/django_reports on stock uvicorn: a report's progress in its user's page, and for that user alone."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest
from playwright.async_api import expect

from tests.support.documents import REDIS_URL, ROOT, marked_blocks, started
from tests.support.log.valkey import ValkeyServer
from tests.support.servers.browser import open_tabs
from tests.support.servers.ports import free_port
from tests.support.servers.processes import Running, until_dead
from tests.support.servers.programs import lacking

DEADLINE_MS = 20_000
PACKAGES = ROOT / ".venv" / "hosts"


@pytest.fixture
async def site(server: ValkeyServer, tmp_path: Path) -> AsyncIterator[Running]:
    """The site as its README starts it, on a free port."""
    if not PACKAGES.is_dir():
        lacking("no Django here: get it with `make hosts`")
    block = marked_blocks("examples/django_reports/README.md")["site"].with_addresses({REDIS_URL: server.url})
    port = free_port()
    path = os.pathsep.join(map(str, (ROOT, PACKAGES)))
    async with started(block, tmp_path, UVICORN_PORT=str(port), PYTHONPATH=path, SECONDS_PER_PAGE="0.05") as running:
        running.url = f"http://127.0.0.1:{port}"
        await running.logged("Application startup complete")
        yield running
    await until_dead([running.pid], 10)


async def test_a_report_shows_its_progress_to_the_user_who_started_it_and_to_no_other(site: Running) -> None:
    async with open_tabs() as tabs:
        page = (await tabs.open(site.url)).page
        await page.fill("input[name=user]", "ada")
        await page.click("text=Sign in")
        async with page.expect_response("**/reports") as reported:
            await page.click("text=Write a report")
        events_url = (await (await reported.value).json())["events_url"]
        await expect(page.locator("#line")).to_have_text("The report is ready.", timeout=DEADLINE_MS)
        assert await page.locator("progress").get_attribute("value") == "1"
        # An image of a foreign page sends such requests, with the user's cookie and without a CSRF token.
        by_get = [(await page.context.request.get(f"{site.url}/{path}")).status for path in ("reports", "login")]
        assert by_get == [405, 405]
    async with httpx2.AsyncClient(base_url=site.url) as anyone:
        refused = await anyone.get(events_url)
        assert (refused.status_code, refused.json()["code"]) == (404, "unknown_stream")
        assert (await anyone.get("/live/v1/streams")).status_code == 404
