"""The fixture server, and what each test reports to the matrix."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
import pytest_asyncio

from broadcaster.dialects import DIALECTS
from tests.compat.clients import CLIENTS, Client, Opened
from tests.compat.matrix import MARKER
from tests.compat.serving import FixtureServer, open_fixture_server


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", f"{MARKER}(client, case): a cell of the matrix in docs/compat.md")


@pytest.fixture(autouse=True)
def _cell(request: pytest.FixtureRequest) -> None:
    for mark in request.node.iter_markers(MARKER):
        request.node.user_properties.append(("cell", mark.args))


def dialect_of(client: Client) -> Any:
    """The client's dialect with the options that it needs."""
    dialect: Any = DIALECTS[client.dialect]
    return replace(dialect, **dict(client.options)) if client.options else dialect


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def opened() -> AsyncIterator[Opened]:
    async with Opened() as clients:
        yield clients


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[FixtureServer]:
    async with open_fixture_server(
        **{each.label: dialect_of(each) for each in CLIENTS if each.dialect in DIALECTS}
    ) as serving:
        yield serving
