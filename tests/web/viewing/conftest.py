"""Fixtures of this folder."""

from __future__ import annotations

import pytest

from broadcaster.web.viewing.direct import Admitted, DirectViewers, PlainRequest


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Paths of the requests whose viewers were admitted directly."""
    paths: list[str] = []
    join = DirectViewers.join

    async def noted(self: DirectViewers, plain: PlainRequest) -> Admitted | None:
        admitted = await join(self, plain)
        if admitted is not None:
            paths.append(plain.path)
        return admitted

    monkeypatch.setattr(DirectViewers, "join", noted)
    return paths
