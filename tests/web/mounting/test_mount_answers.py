"""A user of a host that may stop or close a stream, and may not watch it, gets the outcome alone."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest
from fastapi import HTTPException
from starlette.exceptions import HTTPException as StarletteHTTPException

from tests.support.apps.mounting import every_stream
from tests.web.mounting.test_mount_rights import SECRET, Host, call, no_stream

METADATA = {"patient": SECRET}
CHANGING = pytest.mark.parametrize(
    ("name", "id", "status"), [("stop_generation", "gen_ada", 202), ("close_stream", "ada-job", 200)]
)


def refuses_by_raising(stream_id: str) -> bool:
    raise HTTPException(403, "not yours")


def refuses_by_raising_what_starlette_has(stream_id: str) -> bool:
    raise StarletteHTTPException(403, "not yours")


def wants_a_ticket(stream_id: str, ticket: str) -> bool:
    return bool(ticket)


async def changed(name: str, id: str, *, can_watch: Any) -> httpx2.Response:
    """The response to Bob's stop or close of Ada's stream, whose prompt and metadata hold the secret."""
    host = Host(can_watch=can_watch, can_stop=every_stream, can_write=every_stream)
    messages = [{"role": "user", "content": SECRET}]
    host.world.add("gen_ada", request={"messages": messages, "metadata": METADATA})
    host.world.add("ada-job", kind="feed", status="running", request={"metadata": METADATA})
    async with host.serve() as client:
        response = await call(client, name, id=id)
    assert host.world.streams[id].meta.is_over
    return response


@CHANGING
@pytest.mark.parametrize(
    "can_watch", [no_stream, refuses_by_raising, refuses_by_raising_what_starlette_has, wants_a_ticket]
)
async def test_a_stop_or_a_close_shows_nothing_of_a_stream_that_the_user_may_not_watch(
    name: str, id: str, *, status: int, can_watch: Any
) -> None:
    response = await changed(name, id, can_watch=can_watch)
    assert (response.status_code, response.json()["id"]) == (status, id)
    assert response.json()["events_url"] == f"/v1/streams/{id}/events"
    assert SECRET not in response.text


@CHANGING
async def test_a_stop_or_a_close_shows_the_state_of_a_stream_that_the_user_may_watch(
    name: str, id: str, *, status: int
) -> None:
    response = await changed(name, id, can_watch=every_stream)
    assert (response.status_code, response.json()["metadata"]) == (status, METADATA)
