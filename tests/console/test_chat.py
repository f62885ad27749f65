"""Conversations in a real browser: follow-up turns, edits, other tabs, and what is kept when streams expire."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest
from playwright.async_api import Route, expect

from broadcaster.core import events as ev
from tests.console.conftest import DEADLINE_S, Worker, delete_held_back, open_held_back
from tests.support.memory.memory_world import MemoryWorld
from tests.support.servers.browser import Tab, Tabs

# The key comes after the end of the composition.
SAFARIS_COMPOSITION = {"isComposing": False, "keyCode": 229}
MAX_COPY_CHARS = 200_000
SCROLLED = "document.getElementById('scroll')"


def messages_of(*texts: str) -> list[dict[str, str]]:
    """Messages of the user and the assistant in turns."""
    return [{"role": "assistant" if index % 2 else "user", "content": text} for index, text in enumerate(texts)]


async def converse(tab: Tab, worker: Worker, text: str, answer: str) -> list[dict[str, str]]:
    """Send a text that is answered at once; the messages of its request."""
    await tab.send(text)
    request = await worker.answer(answer)
    await tab.has_status("finished")
    await expect(tab.part("answer").last).to_contain_text(answer)
    messages: list[dict[str, str]] = request["messages"]
    return messages


async def shows_turns(tab: Tab, *texts: str) -> None:
    """The page has exactly these turns: a text and its answer, and so on."""
    await expect(tab.part("prompt-shown")).to_have_text(texts[::2])
    await expect(tab.part("answer")).to_have_text(texts[1::2])


async def is_at_end(tab: Tab) -> None:
    """The end of the thread is in view. The policy of the page forbids playwright's own waiting."""
    below_px = f"(({{ scrollHeight, scrollTop, clientHeight }}) => scrollHeight - scrollTop - clientHeight)({SCROLLED})"
    async with asyncio.timeout(DEADLINE_S):
        while await tab.page.evaluate(below_px) >= 2:
            await asyncio.sleep(0.01)


async def test_another_model_can_be_named_when_it_is_chosen_before_the_list_arrives(tabs: Tabs, url: str) -> None:
    tab, is_let = await open_held_back(tabs, url, "**/v1/models*")
    name = tab.page.get_by_label("Model name")
    await tab.part("model-choice").select_option("Other…")
    is_let.set()
    await expect(name).to_have_attribute("placeholder", re.compile(r"claude\*"))
    await expect(name).to_be_visible()


async def test_a_conversation_continues_is_edited_and_regenerated(tabs: Tabs, url: str, worker: Worker) -> None:
    tab = await tabs.open(url)
    await tab.part("settings-open").click()
    await tab.page.get_by_label("System prompt").fill("Be brief.")
    await tab.page.get_by_label("Temperature").fill("0.5")
    await expect(tab.part("model-choice").locator("option", has_text="*")).to_have_count(0)  # a pattern is no model
    await tab.part("model-choice").select_option("Other…")
    await expect(tab.page.get_by_label("Model name")).to_have_attribute("placeholder", re.compile(r"claude\*"))
    await tab.page.get_by_label("Model name").fill("claude-x")
    await tab.send("My name is Robin.")
    request = await worker.answer("Hello Robin.")
    settings = {"model": "claude-x", "system": "Be brief.", "temperature": 0.5}
    assert {name: worker.world.requests[-1].request.get(name) for name in ("system", "temperature")} == {
        "system": "Be brief.",
        "temperature": 0.5,
    }
    assert worker.world.requests[-1].model == settings["model"]
    assert request["messages"] == messages_of("My name is Robin.")
    await tab.has_status("finished")
    first_link = tab.page.url
    assert await converse(tab, worker, "What is my name?", "Robin.") == messages_of(
        "My name is Robin.", "Hello Robin.", "What is my name?"
    )
    await shows_turns(tab, "My name is Robin.", "Hello Robin.", "What is my name?", "Robin.")
    assert tab.page.url != first_link

    await tab.page.reload()
    await shows_turns(tab, "My name is Robin.", "Hello Robin.", "What is my name?", "Robin.")
    await expect(tab.page.get_by_label("System prompt")).to_have_value("Be brief.")
    await tab.part("regenerate").last.click()
    repeated = await worker.answer("It is Robin.")
    assert repeated["messages"] == messages_of("My name is Robin.", "Hello Robin.", "What is my name?")
    assert repeated["system"] == "Be brief."
    await shows_turns(tab, "My name is Robin.", "Hello Robin.", "What is my name?", "It is Robin.")

    await tab.part("prompt-shown").first.hover()
    await tab.part("edit").first.click()
    await tab.part("edit-text").fill("My name is Kim.")
    await tab.part("edit-text").press("Escape")
    await shows_turns(tab, "My name is Robin.", "Hello Robin.", "What is my name?", "It is Robin.")
    await tab.part("edit").first.click()
    await tab.part("edit-text").fill("My name is Kim.")
    await tab.part("edit-text").press("Enter")
    assert (await worker.answer("Hello Kim."))["messages"] == messages_of("My name is Kim.")
    await shows_turns(tab, "My name is Kim.", "Hello Kim.")
    await tab.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    await tab.part("copy-answer").last.click()
    assert await tab.page.evaluate("navigator.clipboard.readText()") == "Hello Kim."


