"""Parts that leave the page because there are too many of their kind."""

from __future__ import annotations

import httpx2
from playwright.async_api import expect

from tests.web.rendering.test_answer_page import page_of


async def test_lines_of_a_log_are_shown_after_the_log_before_them_has_left_the_page(
    live_client: httpx2.AsyncClient,
) -> None:
    named = [{"type": "data-log", "id": f"{number}", "data": "named"} for number in range(2000)]
    parts = [{"type": "data-log", "data": "early"}, *named, {"type": "data-log", "data": "late"}]
    async with page_of(live_client) as (page, _):
        await page.evaluate("(parts) => show({ parts })", parts)
        await expect(page.locator(".log-line")).to_have_text("late")
