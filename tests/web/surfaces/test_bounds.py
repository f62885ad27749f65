"""How long an answer may be: as long as the model makes it, unless its caller or the operator bounds it."""

from __future__ import annotations

from typing import Any

import pytest

from broadcaster.core.events import Finish, Start, TextDelta
from tests.support.memory.memory_world import MemoryWorld, memory_services
from tests.support.servers.front_end import in_process, own_app
from tests.web.surfaces.calls import CALLS

UNBOUNDED = {name: call for name, call in CALLS.items() if "max_tokens" not in call[1]}


@pytest.mark.parametrize(("path", "body"), UNBOUNDED.values(), ids=UNBOUNDED)
@pytest.mark.parametrize("bound", [None, 512])
async def test_an_answer_without_a_requested_bound_has_the_operators_bound_or_none(
    world: MemoryWorld, path: str, body: dict[str, Any], bound: int | None
) -> None:
    world.on_create = lambda each: world.append(each, Start(), TextDelta(id="0", delta="Hi"), Finish())
    async with (
        memory_services(world, default_max_tokens=bound) as services,
        in_process(own_app(services)) as client,
    ):
        assert (await client.post(path, json=body)).is_success
    (response,) = world.requests
    # Workers of earlier versions bound a request without the field by themselves, and cannot read null.
    assert response.request.get("max_tokens", "left out") == (bound or "left out")
