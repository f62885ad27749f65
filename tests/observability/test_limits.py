"""Limits count where they refuse, cut or delay, and nowhere else."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from broadcaster.errors import Busy, InvalidInput, MetadataTooLarge
from broadcaster.hub.limits import HubLimits, TenantBound
from broadcaster.hub.places import Places
from broadcaster.log.feeds.refusals import AppendCode, raise_refusal
from broadcaster.observability.limits import REACHED, counting_refusals
from broadcaster.observability.lines import RefusedRequest
from broadcaster.web.guards.json_body import decode_body
from broadcaster.web.guards.json_ledger import JsonLedger
from broadcaster.web.guards.refusal_log import RefusalLog
from broadcaster.web.guards.tenant_rates import TenantRates
from broadcaster.web.server.connections import Arrivals, ConnectionLimits
from worker.slots import Slots


@contextmanager
def reached() -> Iterator[Counter[str]]:
    """What is counted within the block."""
    before, found = Counter(REACHED), Counter[str]()
    yield found
    found.update(Counter(REACHED) - before)


def take_places(limits: HubLimits, *, waits: bool = False) -> None:
    places = Places(limits)
    for _ in range(2):
        places.take("t", waits=waits)


def take_slots(slots: Slots) -> None:
    for _ in range(2):
        slots.take_nowait("t")


ONE = TenantBound(1)
REFUSALS: dict[str, Callable[[], object]] = {
    "MAX_VIEWERS": lambda: take_places(HubLimits(max_viewers=1)),
    "TENANT_VIEWERS": lambda: take_places(HubLimits(tenant_viewers=ONE)),
    "TENANT_LONG_POLLS": lambda: take_places(HubLimits(tenant_long_polls=ONE), waits=True),
    "MAX_JSON_BYTES": lambda: JsonLedger(max_bytes=10).move("t", 11),
    "TENANT_JSON_BYTES": lambda: JsonLedger(tenant_bytes=TenantBound(10)).move("t", 11),
    "MAX_BODY_VALUES": lambda: decode_body(b"[1,2,3]", max_values=2),
    "FEED_APPEND_RATE": lambda: raise_refusal(AppendCode.TOO_OFTEN, wait_ms=5, has_many=False),
    "MAX_EVENTS": lambda: raise_refusal(AppendCode.FULL, wait_ms=0, has_many=True),
    "MAX_BYTES": lambda: raise_refusal(AppendCode.FULL, wait_ms=0, has_many=False),
    "MAX_CONNECTIONS": lambda: Arrivals(ConnectionLimits(max_connections=10)).admit(11),
    "CONCURRENCY": lambda: take_slots(Slots(concurrency=2, buffer_bytes=100, max_bytes=1)),
    "BUFFER_BYTES": lambda: take_slots(Slots(concurrency=10, buffer_bytes=2, max_bytes=1)),
    "TENANT_SLOT_SHARE": lambda: take_slots(Slots(concurrency=4, buffer_bytes=100, max_bytes=1, tenant_share=0.5)),
}


@pytest.mark.parametrize("limit", REFUSALS)
def test_a_limit_that_is_reached_counts_once_and_no_other_does(limit: str) -> None:
    with reached() as found, suppress(Busy, InvalidInput):
        REFUSALS[limit]()
    assert found == {limit: 1}


@pytest.mark.parametrize("kind", ["requests", "appends"])
def test_a_rate_counts_what_it_refuses_and_not_what_it_admits(kind: str) -> None:
    rates = TenantRates(requests_per_s=0.001, appends_per_s=0.001)
    admit = rates.admit_request if kind == "requests" else lambda tenant: rates.admit_append(tenant, 1)
    with reached() as found:
        refused = 0
        for _ in range(10):
            try:
                admit("t")
            except Busy:
                refused += 1
    assert refused > 0
    assert found == {f"TENANT_{kind.upper()}_PER_S": refused}


async def test_lines_that_are_not_written_count() -> None:
    refusals = RefusalLog(per_s=2, write=lambda line: None)
    with reached() as found:
        for _ in range(5):
            refusals.add(RefusedRequest(status=404, code="not_found"))
    assert found == {"LOG_REFUSALS_PER_S": 3}
    await asyncio.sleep(0)


def test_another_error_is_no_refusal() -> None:
    with reached() as found:
        with suppress(ValueError), counting_refusals("MAX_METADATA_BYTES", MetadataTooLarge):
            raise ValueError
        with suppress(MetadataTooLarge), counting_refusals("MAX_METADATA_BYTES", MetadataTooLarge):
            raise MetadataTooLarge("x")
    assert found == {"MAX_METADATA_BYTES": 1}
