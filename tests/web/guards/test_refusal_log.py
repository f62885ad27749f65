"""Lines about refusals are bounded, and each refusal is counted in one."""

from __future__ import annotations

import asyncio

from broadcaster.observability.lines import RefusedRequest
from broadcaster.web.guards.refusal_log import MAX_KINDS, WINDOW_S, RefusalLog


async def written(*refusals: tuple[str, str], per_s: int) -> list[RefusedRequest]:
    """The lines of these refusals, which come in one moment, by the end of their second."""
    lines: list[RefusedRequest] = []
    log = RefusalLog(per_s, write=lines.append)
    for tenant, code in refusals:
        log.add(RefusedRequest(tenant=tenant, code=code))
    assert not any(line.suppressed for line in lines)
    await asyncio.sleep(WINDOW_S + 0.1)
    return lines


async def test_a_second_has_so_many_lines_and_one_with_the_count_of_the_rest() -> None:
    lines = await written(*[("acme", "rate_limited")] * 1000, per_s=5)
    assert [line.suppressed for line in lines] == [None] * 5 + [995]


async def test_one_tenant_s_crowd_takes_no_line_from_another_or_from_another_code() -> None:
    crowd = [("acme", "rate_limited")] * 100
    lines = await written(*crowd, ("other", "rate_limited"), ("acme", "queue_full"), per_s=1)
    assert [(line.tenant, line.code, line.suppressed) for line in lines] == [
        ("acme", "rate_limited", None),
        ("other", "rate_limited", None),
        ("acme", "queue_full", None),
        ("acme", "rate_limited", 99),
    ]


async def test_beyond_the_bound_of_kinds_all_share_one_count() -> None:
    lines = await written(*((f"tenant-{n}", "busy") for n in range(MAX_KINDS + 100)), per_s=1)
    assert len(lines) == MAX_KINDS + 2
    assert sum(line.suppressed or 1 for line in lines) == MAX_KINDS + 100
