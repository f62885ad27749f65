"""The colours of code in Chromium, which a worker beside the page finds."""

from __future__ import annotations

import asyncio

import httpx2

from tests.web.rendering.test_answer_page import page_of

COLOURED_TEXTS = (
    "() => [...CSS.highlights.values()].flatMap((each) => [...each]).map((each) => each.startContainer.data)"
)


async def test_code_whose_patterns_take_long_has_no_colours_and_holds_nothing_up(
    live_client: httpx2.AsyncClient,
) -> None:
    blocks = [f"```csharp\nint x = 1; {'a' * 50_000}\n```", f"```java\nint x = 1; {'$' * 50_000}\n```"]
    async with page_of(live_client) as (page, _):
        text = "\n\n".join([*blocks, "```python\ndef flow(): pass\n```"])
        await page.evaluate("(text) => showText(text, { isOver: true })", text)
        async with asyncio.timeout(30):
            while not (coloured := await page.evaluate(COLOURED_TEXTS)):
                await asyncio.sleep(0.02)
        assert set(coloured) == {"def flow(): pass"}
