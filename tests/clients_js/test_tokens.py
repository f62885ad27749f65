"""Tokens of the JavaScript client that cannot be sent, and those that expire while there is no connection."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.clients_js.test_calls import GENERATION, cut, document
from tests.clients_js.test_watching import TEXT, follow, keyed, notice, status
from tests.compat.node_clients import Driver
from tests.support.servers.sse_server import Plan, SseServer, frame

# What a token's address gives when the session is over, or its backend is away. A fetch that gets it names it.
PAGE = "<!doctype html>\r\n<title>secret</title>\r\n"
# A watch that never ends is what these tests would otherwise wait for.
ABORT_MS = 5000


def shown(result: dict[str, Any]) -> str:
    return json.dumps([result["updates"], result["failure"]])


async def test_a_page_in_place_of_a_token_is_not_shown_and_the_function_is_called_once_more(
    driver: Driver, server: SseServer
) -> None:
    server.plans.append(keyed(server, "good"))
    result = await follow(driver, server, tokens=[PAGE, "good"], abort_ms=ABORT_MS)
    assert (result["state"]["text"], result["failure"], result["tokens"]) == (TEXT, None, [PAGE, "good"])
    assert "secret" not in shown(result)


async def test_a_page_in_place_of_a_new_token_leaves_the_connection_with_the_old_one(
    driver: Driver, server: SseServer
) -> None:
    expiring = notice("hub.expiring", expires_at=1.0)
    server.plans.append(server.raw(expiring + b"".join(frame(entry) for entry in server.entries)))
    result = await follow(driver, server, tokens=["old", PAGE], abort_ms=ABORT_MS)
    assert (result["state"]["text"], result["failure"], result["tokens"]) == (TEXT, None, ["old", PAGE])
    assert len(server.requests) == 1


async def test_a_text_that_cannot_be_sent_as_a_token_ends_the_watch(driver: Driver, server: SseServer) -> None:
    result = await follow(driver, server, token=PAGE, abort_ms=ABORT_MS)
    assert (result["failure"]["code"], result["failure"]["retry"]) == ("bad_token", False)
    assert "secret" not in shown(result)
    assert server.requests == []


@pytest.mark.parametrize("token", ["good\n", " good"])
async def test_blanks_around_a_token_do_not_matter(driver: Driver, server: SseServer, token: str) -> None:
    server.plans.append(keyed(server, "good"))
    result = await follow(driver, server, token=token, abort_ms=ABORT_MS)
    assert (result["state"]["text"], result["failure"]) == (TEXT, None)


async def test_a_call_that_has_a_page_in_place_of_a_token_is_repeated(driver: Driver, server: SseServer) -> None:
    server.routes["POST", "/v1/generations"] = document(GENERATION)
    started = await driver.request("start", request="?", server=server.url, tokens=[PAGE, "good"])
    assert started == {"result": GENERATION}
    assert [request.headers["authorization"] for request in server.requests] == ["Bearer good"]
    failed = await driver.request("start", request="?", server=server.url, tokens=[PAGE])
    assert (failed["failure"]["code"], failed["failure"]["retry"]) == ("bad_token", True)
    assert len(server.requests) == 1


@pytest.mark.parametrize("failure", [cut, status(503)], ids=["no network", "a busy server"])
@pytest.mark.parametrize("is_open", [True, False], ids=["a bye", "a refusal"])
async def test_a_token_that_expires_while_there_is_no_connection_is_replaced(
    driver: Driver, server: SseServer, is_open: bool, failure: Plan
) -> None:
    bye = notice("hub.bye", reason="token_expired", reconnect=False)
    server.plans.append(server.raw(bye, hold=True) if is_open else keyed(server, "new"))
    server.plans.extend([failure, keyed(server, "newest"), keyed(server, "newest")])
    result = await follow(driver, server, tokens=["old", "new", "newest"])
    assert (result["state"]["text"], result["failure"]) == (TEXT, None)
    assert result["tokens"] == ["old", "new", "newest"]


async def test_a_new_token_that_expires_hardly_later_is_replaced_after_its_connection(
    driver: Driver, server: SseServer
) -> None:
    bye = notice("hub.bye", reason="token_expired", reconnect=False)
    server.plans.append(server.raw(notice("hub.expiring", expires_at=20.0), hold=True))
    server.plans.append(server.raw(notice("hub.expiring", expires_at=25.9) + bye, hold=True))
    result = await follow(driver, server, tokens=["old", "new", "newest", "unused"], abort_ms=ABORT_MS)
    assert (result["state"]["text"], result["failure"]) == (TEXT, None)
    assert result["tokens"] == ["old", "new", "newest"]
    reasons = [update["reason"] for update in result["updates"] if update.get("name") == "reconnecting"]
    assert reasons == ["token_expired"]


async def test_each_token_that_lasts_longer_takes_over_without_a_pause(driver: Driver, server: SseServer) -> None:
    for expires_at in (20.0, 26.0, 32.0):
        server.plans.append(server.raw(notice("hub.expiring", expires_at=expires_at), hold=True))
    result = await follow(driver, server, tokens=["a", "b", "c", "d"], abort_ms=ABORT_MS)
    assert (result["state"]["text"], result["tokens"]) == (TEXT, ["a", "b", "c", "d"])
    assert "reconnecting" not in [update.get("name") for update in result["updates"]]
