"""The console's pure modules under node."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.servers.console_modules import ConsoleModules, console_modules


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsoleModules]:
    with console_modules(tmp_path_factory.mktemp("rendering")) as running:
        yield running
