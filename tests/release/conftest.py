"""What is published, built once for all tests, and the environments in which it is installed."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from broadcaster.testing import ScriptedProvider
from tests.release.building import TOOLS, Artifacts, build, find
from tests.release.environments import Fresh
from tests.support.servers.programs import lacking

REPOSITORY = "owner/name"


@pytest.fixture(scope="session")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> Artifacts:
    """Those of the folder that RELEASE_DIST names (``make release``), else built now."""
    if not (TOOLS / "python").exists():
        lacking("no tools for releases here: get them with `make releasetools`")
    if folder := os.environ.get("RELEASE_DIST"):
        return find(Path(folder))
    return build(tmp_path_factory.mktemp("dist"), REPOSITORY)


@pytest.fixture(scope="session")
def installed(artifacts: Artifacts, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Fresh]:
    """The environment of an extra: ``installed("server")``; "" is the base."""
    made: dict[str, Fresh] = {}

    def with_extra(extra: str) -> Fresh:
        if extra not in made:
            made[extra] = fresh = Fresh(tmp_path_factory.mktemp(extra or "base"))
            fresh.create()
            options = f"[{extra}]" if extra else ""
            fresh.install(f"llm-broadcaster{options} @ {artifacts.wheel.resolve().as_uri()}")
        return made[extra]

    return with_extra


@pytest.fixture
async def scripted() -> AsyncIterator[ScriptedProvider]:
    async with ScriptedProvider() as provider:
        yield provider