async def test_conversations_are_found_renamed_followed_in_other_tabs_and_deleted_with_their_answers(
    tabs: Tabs, url: str, worker: Worker, world: MemoryWorld
) -> None:
    tab = await tabs.open(url)
    await converse(tab, worker, "Which bread is easy?", "Soda bread.")
    await tab.page.get_by_role("link", name="New conversation").click()
    await expect(tab.part("thread")).to_be_hidden()
    await converse(tab, worker, "How deep is the sea?", "Deep.")
    listed = tab.part("conversations").get_by_role("link")
    await expect(listed).to_have_text(["How deep is the sea?", "Which bread is easy?"])
    await expect(tab.part("generations")).to_be_hidden()

    await tab.part("search").fill("soda")
    await expect(listed).to_have_text(["Which bread is easy?"])
    await tab.part("search").fill("")
    await tab.page.get_by_role("button", name="Actions for Which bread is easy?").click()
    await tab.part("row-rename").press("Enter")
    await tab.part("rename-title").fill("Bread")
    await tab.part("rename-title").press("Enter")
    await expect(listed).to_have_text(["How deep is the sea?", "Bread"])

    second = Tab(await tab.page.context.new_page())
    await second.page.goto(url)
    await second.part("conversations").get_by_text("Bread").click()
    await shows_turns(second, "Which bread is easy?", "Soda bread.")
    await listed.get_by_text("Bread").click()
    await converse(second, worker, "And rye?", "Harder.")
    await shows_turns(tab, "Which bread is easy?", "Soda bread.", "And rye?", "Harder.")
    assert tab.page.url == second.page.url

    removed = tab.page.url.rpartition("#")[2]
    assert len(world.streams) == 3
    await tab.page.get_by_role("button", name="Actions for Bread").click()
    await tab.part("row-delete").click()
    await expect(tab.part("delete-dialog")).to_contain_text("Bread")
    await tab.part("delete-confirm").click()
    for each in (tab, second):
        await expect(each.part("conversations").get_by_role("link")).to_have_text(["How deep is the sea?"])
        await expect(each.part("thread")).to_be_hidden()
    async with asyncio.timeout(DEADLINE_S):
        while len(world.streams) > 1:
            await asyncio.sleep(0.01)
    await tab.page.goto(f"{url}/#{removed}")
    await expect(tab.part("ending")).to_contain_text("Nothing was found under this link")


async def test_a_deletion_goes_on_after_a_reload(tabs: Tabs, url: str, worker: Worker, world: MemoryWorld) -> None:
    tab = await tabs.open(url)
    await converse(tab, worker, "first", "one")
    await converse(tab, worker, "second", "two")
    _, last = world.streams
    await delete_held_back(tab, "first", last)
    assert list(world.streams) == [last]
    await tab.page.reload()
    await expect(tab.part("conversations").get_by_role("link")).to_have_count(0)
    async with asyncio.timeout(DEADLINE_S):
        while world.streams or "first" in await tab.page.evaluate("JSON.stringify(localStorage)"):
            await asyncio.sleep(0.01)


async def test_two_tabs_that_write_in_one_conversation_at_the_same_moment_lose_no_turn(
    tabs: Tabs, url: str, worker: Worker
) -> None:
    tab = await tabs.open(url)
    await converse(tab, worker, "first", "one")
    other = Tab(await tab.page.context.new_page())
    await other.page.goto(tab.page.url)
    await shows_turns(other, "first", "one")
    both_have_sent = asyncio.Barrier(2)

    async def wait_for_the_other(route: Route) -> None:
        await both_have_sent.wait()
        await route.continue_()

    for each in (tab, other):
        await each.page.route(f"{url}/v1/generations", wait_for_the_other)
    await asyncio.gather(tab.send("from here"), other.send("from there"))
    for _ in range(2):
        await worker.answer("both")
    for each in (tab, other):
        await expect(each.part("prompt-shown")).to_have_count(3)
        await expect(each.part("answer")).to_have_text(["one", "both", "both"])
    texts = [await each.part("prompt-shown").all_inner_texts() for each in (tab, other)]
    assert texts[0] == texts[1]
    assert set(texts[0]) == {"first", "from here", "from there"}
    await tab.page.reload()
    await expect(tab.part("prompt-shown")).to_have_text(texts[0])


