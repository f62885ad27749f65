"""Whether the process is alive, and whether it should get requests: two different checks."""

from __future__ import annotations

import asyncio
from typing import Final

from fastapi import Response

from broadcaster.errors import LogUnavailable
from broadcaster.web.documents.problems import problem_responses
from broadcaster.web.documents.schemas import Health, Readiness
from broadcaster.web.here import Here
from broadcaster.web.route_table import RouteTable
from broadcaster.web.services import Services

# A balancer checks every second or so, and a slow response counts as a failure.
CHECK_TIMEOUT_S: Final = 2.0

routes = RouteTable(tag="health")


@routes.head("/healthz", operation_id="health", include_in_schema=False)
@routes.get("/healthz", summary="Is the process alive?", operation_id="health", responses=problem_responses())
async def healthz() -> Health:
    """Always 200 while the process can respond: restart it only when this fails."""
    return Health(status="ok")


@routes.head("/readyz", operation_id="readiness", include_in_schema=False)
@routes.get(
    "/readyz",
    summary="Should requests be sent here?",
    operation_id="readiness",
    responses={
        503: {"model": Readiness, "description": "Not now: Redis does not respond, or this process drains"},
        **problem_responses(),
    },
)
async def readyz(here: Here, response: Response) -> Readiness:
    """200 while this front-end can serve; 503 while it drains or Redis does not answer."""
    checks = {
        "log": await _check_log(here.services),
        "drain": "draining" if here.services.draining.is_set() or here.services.hub.is_draining else "ok",
    }
    is_ready = all(result == "ok" for result in checks.values())
    response.status_code = 200 if is_ready else 503
    return Readiness(ready=is_ready, checks=checks)


async def _check_log(services: Services) -> str:
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_S):
            await services.ping_log()
    except (LogUnavailable, TimeoutError):
        return "Redis does not answer"
    return "ok"
