"""Every state of the page has its own plain text, and the page notices by its own clock that nothing comes."""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import replace

import pytest
from playwright.async_api import Route, expect

from broadcaster.core import events as ev
from broadcaster.core.notices import StallReason
from broadcaster.core.sse import encode_frame
from tests.console.conftest import DEADLINE_S, Worker, open_held_back
from tests.support.memory.memory_world import MemoryWorld
from tests.support.servers.browser import Tab, Tabs

LEAST_S = 0.3
HIDDEN_GRACE_MS = 30_000
_IS_IN_SIGHT = """() => {
  const [line, viewers] = ["indicator", "viewers"].map((id) => document.getElementById(id).getBoundingClientRect());
  return viewers.bottom <= line.bottom + 1;
}"""
_IS_WHOLE = "(({ scrollWidth, clientWidth }) => scrollWidth <= clientWidth)(document.getElementById('status-text'))"
_CUT_REASONS = """async () => {
  const { CLOSED, STALLS } = await import("/console/texts.js");
  const line = document.getElementById("status-text");
  return [...Object.values(CLOSED), ...Object.values(STALLS)].filter((text) => {
    line.textContent = text;
    return line.scrollWidth > line.clientWidth;
  });
}"""
_NOTED_SENTENCES = """() => {
  const announcer = document.getElementById("announcer");
  window.sentences = [];
  const note = () => announcer.textContent === "" || sentences.push(announcer.textContent);
  new MutationObserver(note).observe(announcer, { childList: true, characterData: true, subtree: true });
}"""

_HELD_FRAMES = """
const draw = window.requestAnimationFrame.bind(window);
const held = [];
window.requestAnimationFrame = (frame) => (window.areHeld ? held.push(frame) : draw(frame));
window.release = () => {
  window.areHeld = false;
  held.splice(0).forEach(draw);
};
"""


async def test_each_state_of_an_answer_has_its_text(tabs: Tabs, url: str, worker: Worker, world: MemoryWorld) -> None:
    tab = await tabs.open("about:blank")
    await tab.page.clock.install()
    await tab.page.goto(url)
    await expect(tab.part("status")).to_be_hidden()
    await tab.send("hello")
    status = tab.part("status")
    await expect(status).to_have_text("Waiting for a worker")
    generation_id, _ = await worker.take()
    worker.write(generation_id, "Well, ")
    world.viewers[generation_id] = 3
    await expect(status).to_have_text("Answering")
    await expect(tab.part("announcer")).to_have_text("The answer has begun.")
    await tab.page.clock.run_for(2000)
    await expect(tab.part("viewers")).to_have_text("3 watching")
    await tab.page.clock.fast_forward(6000)
    await expect(status).to_contain_text("No news for ")
    await expect(status).to_have_attribute("data-state", "live")
    world.stall(generation_id, StallReason.WORKER_LOST)
    await expect(status).to_have_text("Lost contact with the worker")
    world.take_over(generation_id, 2)
    world.stall(generation_id, None)
    worker.write(generation_id, "Anew, ")
    await expect(status).to_have_text("Answering")
    world.append(generation_id, ev.Error(error_text="HTTP 401: set the key", code="provider_auth"))
    await expect(status).to_have_text("Failed")
    await expect(tab.part("ending")).to_contain_text(
        "The answer failed: the model’s provider refused the server’s credentials."
    )
    await expect(tab.part("ending")).to_contain_text("provider_auth")
    await expect(tab.page.get_by_text("HTTP 401: set the key")).to_be_hidden()
    await expect(tab.part("announcer")).to_have_text("The answer failed.")


async def test_on_a_phone_a_long_status_is_whole_and_the_viewers_give_way(
    tabs: Tabs, url: str, worker: Worker, world: MemoryWorld
) -> None:
    tab = await tabs.open("about:blank")
    await tab.page.set_viewport_size({"width": 390, "height": 844})
    await tab.page.clock.install()
    await tab.page.goto(url)
    await tab.send("hello")
    generation_id, _ = await worker.take()
    worker.write(generation_id, "Well, ")
    world.viewers[generation_id] = 1
    await tab.page.clock.run_for(2000)
    await expect(tab.part("viewers")).to_have_text("1 watching")
    assert await tab.page.evaluate(_IS_IN_SIGHT)
    world.stall(generation_id, StallReason.WORKER_LOST)
    await expect(tab.part("status")).to_have_text("Lost contact with the worker")
    assert not await tab.page.evaluate(_IS_IN_SIGHT)
    assert await tab.page.evaluate(_IS_WHOLE)


