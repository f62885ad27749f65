"""A mounted router creates feeds with ``if_exists`` only for callers that may do to the stream there what that does."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from tests.support.apps.mounting import Mounted, create_host, every_stream
from tests.web.mounting.test_mount_rights import no_stream, without_sockets


async def create(mounted: Mounted, choice: str) -> httpx2.Response:
    mounted.world.add("job", kind="feed", status="running")
    async with without_sockets(create_host(("", mounted.router))) as client:
        return await client.put("/v1/streams/job", params={"if_exists": choice}, json={"metadata": {"new": 1}})


@pytest.mark.parametrize(("choice", "right"), [("replace", "can_delete"), ("join", "can_watch")])
@pytest.mark.parametrize(("guard", "status"), [(every_stream, {200, 201}), (no_stream, {404})])
async def test_a_creation_needs_the_right_to_what_it_does_to_the_stream_there(
    choice: str, right: str, guard: Any, status: set[int]
) -> None:
    guards: dict[str, Any] = {"can_watch": every_stream, "can_write": every_stream, "can_delete": every_stream}
    mounted = Mounted(**(guards | {right: guard}))
    assert (await create(mounted, choice)).status_code in status


async def test_a_router_without_a_guard_for_deletions_replaces_nothing() -> None:
    mounted = Mounted(can_watch=every_stream, can_write=every_stream)
    response = await create(mounted, "replace")
    assert (response.status_code, response.json()["code"]) == (403, "forbidden")
    assert "can_delete" in response.json()["detail"]
    assert "metadata" not in mounted.world.streams["job"].meta.request
    assert (await create(mounted, "join")).status_code == 200
