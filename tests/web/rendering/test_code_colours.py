"""The colours of code in Chromium, which a worker beside the page finds."""

from __future__ import annotations

import asyncio

import httpx2
from playwright.async_api import expect

from tests.web.rendering.test_answer_page import STRICT, page_of

COLOURED_TEXTS = (
    "() => [...CSS.highlights.values()].flatMap((each) => [...each]).map((each) => each.startContainer.data)"
)


async def test_code_whose_patterns_take_long_has_no_colours_and_holds_nothing_up(
    live_client: httpx2.AsyncClient,
) -> None:
    # More than half a minute each.
    blocks = [f"```java\nint x = 1; {'$' * 50_000}\n```", f"```markdown\n{'[a](' * 12_000}\n```"]
    async with page_of(live_client) as (page, _):
        text = "\n\n".join([*blocks, "```python\ndef flow(): pass\n```"])
        await page.evaluate("(text) => showText(text, { isOver: true })", text)
        async with asyncio.timeout(30):
            while not (coloured := await page.evaluate(COLOURED_TEXTS)):
                await asyncio.sleep(0.02)
        assert set(coloured) == {"def flow(): pass"}


async def test_where_a_page_may_have_no_worker_its_code_has_no_colours(live_client: httpx2.AsyncClient) -> None:
    policy = STRICT.replace("trusted-types code-ranges", "trusted-types 'none'")
    async with page_of(live_client, policy=policy) as (page, _):
        await page.evaluate("(text) => showText(text, { isOver: true })", "```python\ndef flow(): pass\n```")
        await expect(page.get_by_test_id("code")).to_contain_text("def flow(): pass")
        found = await page.evaluate(
            """async () => {
              const { rangeFinder } = await import("/console/render/markdown/range_finder.js");
              return [await rangeFinder.find("x", "python"), await rangeFinder.find("x", "python")];
            }"""
        )
        assert found == [None, None]
