"""The doctor at an address that publishes the API of a front-end alone, as the Ingress of deploy/kubernetes does."""

from __future__ import annotations

import json

import pytest

from broadcaster.cli.doctor.network import FRONT_END_CHECKS, probe_front_end
from broadcaster.cli.doctor.table import Finding, Grade, judge_all
from tests.support.servers.sse_server import Exchange, SseServer

OK, WARN, FAIL, SKIP = Grade.OK, Grade.WARN, Grade.FAIL, Grade.SKIP


async def examined(status: int, document: object, *, api_key: str | None = None) -> list[Finding]:
    """The findings about a server that responds so to the request for a list, and with 404 to every other one."""

    async def listed(exchange: Exchange) -> None:
        await exchange.answer(status, json.dumps(document).encode())

    async with SseServer() as server:
        server.routes["GET", "/v1/generations"] = listed
        seen = await probe_front_end(server.url, api_key=api_key, is_named=True)
    return judge_all(FRONT_END_CHECKS, seen)


@pytest.mark.parametrize(
    ("status", "document", "api_key", "grades"),
    [
        (200, {"generations": []}, None, [OK, SKIP, OK]),
        (401, {"code": "unauthorized"}, None, [OK, SKIP, WARN]),
        (401, {"code": "unauthorized"}, "wrong", [OK, SKIP, FAIL]),
        (429, {"code": "rate_limited"}, None, [OK, SKIP, OK]),
    ],
)
async def test_a_front_end_whose_health_is_not_published_is_known_by_its_list(
    status: int, document: object, api_key: str | None, grades: list[Grade]
) -> None:
    found = await examined(status, document, api_key=api_key)
    assert [each.grade for each in found] == grades
    assert found[0].detail.endswith("is alive; its health is not published here")


async def test_a_front_end_without_its_redis_is_not_ready_although_its_health_is_not_published() -> None:
    found = await examined(503, {"code": "log_unavailable"})
    assert [each.grade for each in found] == [FAIL, SKIP, OK]
    assert found[0].detail.endswith("is alive and not ready: log_unavailable")


@pytest.mark.parametrize(
    ("status", "document"),
    [
        (200, {"hello": 1}),
        (200, []),
        (404, {"code": "not_found"}),
        (401, {"code": "invalid_api_key"}),
        (400, {"code": "unauthorized"}),
        (500, {"code": ["internal_error"]}),
    ],
)
async def test_another_server_that_has_no_healthz_is_no_front_end(status: int, document: object) -> None:
    found = await examined(status, document)
    assert [each.grade for each in found] == [FAIL, SKIP, SKIP]
    assert found[0].detail.endswith("answers, but is no front-end")