async def test_on_a_phone_every_reason_why_no_event_comes_is_whole(tabs: Tabs, url: str, worker: Worker) -> None:
    tab = await tabs.open("about:blank")
    await tab.page.set_viewport_size({"width": 390, "height": 844})
    await tab.page.goto(url)
    await tab.send("hello")
    await worker.take()
    await expect(tab.part("status")).to_be_visible()
    assert await tab.page.evaluate(_CUT_REASONS) == []


async def test_an_answer_that_is_over_and_is_still_read_is_shown_as_loading(
    tabs: Tabs, url: str, world: MemoryWorld
) -> None:
    world.add("gen_0001")
    world.append("gen_0001", ev.TextDelta(id="0", delta="Well."), ev.Finish(finish_reason="stop"))
    tab, is_let = await open_held_back(tabs, f"{url}/#gen_0001", "**/events*")
    await expect(tab.part("prompt-shown")).to_have_text("why?")
    await expect(tab.part("status")).to_have_text("Loading…")
    await expect(tab.page.locator(".turn-meta")).to_be_hidden()
    is_let.set()
    await expect(tab.part("answer")).to_have_text("Well.")
    await expect(tab.part("status")).to_have_text("Finished")
    await expect(tab.page.locator(".turn-meta")).to_have_text("local")


async def test_an_answer_whose_end_has_not_arrived_is_not_shown_as_finished(
    tabs: Tabs, url: str, worker: Worker, world: MemoryWorld
) -> None:
    tab = await tabs.open("about:blank")
    await tab.page.clock.install()
    await tab.page.goto(url)
    await tab.send("hello")
    generation_id, _ = await worker.take()
    worker.write(generation_id, "Never take both")
    await expect(tab.part("answer")).to_contain_text("Never")
    await tab.is_connected()
    await expect(tab.part("announcer")).to_have_text("The answer has begun.")
    # Calls of the API pass, and the connection of the events stands still.
    stream = world.streams[generation_id]
    stream.meta = replace(stream.meta, status="finished")
    await tab.page.clock.run_for(2000)
    await expect(tab.part("status")).to_have_text("Loading…")
    await expect(tab.part("status")).not_to_have_attribute("data-status", "finished")
    await expect(tab.part("copy-answer")).to_be_hidden()
    await expect(tab.part("announcer")).to_have_text("The answer has begun.")
    assert await tab.page.title() == "● hello"
    worker.finish(generation_id, " on one day.")
    await expect(tab.part("status")).to_have_text("Finished")
    await expect(tab.part("announcer")).to_have_text("The answer is complete.")
    await expect(tab.page).to_have_title("✓ hello")
    await expect(tab.part("answer")).to_have_text("Never take both on one day.")


async def test_an_answer_that_is_over_before_the_page_is_drawn_is_announced(
    tabs: Tabs, url: str, worker: Worker
) -> None:
    tab = await tabs.open("about:blank")
    await tab.page.add_init_script(_HELD_FRAMES)
    await tab.page.goto(url)
    await expect(tab.page.locator("#welcome")).to_be_visible()

    async def answer(route: Route) -> None:
        response = await route.fetch()
        worker.finish((await worker.take())[0], "At once.")
        await route.fulfill(response=response)

    await tab.page.route("**/v1/generations", answer, times=1)
    await tab.page.evaluate("window.areHeld = true")
    # The page asks for the state as soon as its connection stands.
    async with tab.page.expect_event("requestfinished", lambda request: "/v1/generations/gen_" in request.url):
        await tab.send("hello")
    await tab.page.evaluate("window.release()")
    await expect(tab.part("answer")).to_have_text("At once.")
    await expect(tab.part("announcer")).to_have_text("The answer is complete.")


async def test_a_new_attempt_is_explained_by_its_reason(tabs: Tabs, url: str, world: MemoryWorld) -> None:
    world.add("nightly", kind="feed", status="running", request={})
    world.append("nightly", ev.TextDelta(id="0", delta="old"))
    tab = await tabs.open(f"{url}/#nightly")
    await expect(tab.part("answer")).to_have_text("old")
    await expect(tab.part("attempt-note")).to_be_hidden()
    sentences = {
        "worker_lost": "The worker was lost; the answer was restarted (attempt 2).",
        "provider_lost": "The connection to the model’s provider was lost; the answer was restarted (attempt 3).",
        "replaced": "The stream was started anew by its program (attempt 4).",
        "of a newer version": "The answer was restarted (attempt 5).",
    }
    for attempt, (reason, sentence) in enumerate(sentences.items(), start=2):
        world.append("nightly", ev.Attempt(attempt=attempt, reason=reason), ev.TextDelta(id="0", delta="new"))
        await expect(tab.part("attempt-note")).to_have_text(sentence)


