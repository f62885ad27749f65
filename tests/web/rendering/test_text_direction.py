"""A text is laid out in the direction of its first letter, and code and formulas from left to right."""

from __future__ import annotations

import httpx2
from playwright.async_api import Page, expect

from tests.web.rendering.test_answer_page import page_of

FIRST, LAST = "استخدم", "TypeScript"
ARABIC = f"{FIRST} React مع {LAST}."
ENGLISH = f"Use React مع {LAST}."
SAMPLE = f"""## {ARABIC}

{ARABIC}

{ENGLISH}

- {ARABIC}
- {ENGLISH}
- [ ] {ARABIC}

1. {FIRST} `--x` {LAST}

   ```
   {FIRST} x = 1
   ```

> {ARABIC}

| {ARABIC} |
|---|
| {ARABIC} |
| {ENGLISH} |
"""
LEFT = """([selector, text]) => {
  const nodes = document.createTreeWalker(document.querySelector(selector), NodeFilter.SHOW_TEXT);
  while (!nodes.nextNode().data.includes(text));
  const range = document.createRange();
  range.setStart(nodes.currentNode, nodes.currentNode.data.indexOf(text));
  range.setEnd(nodes.currentNode, range.startOffset + text.length);
  return range.getBoundingClientRect().left;
}"""


async def is_left_of(page: Page, selector: str, *texts: str) -> bool:
    """Whether the first of two texts of an element is on the left of the second one."""
    one, other = [await page.evaluate(LEFT, [selector, text]) for text in texts]
    return bool(one < other)


async def test_each_text_has_the_direction_of_its_first_letter(live_client: httpx2.AsyncClient) -> None:
    async with page_of(live_client) as (page, _):
        await page.evaluate("(text) => showText(text, { isOver: true })", SAMPLE)
        await page.wait_for_selector("#root td")
        for selector in (".heading", ".text-section > p", "li > div", "li > p", "blockquote > p", "th", "td"):
            assert not await is_left_of(page, selector, FIRST, LAST), selector
        for selector in (".text-section > p ~ p", "li ~ li > div", "tr ~ tr > td"):
            assert await is_left_of(page, selector, "Use", LAST), selector
        for block in ("ul", "ol", "blockquote"):
            await expect(page.locator(f"#root {block}")).to_have_css("direction", "rtl")


async def test_code_is_laid_out_from_left_to_right_in_every_text(live_client: httpx2.AsyncClient) -> None:
    async with page_of(live_client) as (page, _):
        await page.evaluate("(text) => showText(text, { isOver: true })", SAMPLE)
        await page.wait_for_selector("#root td")
        assert await is_left_of(page, "pre", FIRST, "x = 1")
        assert await is_left_of(page, "li > p > code", "--", "x")
