"""The page for everyone: axe-core finds nothing on it, targets are large enough for fingers, the keyboard is enough."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import expect

from broadcaster.core import events as ev
from tests.console.conftest import Worker
from tests.support.servers.browser import Tab, Tabs
from tests.web.rendering.test_text_direction import ARABIC, FIRST, LAST, is_left_of

AXE = Path(__file__).parents[1] / "compat" / "node" / "node_modules" / "axe-core" / "axe.min.js"
SHOTS = os.environ.get("SHOTS")
WIDE, PHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 844}
FORMS: tuple[tuple[str, dict[str, int], str], ...] = (
    ("wide-light", WIDE, "light"),
    ("phone-dark", PHONE, "dark"),
    ("wide-dark", WIDE, "dark"),
    ("phone-light", PHONE, "light"),
)
SMALLEST_PX = 44
SMALL_TARGETS = """(smallest) => [...document.querySelectorAll("button, a[href], input, select, textarea, summary")]
  .filter((each) => each.checkVisibility({ visibilityProperty: true, opacityProperty: true }) && each.id !== "skip")
  .filter((each) => !each.closest(".content") && !each.closest(".side-foot"))
  .map((each) => [each.id || each.className, each.getBoundingClientRect()])
  .filter(([, { width, height }]) => width < smallest || height < smallest)
  .map(([name, { width, height }]) => `${name}: ${width} x ${height}`)"""
ANSWER = """## A list of steps