async def test_an_answer_that_has_expired_is_shown_and_used_from_the_browsers_copy(
    tabs: Tabs, url: str, worker: Worker, world: MemoryWorld
) -> None:
    tab = await tabs.open(url)
    await converse(tab, worker, "first", "one")
    await converse(tab, worker, "second", "two")
    for stream in world.streams.values():
        stream.entries = []
    oldest = min(world.streams)
    del world.streams[oldest]
    world.deleted.add(oldest)
    await tab.page.reload()
    await shows_turns(tab, "first", "one", "second", "two")
    for turn in await tab.part("turn").all():
        await expect(turn).to_contain_text("This is the copy that this browser kept.")
    assert await converse(tab, worker, "third", "three") == messages_of("first", "one", "second", "two", "third")


async def test_a_copy_that_was_cut_is_marked_and_is_not_sent_before_the_whole_answer_was_read(
    tabs: Tabs, url: str, worker: Worker, world: MemoryWorld
) -> None:
    tab = await tabs.open(url)
    await tab.send("first")
    generation_id, _ = await worker.take()
    beginning = ("words and\n\n" * 20_000)[: MAX_COPY_CHARS - 1]
    worker.write(generation_id, f"{beginning}\U0001f30d the end")
    world.append(generation_id, ev.Finish(finish_reason="length"))
    await tab.has_status("finished")
    is_let = asyncio.Event()

    async def hold(route: Route) -> None:
        await is_let.wait()
        await route.continue_()

    await tab.page.route("**/events*", hold)
    await tab.page.reload()
    await tab.send("second")
    await expect(tab.part("fault")).to_contain_text("An earlier answer is still loading")
    is_let.set()
    await expect(tab.part("status")).to_have_attribute("data-state", "ended")
    await tab.part("prompt").press("Enter")
    messages = (await worker.answer("two"))["messages"]
    assert messages == messages_of("first", f"{beginning}\U0001f30d the end", "second")
    world.streams[generation_id].entries = []
    await tab.page.reload()
    turn = tab.part("turn").first
    await expect(turn.get_by_test_id("notices")).to_contain_text("Only the first 200,000 characters were kept")
    await expect(turn.get_by_test_id("ending")).to_contain_text("the length limit was reached")


@pytest.mark.parametrize("composed", [{"isComposing": True}, SAFARIS_COMPOSITION])
async def test_escape_that_ends_the_composition_of_a_character_stops_no_answer_and_closes_no_editor(
    tabs: Tabs, url: str, worker: Worker, composed: dict[str, Any]
) -> None:
    tab = await tabs.open(url)
    stops: list[str] = []
    tab.page.on("request", lambda request: stops.append(request.url) if request.url.endswith("/stop") else None)
    await tab.send("talk")
    generation_id, _ = await worker.take()
    worker.write(generation_id, "Well")
    await expect(tab.part("stop")).to_be_visible()
    escape = {"key": "Escape", "bubbles": True, **composed}
    await tab.part("prompt").dispatch_event("keydown", escape)
    await tab.part("prompt-shown").hover()
    await tab.part("edit").click()
    await tab.part("edit-text").fill("talk less")
    await tab.part("edit-text").dispatch_event("keydown", escape)
    await expect(tab.part("edit-text")).to_have_value("talk less")
    await tab.part("edit-text").press("Escape")
    await expect(tab.part("edit-text")).to_have_count(0)
    assert stops == []


@pytest.mark.parametrize("composed", [{"isComposing": True}, SAFARIS_COMPOSITION])
async def test_enter_that_confirms_a_composition_sends_nothing(
    tabs: Tabs, url: str, worker: Worker, composed: dict[str, Any]
) -> None:
    tab = await tabs.open(url)
    enter = {"key": "Enter", "bubbles": True, "cancelable": True, **composed}
    await tab.part("prompt").fill("東京")
    await tab.part("prompt").dispatch_event("keydown", enter)
    assert await converse(tab, worker, "東京へ", "はい") == messages_of("東京へ")
    await tab.part("prompt-shown").hover()
    await tab.part("edit").click()
    await tab.part("edit-text").fill("京都")
    await tab.part("edit-text").dispatch_event("keydown", enter)
    await tab.part("edit-text").fill("京都へ")
    await tab.part("edit-text").press("Enter")
    assert (await worker.answer("はい"))["messages"] == messages_of("京都へ")
    assert len(worker.world.requests) == 2


