"""No body that is taken off the wire holds a front-end's loop for long, or makes it large."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.attacks.bodies import attacks, request_of
from tests.attacks.measuring import costs, exchange, opened, port_of

# The loop's longest turn is at most the time that the whole request takes of the processor. A turn may take 250 ms; the
# worst bodies take 100 ms here, and took 1.3 to 39 s when their values were not counted.
MOST_CPU_S = 0.75
MOST_GROWN_BYTES = 100 * 2**20


@pytest.mark.parametrize("is_mounted", [False, True], ids=["our own app", "a mounted router"])
async def test_no_body_on_any_route_holds_the_loop_or_takes_much_memory(
    tmp_path: Path, redis_url: str, is_mounted: bool
) -> None:
    # No worker runs: a stream's head need not wait for content, and a count not for a provider.
    waits = {"head_wait_s": 0.01, "count_wait_s": 0.01}
    async with opened(tmp_path, redis_url=redis_url, is_mounted=is_mounted, **waits) as (running, prefix):
        for attack in attacks():
            if is_mounted and attack.path.startswith("/ds/"):
                continue  # no router serves them
            async with costs(running, is_probed=False) as cost:
                status = await exchange(port_of(running), request_of(attack, prefix=prefix))
            assert status < 500 or status == 502, attack[:3]  # 502: the provider of the model has no key here
            assert status == 413 or not attack.name.startswith("over"), attack[:3]
            assert cost.cpu_s < MOST_CPU_S, attack[:3]
            assert cost.grown_bytes < MOST_GROWN_BYTES, attack[:3]
