"""What an import loads: a job or a script that imports the package does not pay for the parts that it does not use.

Each row runs in an interpreter of its own, and names modules and not times: times differ from machine to machine.
"""

from __future__ import annotations

import subprocess
import sys
from typing import Final

import pytest

SERVING: Final = ("fastapi", "starlette", "uvicorn", "uvloop", "httptools")
SERVERS: Final = (*SERVING, "pydantic", "pydantic_settings", "h11")
PROVIDERS: Final = ("anthropic", "openai", "aiohttp", "xllamacpp")
OBSERVING: Final = ("structlog", "prometheus_client", "opentelemetry")
TERMINALS: Final = ("typer", "click", "rich")
KEYS: Final = ("cryptography", "jwt")
ROOMS: Final = ("broadcaster.web", "broadcaster.hub", "broadcaster.log", "broadcaster.settings", "broadcaster.dialects")
NOT_FOR_A_JOB: Final = (*SERVERS, *PROVIDERS, *OBSERVING, *TERMINALS, *KEYS, *ROOMS, "redis", "hiredis")

LISTING: Final = """
import io
from broadcaster.cli.entry import main
sys.argv[1:] = ["--help"]
shown, sys.stdout = sys.stdout, io.StringIO()
try:
    main()
except SystemExit:
    sys.stdout = shown
"""
"""``broadcaster --help``, which every new user types first: a terminal's packages and nothing of ours below it."""

STARTED_WORKER: Final = """
import os, sys
from broadcaster.cli.entry import main
sys.argv[1:] = ["worker"]
os.execv = lambda *_: sys.exit()
try:
    main()
except SystemExit:
    pass
"""
"""``broadcaster worker``, up to the moment at which the worker's own program takes its process over."""

BUILT_FRONT_END: Final = """
import broadcaster.cli.main, broadcaster.cli.serve
from broadcaster.process.interrupts import import_undisturbed
import_undisturbed("broadcaster.cli.processes.serve")
front_end = import_undisturbed("broadcaster.cli.processes.front_end")
from broadcaster.settings import Settings
front_end.create_app(Settings(redis_url="redis://127.0.0.1:1", durable_streams=False))
"""
"""``broadcaster serve`` with what is optional left off, up to the app that it serves."""

BUILT_WORKER: Final = """
import asyncio, os
os.environ["ANTHROPIC_API_KEY"] = os.environ["OPENAI_API_KEY"] = "any"
from broadcaster.process.interrupts import import_undisturbed
main = import_undisturbed("worker.main")
from broadcaster.settings import Settings
settings = Settings(redis_url="redis://127.0.0.1:1", webhook_secret=None)
async def build():
    async with main.open_engine(settings, main.create_worker_id()) as (engine, *_):
        main.create_runner(settings, engine)
asyncio.run(build())
"""
"""``broadcaster worker`` with keys of two providers, up to the moment before it takes jobs: none was used yet."""

UNUSED: Final = (
    *("jsonschema", "pytest", "httpx2", "rich", "pygments", "prometheus_client"),
    *("opentelemetry.exporter", "opentelemetry.sdk"),
)
"""What commands, tests and options use, and a server does not with its defaults.

redis-py and FastAPI import parts of OpenTelemetry's API wherever it is installed: no server of ours needs them.
"""

NOT_FOR_A_FRONT_END: Final = (
    # redis-py asks whether cryptography is there; what signs and verifies is below.
    *(*PROVIDERS, *UNUSED, "jwt", "cryptography.hazmat.primitives.serialization", "h11"),
    *("worker", "broadcaster.client", "broadcaster.testing", "broadcaster.library", "broadcaster.sync"),
    *("broadcaster.web.demo", "broadcaster.web.routes.durable", "broadcaster.observability.exposition"),
)
NOT_FOR_A_WORKER: Final = (
    *(*PROVIDERS, *UNUSED, *SERVING[:3], "typer", "click", "h11", "jwt"),
    *("worker.providers.sdk_provider", "worker.webhooks.courier", "broadcaster.observability.exposition"),
    *("broadcaster.web", "broadcaster.hub", "broadcaster.client", "broadcaster.testing", "broadcaster.library"),
)

ROWS: Final = {
    "import broadcaster": (*NOT_FOR_A_JOB, "httpx2", "asyncio", "msgspec"),
    "from broadcaster import Cursor": (*NOT_FOR_A_JOB, "httpx2", "asyncio"),
    "import broadcaster.sync": (*NOT_FOR_A_JOB, "httpx2"),
    "from broadcaster.sync import BlockingBroadcaster, Feed, Publisher": (*NOT_FOR_A_JOB, "httpx2"),
    "import broadcaster.client": NOT_FOR_A_JOB,
    "from broadcaster import Broadcaster": (*SERVING, *PROVIDERS, "typer", "jwt", "prometheus_client"),
    LISTING: (
        *(name for name in NOT_FOR_A_JOB if name not in TERMINALS),
        *("httpx2", "msgspec", "broadcaster.client", "broadcaster.cli.streams", "broadcaster.cli.terminal.failures"),
    ),
    STARTED_WORKER: (*NOT_FOR_A_JOB, "broadcaster.cli.main"),
    BUILT_FRONT_END: NOT_FOR_A_FRONT_END,
    "import broadcaster.cli.processes.front_end": NOT_FOR_A_FRONT_END,
    BUILT_WORKER: NOT_FOR_A_WORKER,
}
"""What a program imports → the modules that it must not load."""


@pytest.mark.parametrize("program", ROWS)
def test_an_import_loads_no_more_than_it_needs(program: str) -> None:
    assert loaded_by(program, ROWS[program]) == []


def test_the_guard_of_imports_sees_what_is_loaded() -> None:
    assert loaded_by("import broadcaster.settings", NOT_FOR_A_JOB) == [
        "pydantic",
        "pydantic_settings",
        "broadcaster.settings",
    ]


@pytest.mark.parametrize(
    ("program", "module"),
    [(BUILT_FRONT_END, "broadcaster.web.routes.generations"), (BUILT_WORKER, "worker.attempt")],
)
def test_the_guard_of_servers_runs_what_they_run_and_sees_a_package_that_is_loaded(program: str, module: str) -> None:
    assert loaded_by(f"import jsonschema\n{program}", (module, "jsonschema", "pytest")) == [module, "jsonschema"]


def loaded_by(program: str, modules: tuple[str, ...]) -> list[str]:
    """Those of the modules that the program has loaded."""
    code = f"import sys\n{program}\nprint(*[name for name in {modules} if name in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return ran.stdout.split()
