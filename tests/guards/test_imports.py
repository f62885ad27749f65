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


def loaded_by(program: str, modules: tuple[str, ...]) -> list[str]:
    """Those of the modules that the program has loaded."""
    code = f"import sys\n{program}\nprint(*[name for name in {modules} if name in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return ran.stdout.split()
