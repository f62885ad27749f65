"""One answer in Chromium, drawn by the console's own module from folded states: no worker, no Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from playwright.async_api import Page, Request, Route, expect

from broadcaster.web.routes.console import POLICY
from tests.support.servers.browser import open_tabs

# Trusted Types refuse every text that would become markup or a script, in the libraries, too. The one policy knows one
# address, that of the worker that finds the colours of code.
STRICT = f"{POLICY}; require-trusted-types-for 'script'; trusted-types code-ranges"
SCRIPT = (Path(__file__).parent / "page.js").read_text()
STYLES = "".join(
    f'<link rel="stylesheet" href="/console/{name}">' for name in ("base.css", "render/answer.css", "render/parts.css")
)
PAGE = f"""<!doctype html><html lang="en"><title>t</title>{STYLES}
<script type="module" src="/test/page.js"></script><div id="root"></div>"""
ALLOWED = frozenset(
    """
    a blockquote br button code del details div em h2 h3 h4 h5 h6 hr li ol p pre s span strong summary table tbody td th
    thead tr ul progress
    math mrow mi mo mn ms mtext mspace msup msub msubsup mover munder munderover mfrac msqrt mroot mstyle mtable mtr mtd
    mpadded mphantom merror menclose semantics annotation none mprescripts mmultiscripts
    """.split()  # noqa: SIM905 - a list of a line each would be longer than all the rest
)
HOSTILE = [
    "<script>document.title='taken'</script>",
    "<img src=x onerror=\"document.title='taken'\">",
    "<svg onload=\"document.title='taken'\"><a xlink:href='javascript:1'>x</a></svg>",
    "<iframe srcdoc=\"<script>parent.document.title='taken'</script>\"></iframe>",
    "[a](javascript:document.title='taken')",
    "[a](JaVaScRiPt&colon;document.title='taken')",
    "[a](java&Tab;script:document.title='taken')",
    "[a](&#106;avascript:alert(1))",
    "[a](data:text/html,<script>alert(1)</script>)",
    "[a](vbscript:x) [b](<javascript:x>) [c]( javascript:x )",
    "<javascript:alert(1)> <https://a.example/\"onmouseover=alert(1)>",
    "![x](https://tracker.example/pixel.png) ![y](javascript:alert(1)) ![z](data:image/svg+xml,<svg/onload=alert(1)>)",
    "[r]: javascript:alert(1)\n\n[r] and ![r]",
    "[a](https://a.example/ \"title' onmouseover='alert(1)\")",
    "```\"><script>document.title='taken'</script>\n</code></pre><img src=x onerror=alert(1)>\n```",
    "`<img src=x onerror=alert(1)>`",
    "| <img src=x onerror=alert(1)> | [a](javascript:1) |\n|---|---|\n| <style>*{}</style> |<base href=//x>|",
    "- [ ] <input autofocus onfocus=alert(1)>\n- [x] <form action=javascript:1><button>x</button></form>",
    "$\\href{javascript:alert(1)}{x}$ $\\url{javascript:alert(1)}$ $\\includegraphics{https://tracker.example/x.png}$",
    "$\\class{a}{x}$ $\\id{root}{x}$ $\\style{position:fixed}{x}$ $\\htmlData{x=1}{y}$ $\\label{prompt} x \\tag{1}$",
    "$$\n\\text{</mtext><img src=x onerror=alert(1)>} \\unicode{x3c}\n$$",
    "$\\def\\a{\\a\\a}\\a$ $\\rule{9999em}{9999em}$ $\\color{expression(alert(1))}x$",
    "# <a name=prompt onclick=alert(1)>x</a>\n<!-- --><b onclick=alert(1)>b</b>\n<div style='position:fixed'>\n",
    "__proto__ [x]: [__proto__]: https://a.example\n\n[__proto__] [constructor]",
]  # fmt: skip
SAMPLE = """## Section

