"""The deployment files, filled in as a person fills them in."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.files import DEPLOY, ROOT, compose, filled_in, kubernetes, variables


@pytest.fixture
def environment() -> dict[str, str]:
    """``.env`` as made from the example."""
    return variables(filled_in(ROOT / ".env.example"))


@pytest.fixture
def services(environment: Mapping[str, str]) -> dict[str, Any]:
    """The services of docker-compose.yml."""
    services: dict[str, Any] = compose(environment)["services"]
    return services


@pytest.fixture(scope="session")
def overlay(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example overlay in a copy of deploy/, with its secrets made from their examples."""
    copied = tmp_path_factory.mktemp("kustomize") / "deploy"
    shutil.copytree(DEPLOY, copied)
    folder = copied / "kubernetes" / "overlays" / "example"
    for example in (folder / "secrets").glob("*.example"):
        example.with_suffix("").write_text(filled_in(example))
    return folder


@pytest.fixture
def resources(overlay: Path) -> tuple[dict[str, Any], ...]:
    """What kustomize makes of it."""
    return kubernetes(overlay)