1. Write it to a **log**.
2. Replay it, see [the format](https://html.spec.whatwg.org/).

| Failure | Remedy |
| --- | --- |
| lost | replay |

```python
print("live")
```

"""


@pytest.fixture
def axe() -> str:
    if not AXE.exists():
        pytest.fail(f"{AXE} is missing: run make compat-modules")
    return AXE.read_text("utf-8")


async def check(tab: Tab, axe: str, name: str) -> list[str]:
    """The findings of axe-core on the page as it stands, in the forms; ``SHOTS=<folder>`` keeps pictures of them."""
    findings = []
    for form, size, scheme in FORMS if SHOTS else FORMS[:2]:
        await tab.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]
        await tab.page.set_viewport_size(size)  # type: ignore[arg-type]
        if SHOTS:
            await tab.page.screenshot(path=Path(SHOTS) / f"chat-{name}-{form}.png")
        if not await tab.page.evaluate("'axe' in window"):
            await tab.page.evaluate(axe)
        result: dict[str, Any] = await tab.page.evaluate("axe.run()")
        for violation in result["violations"]:
            where = [node["html"][:120] for node in violation["nodes"][:3]]
            findings.append(f"{name}, {form}: {violation['id']}: {where}")
        if size is PHONE:
            small = await tab.page.evaluate(SMALL_TARGETS, SMALLEST_PX)
            findings += [f"{name}, {form}: too small a target: {each}" for each in small]
            if await tab.page.evaluate("document.documentElement.scrollWidth > innerWidth"):
                findings.append(f"{name}, {form}: wider than the screen")
    await tab.page.set_viewport_size(WIDE)  # type: ignore[arg-type]
    return findings


async def test_axe_finds_nothing_on_any_state_of_the_page(tabs: Tabs, url: str, worker: Worker, axe: str) -> None:
    tab = await tabs.open(url)
    await expect(tab.part("prompt")).to_be_focused()
    findings = await check(tab, axe, "empty")
    await tab.send("How does an answer survive?")
    generation_id, _ = await worker.take()
    findings += await check(tab, axe, "waiting")
    worker.world.append(generation_id, ev.ReasoningStart(id="r"), ev.ReasoningDelta(id="r", delta="Let me see."))
    call = ev.ToolInputAvailable(tool_call_id="t", tool_name="search", input={"query": "a"})
    worker.world.append(generation_id, call)
    worker.write(generation_id, ANSWER)
    await expect(tab.part("answer")).to_contain_text("live")
    findings += await check(tab, axe, "streaming")
    worker.finish(generation_id)
    await tab.has_status("finished")
    findings += await check(tab, axe, "finished")
    await tab.part("settings-open").click()
    findings += await check(tab, axe, "settings")
    await tab.part("settings-open").click()
    await tab.send("And then?")
    failed_id, _ = await worker.take()
    worker.write(failed_id, "It ")
    worker.world.append(failed_id, ev.Error(error_text="HTTP 529", code="provider_overloaded"))
    await tab.has_status("failed")
    findings += await check(tab, axe, "failed")
    await tab.page.get_by_role("button", name="Actions for").first.click()
    await tab.part("row-delete").click()
    findings += await check(tab, axe, "dialog")
    await tab.page.keyboard.press("Escape")
    await tab.page.set_viewport_size(PHONE)  # type: ignore[arg-type]
    await tab.page.get_by_role("button", name="Conversations").click()
    findings += await check(tab, axe, "drawer")
    assert not findings, "\n".join(findings)


async def test_the_keyboard_is_enough(tabs: Tabs, url: str, worker: Worker) -> None:
    tab = await tabs.open(url)
    keyboard = tab.page.keyboard
    focused = tab.page.locator(":focus")
    await tab.page.locator("#skip").focus()
    await expect(focused).to_have_text("Skip to the message field")
    await keyboard.press("Enter")
    await expect(tab.part("prompt")).to_be_focused()
    await keyboard.type("one")
    await keyboard.press("Shift+Enter")
    await keyboard.type("two")
    await keyboard.press("Enter")
    generation_id, request = await worker.take()
    assert request["messages"][0]["content"] == "one\ntwo"
    worker.write(generation_id, "on ")
    await expect(tab.part("stop")).to_be_visible()
    await tab.part("stop").focus()
    await keyboard.press("Enter")
    await tab.has_status("aborted")
    await expect(tab.part("prompt")).to_be_focused()

    more = tab.page.get_by_role("button", name="Actions for one two")
    await more.focus()
    await keyboard.press("Enter")
    await expect(tab.part("row-rename")).to_be_focused()
    await keyboard.press("ArrowDown")
    await expect(tab.part("row-delete")).to_be_focused()
    await keyboard.press("Escape")
    await expect(more).to_be_focused()
    await more.press("Enter")
    await tab.part("row-rename").press("Enter")
    await tab.part("rename-title").fill("numbers")
    await keyboard.press("Enter")
    renamed = tab.page.get_by_role("button", name="Actions for numbers")
    await expect(renamed).to_be_focused(timeout=1000)  # at once, and not with the next poll after 2 s
    await renamed.press("Enter")
    await tab.part("row-delete").press("Enter")
    await tab.part("delete-confirm").press("Enter")
    await expect(tab.page.get_by_role("link", name="New conversation")).to_be_focused()

    await tab.page.set_viewport_size(PHONE)  # type: ignore[arg-type]
    await tab.page.get_by_role("button", name="Conversations").focus()
    await keyboard.press("Enter")
    await expect(tab.page.get_by_role("link", name="New conversation")).to_be_focused()
    await keyboard.press("Escape")
    await expect(tab.page.get_by_role("button", name="Conversations")).to_be_focused()
    await tab.part("prompt").focus()
    await tab.send("three")
    stopped_id, _ = await worker.take()
    await expect(tab.part("stop")).to_be_visible()
    await keyboard.press("Escape")
    await tab.has_status("aborted")
    assert worker.world.streams[stopped_id].meta.status == "aborted"


async def test_the_focus_stays_on_the_page_when_its_turn_is_replaced(tabs: Tabs, url: str, worker: Worker) -> None:
    tab = await tabs.open(url)
    await tab.send("one")
    await worker.answer("1")
    await tab.part("regenerate").press("Enter")
    await worker.answer("2")
    await expect(tab.part("answer")).to_have_text("2")
    await expect(tab.page.locator("#scroll")).to_be_focused()
    await tab.part("edit").press("Enter")
    await tab.part("edit-text").fill("two")
    await tab.part("edit-text").press("Enter")
    await worker.answer("3")
    await expect(tab.part("answer")).to_have_text("3")
    await expect(tab.page.locator("#scroll")).to_be_focused()


async def test_a_text_in_arabic_is_written_and_shown_from_right_to_left(tabs: Tabs, url: str, worker: Worker) -> None:
    tab = await tabs.open(url)
    await tab.part("settings-open").click()
    for field in (tab.page.get_by_label("System prompt"), tab.part("prompt")):
        await field.fill(ARABIC)
        await expect(field).to_have_css("direction", "rtl")
    await tab.part("prompt").press("Enter")
    await worker.answer("Well.")
    await tab.has_status("finished")
    for selector in (".prompt-shown", "#title", ".row-title"):
        assert not await is_left_of(tab.page, selector, FIRST, LAST), selector
    await tab.part("edit").press("Enter")
    await expect(tab.part("edit-text")).to_have_css("direction", "rtl")
    await tab.page.get_by_role("button", name="Actions for").click()
    await tab.part("row-rename").click()
    await expect(tab.part("rename-title")).to_have_css("direction", "rtl")