Rivers carry **fresh water** and *minerals*, see [the survey](https://a.example/x) and `code`; $E = mc^2$.
A second line follows.

1. Rain falls
2. It runs off
   - into brooks
   - into **rivers**

- [x] Measure

| River | Length |
|:------|-------:|
| Rhine | 1,233 |
| Danube | 2,850 |

```python
def flow(area: float) -> float:
    return area * 1.5  # a comment
```

> Salt stays.

$$
\\int_0^1 x^2\\,dx = \\frac{1}{3}
$$

"""


@asynccontextmanager
async def page_of(client: httpx2.AsyncClient, *, policy: str = STRICT) -> AsyncIterator[tuple[Page, list[str]]]:
    """The page, and the requests to other hosts."""
    base = f"{client.base_url}".rstrip("/")
    foreign: list[str] = []

    def note(request: Request) -> None:
        if not request.url.startswith((base, "about:")):
            foreign.append(request.url)

    async def give(route: Route) -> None:
        is_page = route.request.url.endswith(".html")
        await route.fulfill(
            body=PAGE if is_page else SCRIPT,
            content_type="text/html" if is_page else "text/javascript",
            headers={"content-security-policy": policy},
        )

    async with open_tabs() as tabs:
        page = (await tabs.open("about:blank")).page
        page.on("request", note)
        await page.route(f"{base}/test/*", give)
        await page.goto(f"{base}/test/page.html")
        await page.wait_for_selector("html[data-ready]")
        yield page, foreign


def text_part(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text, "state": "done"}


async def test_text_of_a_model_makes_no_element_and_no_link_but_those_of_markdown(
    live_client: httpx2.AsyncClient,
) -> None:
    async with page_of(live_client) as (page, foreign):
        dialogs: list[str] = []
        page.on("dialog", lambda dialog: dialogs.append(dialog.message))
        for texts in ([each] for each in (*HOSTILE, "\n\n".join(HOSTILE))):
            evil = texts[0]
            parts = [
                text_part(evil),
                {"type": "reasoning", "text": evil, "state": "done"},
                {
                    "type": "tool",
                    "toolCallId": "1",
                    "toolName": evil,
                    "state": "output-available",
                    "input": evil,
                    "output": evil,
                },
                {"type": "data-log", "data": {"message": evil, "level": evil}},
                {"type": "data-progress", "id": evil, "data": {"done": evil, "total": 1, "message": evil}},
                {"type": "data-link", "data": {"url": evil, "title": evil}},
                {"type": "data-link", "data": {"url": "javascript:alert(1)", "title": "x"}},
                {"type": "data-x", "data": {"__proto__": evil, "url": "javascript:alert(1)"}},
                {"type": "source-url", "sourceId": "s", "url": "javascript:alert(1)", "title": evil},
            ]
            await page.evaluate(
                "([state, revision]) => show(state, { revision })", [{"parts": parts, "status": "finished"}, evil]
            )
            await page.evaluate("document.querySelectorAll('details').forEach((each) => (each.open = true))")
            await expect(page.locator(".is-reasoning .text-section > *")).not_to_have_count(0)
            found = await page.evaluate("inventory()")
            assert set(found["tags"]) <= ALLOWED, evil
            assert (found["bad"], found["ids"]) == ([], 0), evil
            for tag, protocol, rel, target in found["links"]:
                assert (tag, rel, target) == ("a", "noopener noreferrer nofollow", "_blank"), evil
                assert protocol in {"http:", "https:", "mailto:"}, evil
        # The formulas are drawn when Temml has been loaded: the inventory is taken once more.
        await page.wait_for_selector("#root math")
        found = await page.evaluate("inventory()")
        assert set(found["tags"]) <= ALLOWED
        assert [each for each in found["bad"] if each[0] != "style"] == []
        assert found["ids"] == 0
        assert (await page.title(), dialogs, foreign) == ("t", [], [])
        assert await page.evaluate("({}).polluted === undefined")


async def test_data_and_formulas_that_are_made_to_be_huge_do_not_stop_the_page(live_client: httpx2.AsyncClient) -> None:
    deep = "[" * 50_000 + "]" * 50_000
    tool = {"type": "tool", "toolCallId": "1", "toolName": "t", "state": "output-available", "input": {}}
    async with page_of(live_client) as (page, _):
        parts = [
            {"type": "data-x", "data": deep},
            {"type": "data-y", "data": {"text": "x" * 1_000_000}},
            {**tool, "output": deep},
            text_part("$$\n\\def\\b{" + "x" * 4000 + "}" + "\\b" * 180 + "\n$$\n\n$x^2$ is drawn."),
            {"type": "data-log", "data": "the last line"},
        ]
        await page.evaluate("(parts) => show({ parts, status: 'finished' })", parts)
        await page.evaluate("document.querySelectorAll('details').forEach((each) => (each.open = true))")
        await page.wait_for_selector("#root math")
        assert await page.locator("#root mi").count() == 1
        await expect(page.get_by_test_id("log")).to_contain_text("the last line")
        await expect(page.locator(".fold pre").last).to_contain_text("[[[")
        longest = "Math.max(...[...document.querySelectorAll('#root pre')].map((pre) => pre.textContent.length))"
        assert await page.evaluate(longest) < 100_100


def nested(levels: int, before: str, after: str = "}") -> str:
    return before * levels + "x" + after * levels


async def test_a_formula_that_multiplies_the_work_or_breaks_the_parser_is_its_source(
    live_client: httpx2.AsyncClient,
) -> None:
    costly = [
        nested(6, r"\cancelto{x}{"),
        nested(6, r"\llap{"),
        nested(6, r"\mathllap{"),
        nested(6, r"\equilibriumLeft{"),
        r"\ce{" + nested(6, r"<=>>[\frac{", "}{A}]") + "}",
        nested(7, r"\ce{^{", "}_{2}X}"),
        nested(6, "\\ce{^{%}}\n", "}_{2}X}"),
        r"\cancelto{0}{" + "x+" * 1100 + r"x}\llap{x}\llap{x}",
    ]
    broken = [r"\ce{A^^}", r"\ce{A\bond{x}B}", r"\frac{"]
    usual = [
        r"\cancelto{0}{x} + \cancelto{0}{y} + \cancelto{1}{z}",
        r"\ce{2H2} + \ce{O2} + \ce{N2} + \ce{He} + \ce{Ar} + \ce{Ne} + \ce{^{14}_{6}C} + \ce{^{14}_{7}N}",
        r"\ce{" + "A -> " * 200 + "A}",
    ]
    blocks = [f"$$\n{each}\n$$\n\n" for each in costly + broken + usual]
    async with page_of(live_client) as (page, _):
        await page.evaluate("(text) => showText(text, { isOver: true })", "".join(blocks))
        # They are drawn one after another.
        await expect(page.locator(".formula").last.locator(".formula-drawn")).to_be_visible()
        assert await page.locator(".formula-source:visible").all_text_contents() == costly + broken


async def test_an_answer_grows_without_touching_what_is_finished(live_client: httpx2.AsyncClient) -> None:
    async with page_of(live_client) as (page, _):
        written = await page.evaluate("write", {"text": SAMPLE * 22, "tokenChars": 4, "perFrame": 16})
        assert written["removed"] == 0
        assert written["finished"] > 150
        await expect(page.locator(".text math").first).to_be_visible()
        await expect(page.locator(".text table tbody tr")).to_have_count(44)
        async with asyncio.timeout(10):
            while await page.evaluate("[...CSS.highlights.keys()].sort().join()") < "code-comment,code-keyword":
                await asyncio.sleep(0.02)

        code = page.get_by_test_id("code").first
        await expect(code).to_contain_text("Python")
        await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        await code.get_by_role("button", name="Copy code").click()
        await expect(code.get_by_role("button")).to_have_text("Copied")
        copied = await page.evaluate("navigator.clipboard.readText()")
        assert copied == "def flow(area: float) -> float:\n    return area * 1.5  # a comment"

        open_part = {"type": "text", "text": "Now **bol", "state": "streaming"}
        # An open end is shown as it will be read; nothing of its markup is seen.
        await page.evaluate("(part) => show({ parts: [part] }, { revision: 1 })", open_part)
        await expect(page.get_by_test_id("answer").locator("strong")).to_have_text("bol")


async def test_a_new_attempt_dims_the_old_text_until_it_has_text_of_its_own(live_client: httpx2.AsyncClient) -> None:
    async with page_of(live_client) as (page, _):
        answer, note = page.get_by_test_id("answer"), page.get_by_test_id("attempt-note")
        await page.evaluate("show({ parts: [{ type: 'text', text: 'The old text', state: 'streaming' }] })")
        await expect(note).to_be_hidden()
        begun = "{ attempt: 2, parts: [{ type: 'step-start' }] }"
        await page.evaluate(f"show({begun}, {{ revision: 1, attemptReason: 'worker_lost' }})")
        await expect(answer).to_have_text("The old text")
        await expect(answer).to_have_class("answer is-stale")
        await expect(note).to_have_text("The worker was lost; the answer was restarted (attempt 2).")
        newest = [{"type": "step-start"}, {"type": "text", "text": "New", "state": "streaming"}]
        await page.evaluate("(parts) => show({ attempt: 2, parts }, { revision: 1 })", newest)
        await expect(answer).to_have_text("New")
        await expect(answer).to_have_class("answer")
        # A log that was rewound within an attempt is drawn anew at once.
        await page.evaluate("show({ attempt: 2, parts: [] }, { revision: 2 })")
        await expect(answer).to_have_text("")


async def test_reasoning_and_tools_are_folded_with_what_they_do_and_how_long_it_took(
    live_client: httpx2.AsyncClient,
) -> None:
    async with page_of(live_client) as (page, _):
        reasoning = {"type": "reasoning", "text": "", "state": "streaming"}
        await page.evaluate("(parts) => show({ parts })", [reasoning])
        fold = page.get_by_test_id("reasoning")
        await expect(fold).to_be_hidden()
        await page.evaluate("(parts) => show({ parts })", [{**reasoning, "text": "First **this**"}])
        await expect(fold.locator("summary")).to_contain_text("Thinking")
        await expect(fold.locator(".spinner")).to_be_visible()
        await expect(fold.locator(".fold-body")).to_be_hidden()
        call = {
            "type": "tool",
            "toolCallId": "1",
            "toolName": "search",
            "state": "input-available",
            "input": {"q": "sea"},
        }
        done = {**reasoning, "text": "First **this**", "state": "done"}
        await page.evaluate("(parts) => show({ parts })", [done, call])
        await expect(fold.locator("summary")).to_contain_text("Reasoning")
        await expect(fold.locator(".spinner")).to_be_hidden()
        await expect(fold.locator(".fold-took")).to_contain_text(" s")
        await fold.locator("summary").press("Enter")
        await expect(fold.locator("strong")).to_have_text("this")
        tool = page.get_by_test_id("tool")
        await expect(tool.locator(".spinner")).to_be_visible()
        await expect(tool.locator("summary")).to_contain_text('search{"q":"sea"}running')
        await tool.locator("summary").click()
        await expect(tool.get_by_role("group", name="Input")).to_have_text('{\n  "q": "sea"\n}')
        ended = {**call, "state": "output-available", "output": '{"hits": [1]}'}
        await page.evaluate("(parts) => show({ parts })", [done, ended])
        await expect(tool.get_by_role("group", name="Output")).to_have_text('{\n  "hits": [\n    1\n  ]\n}')
        await expect(tool.locator(".fold-state")).to_have_text("done")
        await expect(tool.locator(".fold-took")).to_contain_text(" s")
        failed = {**call, "state": "output-error", "errorText": "no such page"}
        await page.evaluate("(parts) => show({ parts, status: 'failed' })", [done, failed, {**call, "toolCallId": "2"}])
        await expect(tool.first).to_contain_text("no such page")
        await expect(tool.last.locator(".fold-state")).to_have_text("not finished")


async def test_a_feed_shows_progress_with_its_time_logs_and_links_and_stays_small(
    live_client: httpx2.AsyncClient,
) -> None:
    async with page_of(live_client) as (page, _):

        def progress(done: int) -> dict[str, Any]:
            return {"type": "data-progress", "data": {"done": done, "total": 1000, "message": "Copying"}}

        lines = [{"type": "data-log", "data": f"line {number}"} for number in range(3000)]
        reports = [{"type": "data-x", "data": number} for number in range(1000)]
        link = {"type": "data-link", "data": {"url": "https://files.example/1", "title": "The report"}}
        parts = [progress(1), *lines, *reports, link, progress(2)]
        await page.evaluate("(parts) => show({ parts: (window.parts = parts) })", parts)
        await expect(page.get_by_test_id("step")).to_have_count(1)
        await expect(page.get_by_test_id("step")).to_contain_text("0% (2/1,000)")
        await expect(page.locator(".log-line")).to_have_count(500)
        await expect(page.locator(".log-line").last).to_have_text("line 2999")
        await expect(page.get_by_test_id("log")).to_contain_text("2,500 earlier lines are not shown.")
        await expect(page.get_by_test_id("data")).to_have_count(300)
        await expect(page.get_by_text("700 earlier reports are not shown.")).to_be_visible()
        await expect(page.get_by_role("link", name="The report (files.example)")).to_be_visible()
        await page.wait_for_timeout(1100)
        await page.evaluate("(newest) => show({ parts: [...parts, newest] })", progress(500))
        await expect(page.get_by_test_id("step")).to_contain_text(" left")
        await expect(page.locator("progress")).to_have_js_property("value", 500)


async def test_a_feed_of_tens_of_thousands_of_parts_and_of_huge_fields_leaves_few_nodes(
    live_client: httpx2.AsyncClient,
) -> None:
    make = """(count) => {
      const of = (make) => Array.from({ length: count }, (_, number) => make(number));
      const huge = "x".repeat(10_000_000);
      window.parts = [
        ...of((number) => ({ type: "data-link", data: { url: `https://a.example/${number}`, title: `${number}` } })),
        ...of((number) => ({ type: "data-progress", id: `job ${number}`, data: { done: 1, total: 2 } })),
        ...of((number) => ({ type: "data-status", id: `part ${number}`, data: "ok" })),
        ...of((number) => ({ type: "data-x", id: `x${number}`, data: number })),
        ...of((number) => ({ type: number % 2 ? "data-log" : "source-url", data: "line", url: "https://a.example" })),
        { type: "data-status", data: huge },
        { type: "data-progress", data: { done: 1, total: 2, message: huge } },
        { type: "data-link", data: { url: `https://a.example/${huge}`, title: huge } },
        { type: `data-${huge}`, id: huge, data: huge },
        { type: "data-log", data: huge },
      ];
      return made(() => show({ parts }));
    }"""
    async with page_of(live_client) as (page, _):
        drawn = await page.evaluate(make, 20_000)
        # A few for each part and no more: what leaves the page is not drawn anew.
        assert drawn["elements"] < 6 * 100_000
        assert drawn["changes"] < 10 * 100_000
        assert drawn["characters"] < 20_000_000
        await expect(page.get_by_text("19,700 earlier bars are not shown.")).to_be_visible()
        await expect(page.get_by_text("19,700 earlier statuses are not shown.")).to_be_visible()
        await expect(page.get_by_text("29,701 earlier links are not shown.")).to_be_visible()
        await expect(page.get_by_text("9,801 earlier log lines are not shown.")).to_be_visible()
        assert await page.evaluate("document.querySelectorAll('#root *').length") < 10_000
        assert await page.evaluate("document.getElementById('root').textContent.length") < 400_000
        await expect(page.get_by_test_id("report-status").last).to_contain_text("… (9,998,000 more characters)")
        await expect(page.get_by_test_id("step").last).to_contain_text("… (9,999,700 more characters)")
        redrawn = await page.evaluate("made(() => show({ parts: [...parts] }))")
        assert (redrawn["elements"], redrawn["characters"]) == (0, 0)
        assert redrawn["changes"] <= 1


@pytest.mark.thorough
async def test_a_megabyte_of_text_is_drawn_in_portions_and_can_be_read_meanwhile(
    live_client: httpx2.AsyncClient,
) -> None:
    async with page_of(live_client) as (page, _):
        count = 1_000_000 // len(SAMPLE)
        first = await page.evaluate(
            "(text) => { const began = performance.now(); showText(text, { isOver: true }); return since(began) }",
            SAMPLE * count,
        )
        assert first < 1000
        await expect(page.locator("#root .heading").first).to_have_text("Section")
        await expect(page.locator("#root .heading")).to_have_count(count, timeout=60_000)
        await page.evaluate("scrollTo(0, document.body.scrollHeight)")
        await expect(page.get_by_text("Salt stays.").last).to_be_visible()


@pytest.mark.thorough
async def test_three_thousand_tokens_at_200_a_second_leave_most_frames_below_50_ms(
    live_client: httpx2.AsyncClient,
) -> None:
    async with page_of(live_client) as (page, _):
        written = await page.evaluate("write", {"text": SAMPLE * 22, "tokenChars": 4, "perSecond": 200})
        assert written["removed"] == 0
        for times_ms in (sorted(written["work"]), sorted(written["frames"])):
            assert times_ms[len(times_ms) // 2] < 50  # the slowest frames belong to what else the machine does
