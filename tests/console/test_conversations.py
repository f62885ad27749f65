"""What a browser keeps of its conversations, and what it sends of them: the pure modules under node."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.servers.console_modules import ConsoleModules, console_modules

MAX_CHARS = 3_000_000
MAX_CONVERSATIONS = 200
MAX_COPY_CHARS = 200_000


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsoleModules]:
    folder = tmp_path_factory.mktemp("conversations")
    shutil.copy(Path(__file__).with_name("driver.mjs"), folder)
    with console_modules(folder) as running:
        yield running


def kept(modules: ConsoleModules, *saved: dict[str, Any], **given: Any) -> dict[str, Any]:
    result: dict[str, Any] = modules.run("call", ["driver.mjs", "kept", {"saved": saved, **given}])
    return result


def test_conversations_are_listed_newest_first_by_the_next_page_too(modules: ConsoleModules) -> None:
    result = kept(modules, {"id": "old", "turns": [3, 4]}, {"id": "new", "turns": [5, None]})
    assert result["here"] == result["later"] == [["new", [5, None]], ["old", [3, 4]]]


def test_beyond_its_bounds_the_store_forgets_the_oldest(modules: ConsoleModules) -> None:
    result = kept(modules, {"id": "c", "turns": [1], "times": MAX_CONVERSATIONS + 5})
    assert len(result["here"]) == MAX_CONVERSATIONS
    assert result["here"] == result["later"]
    assert result["here"][-1][0] == "c-5"
    large = kept(modules, {"id": "large", "turns": [MAX_COPY_CHARS], "times": 20})
    assert large["chars"] < MAX_CHARS + 10_000
    assert large["here"] == large["later"]
    assert large["here"][0][0] == "large-19"


def test_a_conversation_that_is_too_long_loses_the_copies_of_its_oldest_answers(modules: ConsoleModules) -> None:
    result = kept(modules, {"id": "long", "turns": [MAX_COPY_CHARS + 1] * 10})
    assert result["here"] == [["long", [MAX_COPY_CHARS] * 10]]
    [[name, copies]] = result["later"]
    assert (name, copies[:3], copies[-1]) == ("long", [None] * 3, MAX_COPY_CHARS)


@pytest.mark.parametrize(
    ("turn", "is_cut"),
    [
        ({"answer": None}, False),
        ({"answer": "x" * MAX_COPY_CHARS, "isCut": False}, False),
        ({"answer": "x" * (MAX_COPY_CHARS - 1), "isCut": True}, True),
        ({"answer": "x" * MAX_COPY_CHARS}, True),
    ],
)
def test_a_copy_that_an_earlier_version_has_cut_counts_as_cut(
    modules: ConsoleModules, turn: dict[str, Any], is_cut: bool
) -> None:
    assert modules.run("call", ["chat/conversations.js", "isCopyCut", turn]) is is_cut


def test_a_storage_that_is_full_or_forbidden_is_no_error(modules: ConsoleModules) -> None:
    conversations = [{"id": name, "turns": [1000]} for name in ("a", "b", "c")]
    full = kept(modules, *conversations, maxChars=3000)
    assert full["here"] == full["later"] == [["c", [1000]], ["b", [1000]]]
    nothing = kept(modules, *conversations, maxChars=10)
    assert (len(nothing["here"]), nothing["later"]) == (3, [])
    forbidden = kept(modules, *conversations, isForbidden=True)
    assert (len(forbidden["here"]), forbidden["later"]) == (3, [])


def test_a_conversation_that_does_not_fit_beside_other_entries_costs_no_other_one(modules: ConsoleModules) -> None:
    small = [{"id": name, "turns": [1000]} for name in ("a", "b", "c")]
    entries = {"of another program": "x" * 10_000}
    result = kept(modules, *small, {"id": "big", "turns": [9000]}, entries=entries, maxChars=16_000)
    assert result["later"] == [["c", [1000]], ["b", [1000]], ["a", [1000]]]
    assert result["here"][0] == ["big", [9000]]


def test_entries_of_another_version_are_left_alone_and_not_shown(modules: ConsoleModules) -> None:
    entries = {
        "broadcaster.chat.newer": '{"version": 2, "id": "newer"}',
        "broadcaster.chat.broken": "{",
        "broadcaster.chat.other": '{"version": 1, "id": "x", "title": "", "turns": [], "dropped": []}',
    }
    before = sum(len(key) + len(text) for key, text in entries.items())
    assert kept(modules, entries=entries) == {"here": [], "later": [], "chars": before}


def test_the_key_of_another_tenant_clears_what_is_stored(modules: ConsoleModules) -> None:
    conversation = {"id": "a", "turns": [1]}
    assert kept(modules, conversation, tenants=["web", "web"])["later"] == [["a", [1]]]
    other = kept(modules, conversation, tenants=["web", "jobs"])
    assert other["here"] == other["later"] == []


def test_the_key_of_another_tenant_clears_entries_of_other_versions_too(modules: ConsoleModules) -> None:
    entries = {"broadcaster.chat.newer": '{"version": 2, "id": "newer"}'}
    owner = len("broadcaster.chats-of") + len("jobs")
    assert kept(modules, entries=entries, tenants=["web", "jobs"]) == {"here": [], "later": [], "chars": owner}


@pytest.mark.parametrize(
    ("one", "other", "turns"),
    [
        ([], [["b", "2b", 3]], ["1", "2b"]),
        ([["a", "2a", 2]], [["b", "2b", 3]], ["1", "2a", "2b"]),
        ([["a", "2a", 3]], [["b", "2b", 3]], ["1", "2a", "2b"]),
        ([["a", "2a", 5], ["a", "3a", 6]], [["b", "2b", 3]], ["1", "2b", "2a", "3a"]),
        ([[0], ["edited", "1x", 4]], [["b", "2b", 3]], ["2b", "1x"]),
        ([[0], ["edited", "1x", 4]], [[0], ["edited too", "1y", 3]], ["1y", "1x"]),
        ([["a", "2a", 0]], [["b", "2b", 0]], ["1", "2a", "2b"]),
    ],
)
def test_of_what_two_tabs_write_at_the_same_time_no_turn_is_lost_whichever_of_them_merges(
    modules: ConsoleModules, one: list[list[Any]], other: list[list[Any]], turns: list[str]
) -> None:
    first = ["?", "1", 1]
    found = modules.run("call", ["driver.mjs", "merges", {"one": [first, *one], "other": [first, *other]}])
    assert found == {"here": turns, "there": turns, "merged": turns, "isSettled": True}


@pytest.mark.parametrize("is_stale", [False, True])
def test_tabs_that_learn_of_each_other_late_end_with_the_same_turns(modules: ConsoleModules, is_stale: bool) -> None:
    found = modules.run("call", ["driver.mjs", "raced", {"isStale": is_stale, "isNotified": True}])
    both = [["c", [None, None, None]]]
    assert found == {"left": 0, "tabs": [both, both], "stored": both}


def test_a_tab_stores_the_turns_that_it_finds_stored_without_being_notified(modules: ConsoleModules) -> None:
    found = modules.run("call", ["driver.mjs", "raced", {"isStale": False, "isNotified": False}])
    assert found["stored"] == [["c", [None, None, None]]]


@pytest.mark.parametrize(
    ("change", "failure", "session"),
    [("none", None, ["secret", "gen_old"]), ("refused", None, ["gen_old"]), ("left", "superseded", [])],
)
def test_a_list_that_was_read_with_an_earlier_key_is_stored_nowhere(
    modules: ConsoleModules, change: str, failure: str | None, session: list[str]
) -> None:
    found = modules.run("call", ["driver.mjs", "listed", {"change": change}])
    assert found == {"failure": failure, "session": session, "local": [], "known": session}


def test_a_request_has_the_earlier_turns_whose_answers_are_known(modules: ConsoleModules) -> None:
    answers = {"1": "one", "2": "", "3": "three"}
    settings = {"model": "m", "system": "s", "temperature": 0, "maxTokens": None}
    turns = [{"user": f"turn {number}", "id": number} for number in answers]
    assert modules.run("call", ["driver.mjs", "requested", {"turns": turns, "settings": settings}, answers]) == {
        "messages": [
            {"role": "user", "content": "turn 1"},
            {"role": "assistant", "content": "one"},
            {"role": "user", "content": "turn 3"},
            {"role": "assistant", "content": "three"},
            {"role": "user", "content": "next"},
        ],
        "model": "m",
        "system": "s",
        "temperature": 0,
    }


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ({"connection": {"name": "live"}, "status": "queued"}, ["queued", "busy", "Waiting for a worker"]),
        ({"connection": {"name": "live"}, "status": "running"}, ["live", "busy", "Answering"]),
        ({"connection": {"name": "live"}, "status": "running", "isFeed": True}, ["live", "busy", "Live"]),
        ({"connection": {"name": "live"}, "status": "running", "quietMs": 5000}, ["quiet", "warn", "No news for 5 s"]),
        (
            {"connection": {"name": "live"}, "status": "running", "isFeed": True, "quietMs": 180_000},
            ["quiet", "calm", "Live, the last event 3 min ago"],
        ),
        (
            {"connection": {"name": "live"}, "status": "running", "stopRequested": True, "quietMs": 9000},
            ["stopping", "warn", "Stopping…"],
        ),
        (
            {"connection": {"name": "reconnecting", "since": 1000}, "status": "running"},
            ["reconnecting", "warn", "Reconnecting… 4 s"],
        ),
        (
            {"connection": {"name": "stalled", "reason": "log_unavailable"}, "status": "running"},
            ["stalled", "warn", "The storage does not respond"],
        ),
        ({"connection": {"name": "catching-up"}, "status": "finished"}, ["finished", "calm", "Finished"]),
        ({"connection": {"name": "ended"}, "status": "aborted"}, ["stopped", "calm", "Stopped"]),
        ({"connection": {"name": "ended"}, "status": "failed"}, ["failed", "bad", "Failed"]),
        ({"connection": {"name": "gone"}, "status": "finished"}, ["expired", "calm", "Not found"]),
        ({"connection": {"name": "locked"}, "status": None}, ["signed-out", "warn", "Signed out: a key is needed"]),
        (
            {"connection": {"name": "closed", "reason": "revoked"}, "status": "running"},
            ["closed", "warn", "This link was revoked"],
        ),
        ({"connection": {"name": "awaited"}, "status": None}, ["awaited", "calm", "Not started yet"]),
    ],
)
def test_the_indicator_shows_what_the_reader_must_know_first(
    modules: ConsoleModules, given: dict[str, Any], shown: list[str]
) -> None:
    whole = {"isFeed": False, "stopRequested": False, "quietMs": 0, "now": 5000, **given}
    assert list(modules.run("call", ["chat/indicator.js", "indicatorOf", whole]).values()) == shown


@pytest.mark.parametrize(
    ("usage", "text"),
    [
        ({"inputTokens": 1, "cachedInputTokens": 34, "outputTokens": 99}, "35 tokens in, 99 tokens out"),
        ({"inputTokens": 2, "cacheWriteInputTokens": 3}, "5 tokens in"),
        ({"outputTokens": 1, "estimated": True}, "about 1 token out"),
        ({}, None),
    ],
)
def test_the_tokens_of_a_request_include_those_that_the_provider_cached(
    modules: ConsoleModules, usage: dict[str, Any], text: str | None
) -> None:
    assert modules.run("call", ["texts.js", "usageText", usage]) == text


def test_an_answer_fails_in_plain_words_and_a_feed_in_its_programs_own(modules: ConsoleModules) -> None:
    failed = {"status": "failed", "error": {"code": "provider_auth", "message": "HTTP 401: set the key"}}
    assert modules.run("call", ["texts.js", "endingSentence", failed]) == {
        "tone": "bad",
        "text": "The answer failed: the model’s provider refused the server’s credentials.",
        "code": "provider_auth",
        "detail": "HTTP 401: set the key",
    }
    unknown = {"status": "failed", "error": {"code": "newer", "message": "secret"}}
    assert modules.run("call", ["texts.js", "endingSentence", unknown])["text"] == "The answer failed."
    feed = modules.run("call", ["texts.js", "endingSentence", failed, {"isFeed": True}])
    assert feed == {"tone": "bad", "text": "HTTP 401: set the key", "code": "provider_auth"}
