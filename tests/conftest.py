"""Fixtures that every room's tests share: one real Valkey for the whole run, emptied for each test."""

from __future__ import annotations

import asyncio
import gc
import math
import os
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import structlog
from hypothesis import settings

from broadcaster.hub import flusher
from broadcaster.log.redis.connect import LogConnection
from broadcaster.log.redis.embedded import EmbeddedServer, find_server, server_banner
from tests.support import authorities, engine
from tests.support.apps import prepared

# Other tests run beside: the time that an example takes proves nothing. `make compat` runs the properties with many.
settings.register_profile(
    "few", settings.get_profile("ci" if "CI" in os.environ else "default"), max_examples=30, deadline=None
)
settings.register_profile("many", max_examples=500, deadline=None)
settings.load_profile("few")

# What they run takes gigabytes of packages: `python -m tests.frameworks` alone runs them, for `make compat`.
collect_ignore = ["frameworks"]


def server_binary() -> Path | None:
    """Another engine for the whole suite, by the variable that ``make test ENGINE=redis`` sets."""
    chosen = os.environ.get("REDIS_BIN")
    return Path(chosen) if chosen else None


def pytest_configure(config: pytest.Config) -> None:
    """A run in the background of a script ignores SIGINT, and so would every process that the tests interrupt."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    authorities.trust_none()
    # Each test of a browser starts a driver under node, which would compile its megabytes anew.
    os.environ.setdefault("NODE_COMPILE_CACHE", str(config.rootpath / ".pytest_cache" / "node"))
    if config.getoption("numprocesses", None):  # this process starts those that run the tests
        prepared.share()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--engine-only", action="store_true", help="run what the second engine runs (support/engine.py)")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """The second engine imports no module of which it runs nothing."""
    if config.getoption("--engine-only") and collection_path.name.startswith("test_"):
        return None if engine.may_run(collection_path) else True
    return None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what the second engine does not run."""
    if config.getoption("--engine-only"):
        config.hook.pytest_deselected(items=[item for item in items if not engine.runs(item)])
        items[:] = [item for item in items if engine.runs(item)]


def pytest_report_header() -> str:
    """Which engine a run was on."""
    return f"redis: {server_banner(server_binary() or find_server())}"


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Tests and what they import live as long as the run: the garbage collector never looks through them."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Iterator[None]:
    """No garbage collection while the text of a failure is made, for which pytest parses the test's source.

    A collection during it makes Python 3.11's parser fail with a SystemError ("AST constructor recursion depth
    mismatch"), and the whole run ends.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        return (yield)
    finally:
        if was_enabled:
            gc.enable()


@pytest.fixture(scope="session", autouse=True)
def _embedded_servers_are_that_engine_too() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as environment:
        if binary := server_binary():
            environment.setenv("BROADCASTER_REDIS_SERVER", str(binary))
        yield


@pytest.fixture(autouse=True)
def _no_test_leaves_structlog_set_up() -> Iterator[None]:
    """``capture_logs`` does: the next test's warnings would go to stdout instead of ``caplog``."""
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """URL of a server that lives for the whole run."""
    with tempfile.TemporaryDirectory(prefix="bc-") as folder:
        server = EmbeddedServer(Path(folder), binary=server_binary())
        asyncio.run(server.start())
        yield server.url
        asyncio.run(server.stop())


@pytest.fixture
async def connection(redis_url: str) -> AsyncIterator[LogConnection]:
    """A connection to an empty server."""
    async with LogConnection(redis_url, max_connections=64) as opened:
        await opened.redis.flushall()
        yield opened


@pytest.fixture
def unpaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests that count turns of the loop: rooms are flushed in the next turn, however loaded the machine is."""
    monkeypatch.setattr(flusher, "BUSY_S", math.inf)
