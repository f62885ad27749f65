"""The console page: how its files are served, and that its fold is the same as ours."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import httpx2
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broadcaster.core.events import DataEvent
from broadcaster.core.fold import Fold
from broadcaster.core.requests.progress import progress_of
from broadcaster.core.sse import SseDecoder
from tests.support.servers.console_modules import CLIENT, CONSOLE, ConsoleModules, console_modules

TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
FILES = {str(path.relative_to(CONSOLE)): path for path in CONSOLE.rglob("*") if path.suffix in TYPES} | {
    f"client/{path.name}": path for path in CLIENT.glob("*.js")
}


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsoleModules]:
    with console_modules(tmp_path_factory.mktemp("console")) as running:
        yield running


# ------------------------------------------------------------------------------------------------------------- serving


@pytest.mark.parametrize("name", sorted(FILES))
async def test_every_file_is_served_with_its_type_and_revalidated_each_time(
    client: httpx2.AsyncClient, name: str
) -> None:
    response = await client.get(f"/console/{name}")
    assert response.status_code == 200
    assert response.content == FILES[name].read_bytes()
    assert response.headers["content-type"].partition(";")[0] == TYPES["." + name.rpartition(".")[2]]
    assert response.headers["cache-control"] == "no-cache"
    repeated = await client.get(f"/console/{name}", headers={"if-none-match": response.headers["etag"]})
    assert (repeated.status_code, repeated.content) == (304, b"")


async def test_the_page_is_the_root_under_a_strict_policy(client: httpx2.AsyncClient) -> None:
    response = await client.get("/")
    assert response.content == (CONSOLE / "index.html").read_bytes()
    policy = response.headers["content-security-policy"]
    assert policy.startswith("default-src 'self';")
    assert "unsafe" not in policy
    assert (await client.head("/")).status_code == 200


async def test_nothing_but_the_page_is_served(client: httpx2.AsyncClient) -> None:
    for path in ("/console/", "/console/package.json", "/console/..%2Fapp.py", "/console/%2e%2e/app.py", "/app.js"):
        assert (await client.get(path)).status_code == 404


def test_the_page_needs_nothing_from_elsewhere_and_nothing_inline() -> None:
    page = (CONSOLE / "index.html").read_text()
    assert not re.search(r"""(?:src|href)=["'](?:https?:)?//""", page)
    assert not re.search(r"<style|<script(?![^>]*\bsrc=)|\sstyle=|\son[a-z]+=", page)
    for style in CONSOLE.rglob("*.css"):
        assert not re.search(r"url\(|@import", style.read_text())


def test_every_file_the_page_names_exists() -> None:
    page = (CONSOLE / "index.html").read_text()
    named = re.findall(r'(?:src|href)="/console/([^"]+)"', page)
    for module in CONSOLE.rglob("*.js"):
        paths = re.findall(r'from "(\.[^"]+)"', module.read_text())
        named += [os.path.normpath(module.relative_to(CONSOLE).parent / path) for path in paths]
    assert named
    assert set(named) <= set(FILES)


def test_text_that_a_model_writes_never_becomes_markup() -> None:
    # What others wrote has such code in parts that the page does not use: tests/web/rendering shows it.
    ours = (path for path in CONSOLE.rglob("*.js") if "vendor" not in path.parts)
    for module in (*ours, *CLIENT.glob("*.js")):
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b", module.read_text())


@pytest.mark.parametrize(
    "hook",
    ["prompt", "start", "stop", "thread", "status", "viewers", "conversations", "generations", "operate"],
)
def test_tests_find_every_part_of_the_page(hook: str) -> None:
    assert (CONSOLE / "index.html").read_text().count(f'data-testid="{hook}"') == 1


def test_every_element_the_modules_look_up_is_on_the_page() -> None:
    page = (CONSOLE / "index.html").read_text()
    for module in CONSOLE.rglob("*.js"):
        for name in re.findall(r"""(?:byId|getElementById)\("([^"]+)"\)""", module.read_text()):
            assert page.count(f' id="{name}"') == 1, f"{module.name}: {name}"


# ------------------------------------------------------------------------------------------------------------ the fold

IDS = st.sampled_from(["0", "1", "a b"])
TEXTS = st.text(max_size=8)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-1000, 1000) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=4,
)
KEYS = st.sampled_from(["a", "signature", "__proto__", "constructor"])
METADATA = st.dictionaries(KEYS, st.dictionaries(KEYS, VALUES, max_size=2), max_size=2)
FINISH_REASONS = st.sampled_from(["stop", "length", "tool-calls"])
COUNTS = st.integers(0, 1000)


def event(kind: str, optional: Mapping[str, Any] | None = None, **required: Any) -> st.SearchStrategy[dict[str, Any]]:
    """Events of one type; what is optional may be absent or null."""
    maybe = {name: st.none() | values for name, values in (optional or {}).items()}
    maybe["providerMetadata"] = st.none() | METADATA
    return st.fixed_dictionaries({"type": st.just(kind), **required}, optional=maybe)