async def test_a_part_that_expired_before_the_newest_attempt_is_not_missed(
    tabs: Tabs, url: str, world: MemoryWorld
) -> None:
    world.add("report", kind="feed", request={})
    events: list[ev.Event] = [ev.TextDelta(id="0", delta="whole"), ev.Finish(finish_reason="stop")]

    async def send_trimmed(route: Route) -> None:
        frames = [encode_frame(ev.encode_event(event), id=f"1-{seq}") for seq, event in enumerate(events, 4)]
        gap = encode_frame(b'{"reason":"trimmed","from":1,"to":3}', id="1-3", event="hub.gap")
        await route.fulfill(body=b"".join([gap, *frames]), content_type="text/event-stream")

    tab = await tabs.open("about:blank")
    await tab.page.route("**/report/events*", send_trimmed)
    await tab.page.goto(f"{url}/#report")
    await tab.has_status("finished")
    await expect(tab.part("notices")).to_have_text("An earlier part (events 1–3) has expired.")
    events.insert(0, ev.Attempt(attempt=2, reason="replaced"))
    await tab.page.reload()
    await tab.has_status("finished")
    await expect(tab.part("answer")).to_have_text("whole")
    await expect(tab.part("notices")).to_be_empty()


async def test_a_page_that_is_opened_before_its_stream_exists_waits_for_it(
    tabs: Tabs, url: str, world: MemoryWorld
) -> None:
    tab = await tabs.open(f"{url}/#nightly")
    # At once: long before the server gives up waiting for its first event.
    await expect(tab.part("status")).to_have_text("Not started yet", timeout=3000)
    await expect(tab.part("progress")).to_contain_text("Nothing has been published under this link yet.")
    world.add("nightly", kind="feed", status="running", request={})
    await expect(tab.part("status")).to_have_text("Live")
    world.append("nightly", ev.TextDelta(id="0", delta="Copying."))
    await expect(tab.part("answer")).to_contain_text("Copying.")
    await expect(tab.part("stop")).to_be_hidden()
    world.append("nightly", ev.Error(error_text="the disk is full", code="disk_full"))
    await expect(tab.part("ending")).to_contain_text("the disk is full")
    expired = await tabs.open(f"{url}/#gen_00000")
    await expect(expired.part("status")).to_have_text("Not found")
    await expect(expired.part("ending")).to_contain_text("Nothing was found under this link.")


async def test_a_page_in_the_background_gives_up_each_connection_that_it_opens_there(
    tabs: Tabs, url: str, worker: Worker
) -> None:
    tab = await tabs.open(url)
    await tab.send("first")
    generation_id, _ = await worker.take()
    worker.write(generation_id, "Well.")
    hidden = Tab(await tab.page.context.new_page())
    await hidden.page.clock.install()
    await hidden.page.add_init_script("Object.defineProperty(document, 'hidden', { get: () => !window.isShown })")
    await hidden.page.goto(tab.page.url)
    status = hidden.part("status")
    await hidden.is_connected()
    await hidden.page.clock.fast_forward(HIDDEN_GRACE_MS)
    await expect(status).to_have_attribute("data-state", "paused")
    worker.finish(generation_id)
    await tab.has_status("finished")
    await tab.send("second")
    await worker.take()
    await expect(hidden.part("prompt-shown")).to_have_text(["first", "second"])
    await hidden.is_connected()
    await hidden.page.clock.fast_forward(HIDDEN_GRACE_MS)
    await expect(status).to_have_attribute("data-state", "paused")
    await hidden.page.evaluate("window.isShown = true; document.dispatchEvent(new Event('visibilitychange'))")
    await hidden.is_connected()


async def test_opening_a_feed_fails_no_request(tabs: Tabs, url: str, world: MemoryWorld) -> None:
    world.add("nightly", kind="feed", status="running", request={})
    world.append("nightly", ev.TextDelta(id="0", delta="Copying."))
    tab = await tabs.open("about:blank")
    failed: list[str] = []
    tab.page.on("response", lambda given: failed.append(given.url) if given.status >= 400 else None)
    async with tab.page.expect_response(lambda given: given.url.endswith("/v1/streams/nightly")):
        await tab.page.goto(f"{url}/#nightly")
    await expect(tab.part("answer")).to_contain_text("Copying.")
    await expect(tab.part("status")).to_have_text("Live")
    assert failed == []


