"""Where a link of an answer leads is shown in its own order, whatever a model writes before it."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from tests.web.rendering.test_answer_page import page_of, text_part

RIGHT_TO_LEFT = "\u202e"
HOST = "moc.knab.evil.example"
URL = f"https://{HOST}/"
LABEL = f"{RIGHT_TO_LEFT}{HOST[:8]} ruoY"
LINK = {"url": URL, "title": LABEL}


@pytest.mark.parametrize(
    ("part", "where", "shown"),
    [
        (text_part(f"[{LABEL}]({URL})"), "target", f"({HOST})"),
        (text_part(f"{RIGHT_TO_LEFT}[Your bank]({URL})"), "target", f"({HOST})"),
        (text_part(f"{RIGHT_TO_LEFT}<{URL}>"), "label", URL),
        (text_part(f"\u05e9\u05dc\u05d5\u05dd [\u05d1\u05e0\u05e7]({URL})"), "target", f"({HOST})"),
        (text_part(f"![{LABEL}]({URL})"), "target", f"({HOST})"),
        (text_part(f"[{RIGHT_TO_LEFT}r]: {URL}"), "label", URL),
        ({"type": "source-url", "sourceId": "s", **LINK}, "target", f"({HOST})"),
        ({"type": "data-link", "data": LINK}, "target", f"({HOST})"),
    ],
    ids=["a link", "a link after it", "an address", "in Hebrew", "an image", "a definition", "a source", "a report"],
)
async def test_no_sign_in_a_label_turns_round_where_the_link_leads(
    live_client: httpx2.AsyncClient, part: dict[str, Any], where: str, shown: str
) -> None:
    async with page_of(live_client) as (page, _):
        await page.evaluate("(part) => show({ parts: [part], status: 'finished' })", part)
        await page.wait_for_selector(f"#root a .link-{where}")
        letters = await page.evaluate("(selector) => lettersOf(selector)", f"#root a .link-{where}")
        assert letters == shown
