"""What runs once for all rows of a process, and what each test reports to the table."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.frameworks.drivers import ENVIRONMENTS, Drivers
from tests.frameworks.serving import Serving, open_serving
from tests.frameworks.table import MARKER


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", f"{MARKER}(row, case): a cell of the table of frameworks in docs/compat.md")


@pytest.fixture(autouse=True)
def _cell(request: pytest.FixtureRequest) -> None:
    for mark in request.node.iter_markers(MARKER):
        request.node.user_properties.append(("cell", mark.args))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def drivers() -> AsyncIterator[Drivers]:
    async with Drivers(ENVIRONMENTS) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def serving(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Serving]:
    async with open_serving(tmp_path_factory.mktemp("serving"), redis_url) as running:
        yield running