async def test_jobs_show_their_progress_in_the_list_without_a_connection_of_their_own(
    tabs: Tabs, url: str, world: MemoryWorld
) -> None:
    for name in ("nightly", "import", *(f"job-{number}" for number in range(10))):
        world.add(name, kind="feed", status="running", request={})
        world.append(name, ev.DataEvent(type="data-progress", data={"done": 1, "total": 8, "message": "Copying"}))
    world.append("import", ev.DataEvent(type="data-log", data="a line"), ev.Error(error_text="no", code="x"))
    tab = await tabs.open("about:blank")
    sent: list[str] = []
    tab.page.on("request", lambda request: sent.append(request.url))
    await tab.page.clock.install()
    await tab.page.goto(url)
    rows = tab.part("generations").get_by_role("link")
    row, over = (rows.filter(has_text=name) for name in ("nightly", "import"))
    await expect(row).to_contain_text("12% · Copying")
    await expect(row.locator("progress")).to_have_js_property("value", 1)
    await expect(over).to_contain_text("job · failed")
    await expect(over.locator("progress")).to_be_hidden()
    await tab.page.clock.run_for(4000)
    world.append("nightly", ev.DataEvent(type="data-progress", data={"done": 2, "total": 8, "message": "Moving"}))
    async with asyncio.timeout(DEADLINE_S):
        while "25%" not in await row.inner_text():
            await tab.page.clock.run_for(500)
    await expect(row).to_contain_text(re.compile(r"25% · about \d\d s left · Moving"))
    await tab.page.clock.fast_forward(70_000)
    async with asyncio.timeout(DEADLINE_S):
        while "25% · no report for 1 min · Moving" not in await row.inner_text():
            await tab.page.clock.run_for(500)
    assert [each for each in sent if "/events" in each or "/v1/streams/" in each] == []


@pytest.mark.parametrize("ahead_s", [600, -600])
async def test_a_browser_with_another_clock_shows_the_times_of_the_server(
    tabs: Tabs, url: str, worker: Worker, world: MemoryWorld, ahead_s: int
) -> None:
    world.add("nightly", kind="feed", status="running", request={})
    world.append("nightly", ev.DataEvent(type="data-progress", data={"done": 3, "total": 8}))
    tab = await tabs.open("about:blank")
    await tab.page.clock.install(time=time.time() + ahead_s)
    await tab.page.goto(url)
    row = tab.part("generations").get_by_role("link").filter(has_text="nightly")
    await expect(row).to_have_text(re.compile("nightly37%$"))
    await tab.send("hello")
    generation_id, _ = await worker.take()
    await expect(tab.part("status")).to_have_attribute("data-state", "live")
    created_at = time.time()
    async with asyncio.timeout(DEADLINE_S):
        while time.time() < created_at + LEAST_S:
            await asyncio.sleep(0.01)
    worker.write(generation_id, "Well, ")
    await expect(tab.part("answer")).to_contain_text("Well,")
    worker.finish(generation_id, "that is all.")
    await expect(tab.part("status")).to_have_text("Finished")
    timeline = tab.part("timeline")
    await timeline.locator("summary").click()
    await expect(timeline).to_contain_text(re.compile(r"First token after (0\.[3-9]|[1-9]\.\d) s"))
    await expect(timeline).to_contain_text(re.compile(r"Finished after [0-9]\.\d s"))


async def test_a_second_ending_that_is_the_same_is_announced(
    tabs: Tabs, url: str, worker: Worker, world: MemoryWorld
) -> None:
    tab = await tabs.open(url)
    await tab.page.evaluate(_NOTED_SENTENCES)
    for text in ("one", "two"):
        await tab.send(text)
        generation_id, _ = await worker.take()
        world.append(generation_id, ev.Error(error_text="HTTP 529", code="provider_overloaded"))
        await expect(tab.part("prompt-shown").last).to_have_text(text)
        await expect(tab.part("ending").last).to_contain_text("The answer failed")
    assert await tab.page.evaluate("sentences") == ["The answer failed."] * 2


async def test_the_start_of_an_answer_is_announced_once_and_each_loss_of_its_worker(
    tabs: Tabs, url: str, worker: Worker, world: MemoryWorld
) -> None:
    tab = await tabs.open(url)
    await tab.page.evaluate(_NOTED_SENTENCES)
    await tab.send("hello")
    generation_id, _ = await worker.take()
    lost, announcer = "Lost contact with the worker", tab.part("announcer")
    await tab.is_connected()
    for _ in range(2):
        world.stall(generation_id, StallReason.WORKER_LOST)
        await expect(announcer).to_have_text(lost)
        world.stall(generation_id, None)
        await expect(announcer).to_be_empty()
    worker.write(generation_id, "Well, ")
    await expect(announcer).to_have_text("The answer has begun.")
    world.stall(generation_id, StallReason.WORKER_LOST)
    await expect(announcer).to_have_text(lost)
    world.stall(generation_id, None)
    await expect(announcer).to_have_text("The answer continues.")
    sentences = [lost, lost, "The answer has begun.", lost, "The answer continues."]
    assert await tab.page.evaluate("sentences") == sentences
