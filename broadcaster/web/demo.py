"""The faults that the page of `broadcaster demo` causes by buttons: a killed worker, a killed front-end, Redis cut off.

Rules
1. Only the app that `broadcaster demo` creates has these routes: neither another command nor a mounted router does.
2. A fault is a POST of our own page: the Host is this machine's loopback, the Origin is that same host and port, and,
   as on every route that has no JSON body, the browser does not call it another site's (guards/json_body.py). No other
   page in a browser of this machine can press a button, whatever CORS allows.
3. The process that caused the demo decides what a fault hits (cli/demo/faults.py). This one only names it, after its
   response has been sent: the fault may end this process.
"""

from __future__ import annotations

from typing import Annotated, Final, Protocol

from fastapi import FastAPI, Query, Request, Response
from starlette.background import BackgroundTask
from starlette.datastructures import Headers
from starlette.responses import JSONResponse

from broadcaster.core.status import OVER
from broadcaster.process.demo_faults import CUT_REDIS, CUT_S, KILL_WORKER, DemoFault
from broadcaster.web.documents.problems import problem_response, problem_responses
from broadcaster.web.guards.request import is_loopback_host
from broadcaster.web.here import Here
from broadcaster.web.route_table import RouteTable
from broadcaster.web.routes.console import StaticFiles

_PAGE: Final = StaticFiles(
    "console",
    head='<link rel="stylesheet" href="/console/demo/demo.css" />'
    '<script type="module" src="/console/demo/demo.js"></script>',
)


class DemoPort(Protocol):
    """Causes a fault, soon."""

    def cause(self, fault: str, concerned: str = "") -> None: ...


def add_demo(app: FastAPI, demo: DemoPort) -> None:
    """Add the routes of the buttons, and the page that has them: before the console's page."""
    app.add_api_route("/", _PAGE.page, methods=["GET", "HEAD"], include_in_schema=False)
    for row in _routes(demo):
        row.add_to(app.router, include_in_schema=False)


def _routes(demo: DemoPort) -> RouteTable:
    routes = RouteTable(prefix="/v1/demo", tag="demo")

    @routes.post("/{fault}", summary="Cause a fault", responses=problem_responses("forbidden_origin", "unknown_stream"))
    async def cause_fault(
        request: Request, here: Here, fault: DemoFault, *, generation: Annotated[str, Query(max_length=200)] = ""
    ) -> Response:
        if not is_of_own_page(request.headers):
            return problem_response("forbidden_origin", "a fault of the demo is caused by the demo's own page alone")
        concerned = ""
        facts: dict[str, float] = {}
        if fault == KILL_WORKER:
            meta = await here.services.operations.generation(generation)
            pid = _pid_of(meta.worker)
            if pid is None or meta.status in OVER:
                return JSONResponse({"caused": False, "reason": "No worker runs this answer now."})
            concerned, facts = str(pid), {"pid": pid}
        if fault == CUT_REDIS:
            facts = {"seconds": CUT_S}
        return JSONResponse({"caused": True, **facts}, background=BackgroundTask(demo.cause, fault, concerned))

    return routes


def is_of_own_page(headers: Headers) -> bool:
    """Whether the page that this front-end serves sent the request: rule 2."""
    hosts, origins = headers.getlist("host"), headers.getlist("origin")
    return len(hosts) == 1 and is_loopback_host(hosts[0]) and origins == [f"http://{hosts[0]}"]


def _pid_of(worker: str | None) -> int | None:
    """The process id in a worker's id (``host.pid.random``, worker/main.py)."""
    parts = (worker or "").rsplit(".", 2)
    return int(parts[1]) if len(parts) == 3 and parts[1].isdecimal() else None