async def test_the_link_that_is_copied_is_the_last_answers_wherever_the_conversation_was_opened(
    tabs: Tabs, url: str, worker: Worker
) -> None:
    tab = await tabs.open(url)
    await converse(tab, worker, "first", "one")
    first = tab.page.url
    await converse(tab, worker, "second", "two")
    last = tab.page.url
    await tab.page.goto(first)
    await shows_turns(tab, "first", "one", "second", "two")
    assert tab.page.url == first != last
    await tab.part("copy").click()
    await expect(tab.part("copy")).to_have_attribute("data-link", last)


async def test_the_sources_that_an_answer_ends_with_are_shown_and_safe_ones_are_links(
    tabs: Tabs, url: str, worker: Worker
) -> None:
    tab = await tabs.open(url)
    await tab.send("how much?")
    generation_id, _ = await worker.take()
    worker.write(generation_id, "5 mg [1], twice [2].\n\nAsk first.\n\n")
    await expect(tab.part("answer")).to_contain_text("Ask first.")
    sources = ["[1]: <https://a.example/dose> 'Dose'", "[2]: javascript:alert(1)", "[3]: Smith"]
    worker.finish(generation_id, "\n".join(sources))
    await expect(tab.part("answer").locator(".definition")).to_have_text(sources)
    links = tab.part("answer").get_by_role("link")
    await expect(links).to_have_count(1)
    await expect(links).to_have_attribute("href", "https://a.example/dose")


async def test_the_page_follows_the_end_unless_its_reader_has_scrolled_up(tabs: Tabs, url: str, worker: Worker) -> None:
    tab = await tabs.open(url)
    await tab.send("talk")
    generation_id, _ = await worker.take()
    lines = "".join(f"Line {number}.\n\n" for number in range(60))
    worker.write(generation_id, f"{lines}END-1\n\n")
    await expect(tab.part("answer")).to_contain_text("END-1")
    await is_at_end(tab)
    await expect(tab.page.get_by_role("button", name="Latest")).to_be_hidden()
    await tab.part("answer").hover()
    end = await tab.page.evaluate(f"{SCROLLED}.scrollTop")
    await tab.page.mouse.wheel(0, -400)
    await tab.page.wait_for_function(f"{SCROLLED}.scrollTop === {end - 400}")
    await expect(tab.page.get_by_role("button", name="Latest")).to_be_visible()
    place = await tab.page.evaluate(f"{SCROLLED}.scrollTop")
    worker.write(generation_id, f"{lines}END-2\n\n")
    await expect(tab.part("answer")).to_contain_text("END-2")
    assert await tab.page.evaluate(f"{SCROLLED}.scrollTop") == place
    await tab.page.get_by_role("button", name="Latest").click()
    await is_at_end(tab)
    await expect(tab.part("stop")).to_be_visible()
    await tab.page.keyboard.press("Escape")
    await expect(tab.part("status")).to_have_text("Stopped")
    await expect(tab.part("announcer")).to_have_text("The answer was stopped.")


@pytest.mark.parametrize(
    ("label", "wrong", "name", "sentence"),
    [
        ("Temperature", "3", "temperature", "Temperature must be a number from 0 to 2."),
        ("Max tokens", "1.5", "max_tokens", "Max tokens must be a whole number from 1 to 10,000,000."),
    ],
    ids=["a temperature", "a number of tokens"],
)
async def test_a_number_out_of_its_bounds_is_shown_and_nothing_is_sent(
    tabs: Tabs, url: str, worker: Worker, label: str, wrong: str, name: str, sentence: str
) -> None:
    tab = await tabs.open(url)
    await tab.part("settings-open").click()
    field = tab.page.get_by_label(label)
    await field.fill(wrong)
    await tab.part("prompt").fill("hello")
    for send in (tab.part("start").click, lambda: tab.part("prompt").press("Enter")):
        await tab.page.get_by_role("button", name="Done").click()
        await send()
        await expect(tab.part("fault")).to_contain_text(sentence)
        await expect(field).to_be_focused()
    await field.fill("1")
    await tab.part("prompt").press("Enter")
    assert (await worker.answer("Well."))[name] == 1
    assert len(worker.world.requests) == 1


async def test_a_text_that_is_sent_beside_a_link_has_no_settings_of_the_conversation_before(
    tabs: Tabs, url: str, worker: Worker, world: MemoryWorld
) -> None:
    world.add("nightly", kind="feed", status="running", request={})
    tab = await tabs.open(url)
    await tab.part("settings-open").click()
    await tab.page.get_by_label("System prompt").fill("Be brief.")
    await converse(tab, worker, "first", "one")
    assert world.requests[-1].request["system"] == "Be brief."
    await tab.part("generations").get_by_role("link").get_by_text("nightly").click()
    await expect(tab.page.locator("#title")).to_have_text("nightly")
    await tab.send("second")
    _, request = await worker.take()
    assert "system" not in request