NOTES = {"providerExecuted": st.booleans(), "dynamic": st.booleans()}
TOOL = {"toolCallId": IDS}
NAMED_TOOL = TOOL | {"toolName": TEXTS}
EVENTS = st.one_of(
    event("start", {"messageId": TEXTS, "messageMetadata": st.dictionaries(KEYS, VALUES, max_size=2)}),
    event("start-step"),
    event("finish-step", {"finishReason": FINISH_REASONS}),
    *(event(f"{kind}-start", id=IDS) for kind in ("text", "reasoning")),
    *(event(f"{kind}-delta", id=IDS, delta=TEXTS) for kind in ("text", "reasoning")),
    *(event(f"{kind}-end", id=IDS) for kind in ("text", "reasoning")),
    event("tool-input-start", NOTES, **NAMED_TOOL),
    event("tool-input-delta", None, inputTextDelta=TEXTS, **TOOL),
    event("tool-input-available", NOTES, input=VALUES, **NAMED_TOOL),
    event("tool-input-error", NOTES, input=VALUES, errorText=TEXTS, **NAMED_TOOL),
    event("tool-output-available", NOTES | {"preliminary": st.booleans()}, output=VALUES, **TOOL),
    event("tool-output-error", NOTES, errorText=TEXTS, **TOOL),
    event("source-url", {"title": TEXTS}, sourceId=IDS, url=TEXTS),
    event("source-document", {"filename": TEXTS}, sourceId=IDS, mediaType=TEXTS, title=TEXTS),
    event("file", url=TEXTS, mediaType=TEXTS),
    event("usage", {"inputTokens": COUNTS, "outputTokens": COUNTS, "cachedInputTokens": COUNTS}),
    st.fixed_dictionaries({"type": st.just("usage"), "estimated": st.booleans()}, optional={"outputTokens": COUNTS}),
    st.fixed_dictionaries(
        {"type": st.sampled_from(["data-a", "data-b"]), "data": VALUES},
        optional={"id": st.none() | IDS, "transient": st.none() | st.booleans()},
    ),
    st.fixed_dictionaries({"type": st.just("attempt"), "attempt": st.integers(2, 9)}),
    st.fixed_dictionaries({"type": st.just("newer-than-us"), "x": VALUES}),
)
TERMINALS = st.one_of(
    event("finish", {"finishReason": FINISH_REASONS, "messageMetadata": st.dictionaries(KEYS, VALUES, max_size=2)}),
    st.fixed_dictionaries({"type": st.just("error"), "errorText": TEXTS}, optional={"code": TEXTS}),
    st.fixed_dictionaries({"type": st.just("abort")}, optional={"reason": st.none() | TEXTS}),
)


def ours(events: list[dict[str, Any]]) -> dict[str, Any]:
    """What core/fold.py makes of the events, in the console's names."""
    fold = Fold()
    for each in events:
        fold.apply(msgspec.json.encode(each))
    state = asdict(fold.state)
    return {re.sub("_(.)", lambda found: found[1].upper(), name): value for name, value in state.items()}


@settings(max_examples=150, deadline=None)
@given(events=st.lists(EVENTS, max_size=25), end=st.lists(TERMINALS | EVENTS, max_size=2))
def test_the_browsers_fold_is_ours(
    modules: ConsoleModules, events: list[dict[str, Any]], end: list[dict[str, Any]]
) -> None:
    assert modules.run("fold", events + end) == ours(events + end)


# --------------------------------------------------------------------------------------------------- the event stream

SSE_PIECES = st.sampled_from(
    ["data", "id", "event", "retry", ":", ": ", " ", "\n", "\n\n", "\r", "\r\n", "x", "12", "\0", "é", "\u2028", "{}",
     "data: a", "id: 5-1", "event: hub.live", "retry: 40"]
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(connections=st.lists(st.lists(st.lists(SSE_PIECES, max_size=6).map("".join), max_size=8), max_size=3))
def test_the_pages_own_decoder_reads_a_stream_as_ours_does_however_it_is_cut(
    modules: ConsoleModules, connections: list[list[str]]
) -> None:
    decoder, messages = SseDecoder(), []
    for portions in connections:
        decoder.flush()
        for portion in portions:
            messages += decoder.decode(portion.encode())
    result = modules.run("sse", connections)
    assert [(each["type"], each["data"], each["lastEventId"]) for each in result["messages"]] == [
        (each.event, each.data, each.id) for each in messages
    ]
    assert result["lastEventId"] == decoder.last_event_id


def test_the_pages_own_decoder_keeps_the_servers_reconnection_delay(modules: ConsoleModules) -> None:
    result = modules.run("sse", [["retry: 40\ndata: a\n\nretry: soon\nid: 5-1\n", "\nid: 5-2\n"]])
    assert (result["retryMs"], result["lastEventId"]) == (40, "5-1")


# ----------------------------------------------------------------------------------------------------------- the texts


def test_a_gap_names_its_range_only_where_it_is_known(modules: ConsoleModules) -> None:
    def sentence(kind: str, first: int, last: int) -> str:
        return modules.run("texts", ["noticeSentence", {"kind": kind, "from": first, "to": last}])

    assert sentence("trimmed", 1, 7) == "An earlier part (events 1–7) has expired."
    assert sentence("trimmed", 3, 3) == "An earlier part (event 3) has expired."
    assert sentence("reset", 0, 0) == "The server restarted the stream."


@pytest.mark.parametrize(
    ("data", "step"),
    [
        ({"done": 1, "total": 4}, {"done": 1, "total": 4, "percent": 25, "message": ""}),
        ({"done": 399, "total": 400, "message": "on"}, {"done": 399, "total": 400, "percent": 99, "message": "on"}),
        ({"done": 9, "total": 4, "message": 5}, {"done": 9, "total": 4, "percent": 100, "message": ""}),
        ({"done": 1, "total": 0}, None),
        ({"done": -1, "total": 4}, None),
        ({"done": True, "total": 4}, None),
        ({"done": 1}, None),
        (None, None),
        ("half", None),
    ],
)
def test_how_far_a_job_is_reads_as_it_does_in_the_terminal(modules: ConsoleModules, data: Any, step: Any) -> None:
    assert modules.run("call", ["render/reports.js", "stepOf", data]) == step
    ours = progress_of(DataEvent(type="data-progress", data=data))
    assert (ours is None) is (step is None)
    if ours is not None:
        assert {"done": ours.done, "total": ours.total, "percent": ours.percent, "message": ours.message} == step
