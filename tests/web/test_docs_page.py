"""The API documentation is this server's own files, Swagger UI in the pinned release, and loads nothing else."""

from __future__ import annotations

import hashlib
from urllib.parse import urlsplit

import httpx2
import pytest
from fastapi import FastAPI
from playwright.async_api import ConsoleMessage, Request, expect

from tests.support.servers.browser import open_tabs
from tests.support.servers.console_modules import CONSOLE

DOCS = CONSOLE.parent / "docs"
# The npm package swagger-ui-dist, 5.35.0: the files as they are in it.
RELEASE = {
    "swagger-ui-bundle.js": "e6a898692f2d768e807c3ba4626068a69a2c5dd960dd6c76f3e4d3a3de180af2",
    "swagger-ui-bundle.js.LICENSE.txt": "37eb6e7e59aed57b2c1acf076574b818ea07b74265717e0bd67b59e0baf9abbb",
    "swagger-ui.css": "5ed08757e53da3e026d6cbecc61fe5d43585c9560b302d534ad56692519a273d",
    "swagger-ui.LICENSE.txt": "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30",
    "swagger-ui.NOTICE.txt": "0d20d1adef18aee3f40dd258172155521ce702ac445cb5f7b7d60ed32dad2fb2",
}
OURS = {"index.html", "docs.js"}


def test_swagger_ui_is_the_pinned_release_with_its_licences() -> None:
    taken = {each.name: hashlib.sha256(each.read_bytes()).hexdigest() for each in DOCS.iterdir()}
    assert {name: digest for name, digest in taken.items() if name not in OURS} == RELEASE
    assert taken.keys() >= OURS


@pytest.mark.parametrize("path", ["/docs", *(f"/docs/{name}" for name in sorted({*RELEASE, "docs.js"}))])
async def test_every_file_is_served_under_a_policy_without_foreign_hosts_or_frames(
    client: httpx2.AsyncClient, path: str
) -> None:
    answer = await client.get(path)
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-cache")
    assert answer.headers["x-content-type-options"] == "nosniff"
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'self';")
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy


async def test_a_browser_shows_every_operation_and_calls_no_other_host(
    app: FastAPI, live_client: httpx2.AsyncClient
) -> None:
    own = live_client.base_url.netloc.decode()
    response: list[str] = []
    content: list[str] = []

    def note_request(request: Request) -> None:
        if urlsplit(request.url).scheme != "data":
            response.append(urlsplit(request.url).netloc)

    def note_console(message: ConsoleMessage) -> None:
        if message.type == "error":
            content.append(message.text)

    operations = sum(len(each) for each in app.openapi()["paths"].values())
    async with open_tabs() as tabs:
        tab = await tabs.open("about:blank")
        tab.page.on("request", note_request)
        tab.page.on("console", note_console)
        await tab.page.goto(f"{live_client.base_url}/docs")
        await expect(tab.page.locator(".opblock")).to_have_count(operations)
        await expect(tab.page.locator("h1.title, h2.title").first).to_contain_text("Broadcaster")
        # An operation opens, with its schema.
        await tab.page.locator("#operations-health-health .opblock-summary-control").click()
        await expect(tab.page.locator("#operations-health-health .responses-wrapper")).to_be_visible()
    assert set(response) == {own}
    assert content == []
