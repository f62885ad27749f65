"""What the page shows after the key of another tenant was entered in the same tab."""

from __future__ import annotations

import json

from playwright.async_api import Route, expect

from tests.console.conftest import Worker
from tests.console.test_chat import converse, shows_turns
from tests.support.memory.memory_world import MemoryWorld
from tests.support.servers.browser import Tab, Tabs

# The page is shown once more, and a request of the test follows those that it makes of that.
SHOW_ANEW = """async () => {
  document.dispatchEvent(new Event("visibilitychange"));
  await fetch("/healthz");
}"""
REFUSED = {"type": "about:blank", "title": "Unauthorized", "status": 401, "code": "unauthorized", "detail": "a key"}


class Gate:
    """Stands before the server: it refuses every call until a key is entered, and says whose it is."""

    def __init__(self, *rights: str) -> None:
        self.tenant: str | None = None
        self.rights = rights

    async def decide(self, route: Route) -> None:
        if route.request.url.endswith("/v1/caller") and "authorization" in route.request.headers:
            self.tenant = route.request.headers["authorization"].removeprefix("Bearer key-of-")
        body: object = {"tenant": self.tenant, "rights": self.rights}
        if self.tenant is None:
            await route.fulfill(status=401, content_type="application/problem+json", body=json.dumps(REFUSED))
        elif route.request.url.endswith("/v1/caller"):
            await route.fulfill(content_type="application/json", body=json.dumps(body))
        else:
            await route.continue_(headers={**route.request.headers, "authorization": ""})


async def enter(tab: Tab, tenant: str) -> None:
    await expect(tab.page.locator("#key-dialog")).to_be_visible()
    await tab.page.locator("#key").fill(f"key-of-{tenant}")
    await tab.page.locator("#key").press("Enter")
    await expect(tab.page.locator("#key-dialog")).to_be_hidden()


async def test_the_open_conversation_of_another_tenant_is_closed(tabs: Tabs, url: str, worker: Worker) -> None:
    gate = Gate()
    tab = await tabs.open("about:blank")
    await tab.page.route(f"{url}/v1/**", gate.decide)
    await tab.page.goto(url)
    await enter(tab, "first")
    await converse(tab, worker, "a secret question", "a secret answer")
    gate.tenant = None
    await enter(tab, "first")
    await shows_turns(tab, "a secret question", "a secret answer")
    gate.tenant = None
    await enter(tab, "second")
    await expect(tab.part("prompt-shown")).to_have_count(0)
    await expect(tab.page.locator("#thread")).to_be_hidden()
    await expect(tab.page.locator("#conversations")).to_be_empty()
    assert "gen_" not in tab.page.url
    kept = await tab.page.evaluate("JSON.stringify({ ...sessionStorage, ...localStorage })")
    assert "secret answer" not in kept
    messages = await converse(tab, worker, "mine", "yours")
    assert messages == [{"role": "user", "content": "mine"}]


async def test_a_closed_dialog_for_the_key_leaves_a_button_that_opens_it(tabs: Tabs, url: str) -> None:
    gate = Gate()
    tab = await tabs.open("about:blank")
    await tab.page.route(f"{url}/v1/**", gate.decide)
    await tab.page.goto(url)
    await expect(tab.page.locator("#key-dialog")).to_be_visible()
    await tab.page.keyboard.press("Escape")
    await expect(tab.page.locator("#key-dialog")).to_be_hidden()
    await tab.part("key-open").press("Enter")
    await enter(tab, "first")
    await expect(tab.part("signed-out")).to_be_hidden()


async def test_settings_that_were_given_beside_a_link_are_not_sent_with_the_key_of_another_tenant(
    tabs: Tabs, url: str, worker: Worker, world: MemoryWorld
) -> None:
    world.add("nightly", kind="feed", status="running", request={})
    gate = Gate()
    tab = await tabs.open("about:blank")
    await tab.page.route(f"{url}/v1/**", gate.decide)
    await tab.page.goto(f"{url}/#nightly")
    await enter(tab, "first")
    await tab.part("settings-open").click()
    await tab.page.get_by_label("System prompt").fill("a secret of the first")
    gate.tenant = None
    await enter(tab, "second")
    await tab.send("hello")
    _, request = await worker.take()
    assert "system" not in request


async def test_a_key_that_is_refused_in_operate_is_not_tried_further_and_another_can_be_entered(
    tabs: Tabs, url: str
) -> None:
    gate = Gate("admin")
    tab = await tabs.open("about:blank")
    await tab.page.clock.install()
    await tab.page.route(f"{url}/v1/**", gate.decide)
    await tab.page.goto(f"{url}/#/operate")
    await enter(tab, "first")
    queue, dialog = tab.part("operate-queue"), tab.part("key-dialog")
    await expect(queue).to_contain_text("No answer waits for a worker.")
    await expect(tab.part("key-open")).to_be_hidden()
    gate.tenant = None
    await tab.page.clock.run_for(2000)
    await expect(dialog).to_be_visible()
    await expect(queue).to_be_hidden()
    await tab.page.keyboard.press("Escape")
    await expect(dialog).to_be_hidden()
    sent: list[str] = []
    tab.page.on("request", lambda request: sent.append(request.url))
    await tab.page.clock.run_for(10_000)
    await tab.page.evaluate(SHOW_ANEW)
    assert sent == [f"{url}/healthz"]
    await expect(dialog).to_be_hidden()
    await tab.part("key-open").press("Enter")
    await enter(tab, "first")
    await expect(queue).to_contain_text("No answer waits for a worker.")
    await expect(tab.part("key-open")).to_be_hidden()


async def test_a_dialog_for_the_key_that_was_closed_does_not_come_back_with_the_page(tabs: Tabs, url: str) -> None:
    tab = await tabs.open("about:blank")
    await tab.page.route(f"{url}/v1/**", Gate().decide)
    await tab.page.goto(url)
    await expect(tab.part("key-dialog")).to_be_visible()
    await tab.page.keyboard.press("Escape")
    await expect(tab.part("key-dialog")).to_be_hidden()
    sent: list[str] = []
    tab.page.on("request", lambda request: sent.append(request.url))
    await tab.page.evaluate(SHOW_ANEW)
    assert sent == [f"{url}/healthz"]
    await expect(tab.part("key-dialog")).to_be_hidden()
