"""What our runner touches of uvicorn is there, and does what we count on, in every version that may be installed.

uvicorn promises nothing about it: the fields of its HTTP protocol, of a request's cycle and of the server's state are
its own. So (1) each of them is named here and checked on a live connection, and (2) the tests of the runner and of
viewers on sockets of their own are run with other versions, down to the oldest that pyproject.toml admits.
"""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from inspect import signature
from pathlib import Path
from typing import Any, Final

import pytest
import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from broadcaster.web.server.connections import OpenConnections
from broadcaster.web.server.http_protocol import FrontEndProtocol
from broadcaster.web.server.listener import open_listener
from broadcaster.web.server.runner import FrontEndServer
from broadcaster.web.viewing.client_connection import TRANSPORT_EXTENSION
from tests.support.servers.programs import lacking

ROOT: Final = Path(__file__).resolve().parents[3]
PINS: Final = ROOT / "requirements" / "uvicorn.txt"
VERSIONS: Final = re.findall(r"^uvicorn==(\S+)", PINS.read_text("utf-8"), re.MULTILINE)
OLDEST: Final = min(VERSIONS, key=lambda each: tuple(map(int, each.split("."))))
SUITE: Final = (
    "server/test_runner.py",
    "server/test_socket_driver.py",
    "server/test_closed_port.py",
    "server/test_draining.py",
    "viewing/test_sse.py",
    "websockets/test_hosts.py::test_the_guard_of_the_host_decides_with_its_dependencies",
)
# Older versions of uvicorn import names of the package websockets that it announces to remove, and call it as it was.
OLDER_NAMES: Final = (
    *("-W", "ignore:websockets:DeprecationWarning"),
    *("-W", "ignore:remove second argument of ws_handler:DeprecationWarning"),
)
SUITE_S: Final = 120.0

# Attribute → what it is while a response's head is sent and its body is not.
OF_THE_PROTOCOL: Final[dict[str, Any]] = {
    "config": uvicorn.Config,
    "server_state": object,
    "app_state": dict,
    "loop": asyncio.AbstractEventLoop,
    "connections": OpenConnections,
    "transport": asyncio.Transport,
    "pipeline": object,
    "flow": object,
    "cycle": object,
    "parser": object,
    "scope": dict,
    "timeout_keep_alive": int,
    "url": bytes,
    "headers": list,
}
OF_THE_CYCLE: Final[dict[str, object]] = {
    "response_started": True,
    "response_complete": False,
    "chunked_encoding": True,
    "more_body": False,
    "keep_alive": True,
    "disconnected": False,
    "waiting_for_100_continue": False,
}


class Probing:
    """An ASGI app that sends a head, reads the protocol behind its connection, and ends."""

    def __init__(self) -> None:
        self.protocol: dict[str, object] = {}
        self.cycle: dict[str, object] = {}
        self.is_known = False

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        protocol: FrontEndProtocol = scope["extensions"][TRANSPORT_EXTENSION]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        self.protocol = {name: getattr(protocol, name) for name in OF_THE_PROTOCOL}
        self.cycle = {name: getattr(protocol.cycle, name) for name in OF_THE_CYCLE}
        self.is_known = protocol in protocol.server_state.connections is protocol.connections
        protocol.flow.resume_reading()
        protocol._unset_keepalive_if_required()
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def test_the_parts_of_uvicorn_that_taking_a_connection_touches_have_the_expected_types() -> None:
    app = Probing()
    server = FrontEndServer(app, listener=open_listener("127.0.0.1", 0), on_drain=_nothing, drain_timeout_s=1)
    serving = asyncio.create_task(server.serve())
    async with asyncio.timeout(30):
        await server.until_started()
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await reader.readuntil(b"\r\n0\r\n\r\n")).startswith(STATUS_LINE[200])
        writer.close()
        server.request_stop()
        await serving
    for name, kind in OF_THE_PROTOCOL.items():
        assert isinstance(app.protocol[name], kind), name
    assert app.cycle == OF_THE_CYCLE
    assert app.is_known


def test_a_successor_can_be_made_of_what_a_protocol_knows() -> None:
    names = list(signature(HttpToolsProtocol.__init__).parameters)
    assert names == ["self", "config", "server_state", "app_state", "_loop"]


def test_the_versions_that_are_tested_reach_from_the_oldest_to_the_one_in_use() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    (bounds,) = (each for each in project["project"]["optional-dependencies"]["server"] if each.startswith("uvicorn"))
    oldest, beyond = re.fullmatch(r"uvicorn>=([\d.]+),<([\d.]+)", bounds).groups()  # type: ignore[union-attr]
    assert _numbers(oldest) == min(map(_numbers, VERSIONS))[: len(_numbers(oldest))]
    assert _numbers(beyond) == (0, _numbers(version("uvicorn"))[1] + 1)


@pytest.mark.timeout(SUITE_S + 10)
@pytest.mark.parametrize(
    "other", [each if each == OLDEST else pytest.param(each, marks=pytest.mark.thorough) for each in VERSIONS]
)
def test_the_runner_and_its_viewers_keep_their_promises_on_another_version(other: str) -> None:
    folder = ROOT / ".venv" / "uvicorn" / other
    if not folder.is_dir():
        lacking("no other versions of uvicorn here: get them with `make uvicorns`")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment = {**kept, "PYTHONPATH": str(folder)}
    response = [sys.executable, "-c", "import uvicorn; print(uvicorn.__version__)"]
    result = subprocess.run(response, env=environment, capture_output=True, text=True, check=True, timeout=30)
    assert result.stdout.strip() == other
    files = [f"tests/web/{name}" for name in SUITE]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *OLDER_NAMES, *files]
    ran = subprocess.run(
        command, check=False, env=environment, cwd=ROOT, stdout=subprocess.PIPE, text=True, timeout=SUITE_S
    )
    assert ran.returncode == 0, ran.stdout


async def _nothing() -> None:
    pass


def _numbers(numbers_text: str) -> tuple[int, ...]:
    return tuple(map(int, numbers_text.split(".")))
