"""The faults of `broadcaster demo`: its own page causes them, and nothing else does; no other app has their routes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import nullcontext
from typing import cast

import httpx2
import pytest
from fastapi import Request

from broadcaster.process.demo_faults import CUT_S
from broadcaster.settings import Settings
from broadcaster.web.app import create_app
from broadcaster.web.mount import create_router
from broadcaster.web.services import Services
from tests.support.memory.memory_operations import MemoryOperations
from tests.support.memory.memory_world import MemoryWorld
from tests.support.servers.front_end import in_process

HOST = "127.0.0.1:8000"
OWN = {"origin": f"http://{HOST}", "sec-fetch-site": "same-origin"}
FAULTS = ("kill-worker", "restart-front-end", "cut-redis")
KILL = "/v1/demo/kill-worker?generation=gen_1"


class Causes:
    """Notes what it is given."""

    def __init__(self) -> None:
        self.caused: list[tuple[str, str]] = []

    def cause(self, fault: str, concerned: str = "") -> None:
        self.caused.append((fault, concerned))


@pytest.fixture
def causes() -> Causes:
    return Causes()


@pytest.fixture
async def demo(services: Services, causes: Causes) -> AsyncIterator[httpx2.AsyncClient]:
    settings = Settings(cors_origins=("https://app.example.com", "http://localhost:3000"))
    async with in_process(create_app(settings, services=services, demo=causes)) as opened:
        yield opened


def add(services: Services, world: MemoryWorld, **meta: str) -> None:
    cast(MemoryOperations, services.operations).metas["gen_1"] = world.add("gen_1", **meta).meta


async def test_the_demos_own_page_causes_each_fault(
    demo: httpx2.AsyncClient, causes: Causes, services: Services, world: MemoryWorld
) -> None:
    add(services, world, status="running", worker="a.host.4711.1f2e")
    killed = await demo.post(KILL, headers=OWN)
    assert (killed.status_code, killed.json()) == (200, {"caused": True, "pid": 4711})
    restarted = await demo.post("/v1/demo/restart-front-end", headers=OWN)
    assert restarted.json() == {"caused": True}
    cut = await demo.post("/v1/demo/cut-redis", headers={"origin": f"http://{HOST}"})  # older browsers
    assert cut.json() == {"caused": True, "seconds": CUT_S}
    assert causes.caused == [("kill-worker", "4711"), ("restart-front-end", ""), ("cut-redis", "")]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"sec-fetch-site": "same-origin"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:3000", "sec-fetch-site": "same-site"},
        {"origin": "http://localhost:8000", "sec-fetch-site": "same-site"},
        {"origin": "http://localhost:3000", "sec-fetch-site": "cross-site"},
        {"origin": "https://app.example.com", "sec-fetch-site": "cross-site"},
        {"origin": "https://evil.example"},
        {"origin": f"http://{HOST}", "sec-fetch-site": "cross-site"},
        {"origin": f"http://{HOST}", "sec-fetch-site": "same-site"},
        {"origin": f"http://{HOST}.evil.example"},
        {"origin": f"https://{HOST}"},
        {"host": "evil.example:8000", "origin": "http://evil.example:8000", "sec-fetch-site": "same-origin"},
        [("origin", f"http://{HOST}"), ("origin", "https://evil.example")],
        [("host", HOST), ("host", HOST), ("origin", f"http://{HOST}")],
    ],
    ids=str,
)
async def test_no_other_page_and_no_program_causes_a_fault(
    demo: httpx2.AsyncClient,
    causes: Causes,
    services: Services,
    world: MemoryWorld,
    headers: dict[str, str] | list[tuple[str, str]],
) -> None:
    add(services, world, status="running", worker="a.host.4711.1f2e")
    for fault in FAULTS:
        refused = await demo.post(f"/v1/demo/{fault}?generation=gen_1", headers=headers)
        assert refused.status_code in (403, 415), (fault, refused.text)
        assert refused.json()["code"] in ("forbidden_origin", "forbidden_host", "unsupported_media_type")
    assert causes.caused == []


async def test_a_fault_is_caused_by_a_post_alone(demo: httpx2.AsyncClient, causes: Causes) -> None:
    for fault in FAULTS:
        for method in ("GET", "HEAD", "PUT", "DELETE"):
            assert (await demo.request(method, f"/v1/demo/{fault}", headers=OWN)).status_code == 405
    assert (await demo.post("/v1/demo/format-disk", headers=OWN)).status_code in (400, 404, 422)
    assert causes.caused == []


async def test_a_worker_that_does_not_run_the_answer_any_more_is_not_killed(
    demo: httpx2.AsyncClient, causes: Causes, services: Services, world: MemoryWorld
) -> None:
    add(services, world, status="finished", worker="a.host.4711.1f2e")
    assert (await demo.post(KILL, headers=OWN)).json() == {
        "caused": False,
        "reason": "No worker runs this answer now.",
    }
    add(services, world, status="queued")
    assert not (await demo.post(KILL, headers=OWN)).json()["caused"]
    assert (await demo.post("/v1/demo/kill-worker?generation=gen_9", headers=OWN)).status_code == 404
    assert causes.caused == []


async def test_the_demos_page_has_the_buttons_and_other_pages_do_not(
    demo: httpx2.AsyncClient, client: httpx2.AsyncClient
) -> None:
    page = (await demo.get("/")).text
    assert page.count('src="/console/demo/demo.js"') == 1
    assert page.replace("/console/demo/demo", "").count("</head>") == 1
    assert "/console/demo/" not in (await client.get("/")).text


async def test_an_app_that_is_not_the_demos_has_no_route_of_a_fault(client: httpx2.AsyncClient) -> None:
    for fault in FAULTS:
        assert (await client.post(f"/v1/demo/{fault}", headers=OWN)).status_code == 404


def anyone(request: Request, stream_id: str) -> bool:
    return True


def test_a_mounted_router_has_no_route_of_a_fault() -> None:
    router = create_router(lambda: nullcontext(cast(Services, None)), can_watch=anyone)
    assert router.routes
    assert not [route for route in router.routes if "demo" in getattr(route, "path", "")]
