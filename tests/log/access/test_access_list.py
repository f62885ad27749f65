"""The shared list of keys and revocations: changes raise the version, and what is stored opens nothing by itself."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable

import pytest

from broadcaster.core.access.callers import Action, Caller
from broadcaster.errors import InvalidInput, TenantLimit
from broadcaster.log.access import access_list
from broadcaster.log.access.access_list import CLOCKS_DIFFER_MS, AccessList
from broadcaster.log.redis.connect import LogConnection

KEY = "a-key-of-a-caller-0123"
DIGEST = hashlib.sha256(KEY.encode()).hexdigest()
RECORD = {"tenant": "web", "rights": ["watch"], "name": "dashboard", "created_ms": 7}


@pytest.fixture
def shared(connection: LogConnection) -> AccessList:
    return AccessList(connection)


async def test_a_stored_key_is_read_with_its_tenant_rights_and_name(shared: AccessList) -> None:
    assert await shared.add_key(DIGEST, RECORD)
    (stored,) = (await shared.read()).keys
    assert (stored.digest, stored.created_ms) == (DIGEST, 7)
    credential = f"key:{DIGEST[:16]}"
    assert stored.key.caller == Caller("web", frozenset({Action.WATCH}), name="dashboard", credential=credential)
    assert stored.key.digest == hashlib.sha256(KEY.encode()).digest()


async def test_redis_holds_no_key(shared: AccessList, connection: LogConnection) -> None:
    await shared.add_key(DIGEST, RECORD)
    assert KEY not in str(await connection.redis.hgetall(connection.keys.access_keys))


async def test_each_change_raises_the_version_and_a_change_of_nothing_does_not(shared: AccessList) -> None:
    versions = [await shared.version()]
    assert await shared.add_key(DIGEST, RECORD)
    versions.append(await shared.version())
    assert not await shared.add_key(DIGEST, {**RECORD, "rights": ["stop"]})
    versions.append(await shared.version())
    await shared.revoke(tenant="web", token_id="t1", for_s=60)
    versions.append(await shared.version())
    assert await shared.drop_key(DIGEST)
    versions.append(await shared.version())
    assert versions == sorted(set(versions))
    assert versions[0] == 0
    assert not await shared.drop_key(DIGEST)
    state = await shared.read()
    assert (state.version, state.keys) == (versions[-1], ())


async def test_a_change_after_a_lost_one_has_another_version_than_that_one(
    shared: AccessList, connection: LogConnection
) -> None:
    await shared.add_key(DIGEST, RECORD)
    before = await shared.version()
    changes: list[Callable[[], Awaitable[object]]] = [
        lambda: shared.add_key("0" * 64, RECORD),
        lambda: shared.revoke(tenant="web", token_id="t1", for_s=60),
        lambda: shared.drop_key(DIGEST),
    ]
    versions = {before}
    for change in changes:
        # As after a failover to a replica that has not seen the change.
        await connection.redis.hset(connection.keys.access_state, "version", before)
        await change()
        versions.add(await shared.version())
    assert len(versions) == 4


async def test_a_key_beyond_the_bound_is_refused_and_one_that_is_there_can_be_changed(
    shared: AccessList, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access_list, "MAX_KEYS", 1)
    await shared.add_key(DIGEST, RECORD)
    with pytest.raises(TenantLimit, match="1 keys are stored"):
        await shared.add_key("0" * 64, RECORD)
    assert not await shared.add_key(DIGEST, {**RECORD, "name": "other"})


async def test_a_revocation_refuses_the_tokens_that_were_issued_until_then(shared: AccessList) -> None:
    await shared.revoke(tenant="web", token_id="t1", for_s=60)
    await shared.revoke(tenant="web", subject="ann", for_s=60)
    state = await shared.read()
    now_ms = state.revoked["web sub ann"]
    token = {"tenant": "web", "token_id": "t2", "subject": "bob"}
    assert not state.revokes(**token, issued_ms=now_ms)
    assert state.revokes(**{**token, "token_id": "t1"}, issued_ms=now_ms + 10**6)
    assert state.revokes(**{**token, "subject": "ann"}, issued_ms=now_ms + CLOCKS_DIFFER_MS)
    assert not state.revokes(**{**token, "subject": "ann"}, issued_ms=now_ms + CLOCKS_DIFFER_MS + 1)
    assert not state.revokes(**{**token, "tenant": "jobs", "token_id": "t1"}, issued_ms=0)


async def test_a_revocation_is_dated_by_the_clock_of_the_caller_as_tokens_are(connection: LogConnection) -> None:
    clocks = iter((2000.5, 1000.0))
    shared = AccessList(connection, clock=lambda: next(clocks))
    await shared.revoke(tenant="web", subject="ann", for_s=60)
    assert (await shared.read()).revoked == {"web sub ann": 2_000_500}
    # The next caller's clock is behind: what was refused stays refused.
    await shared.revoke(tenant="web", subject="ann", for_s=60)
    assert (await shared.read()).revoked == {"web sub ann": 2_000_500}


async def test_the_time_for_which_a_revocation_is_kept_is_measured_by_the_clock_of_redis(
    connection: LogConnection,
) -> None:
    await AccessList(connection, clock=lambda: 1000.0).revoke(tenant="web", subject="ann", for_s=60)
    raw = await connection.redis.hget(connection.keys.access_revoked, "web sub ann")
    seconds, micros = await connection.redis.time()
    assert raw is not None
    assert 0 <= seconds + micros / 1e6 + 60 - int(raw.split()[1]) / 1000 < 30


async def test_a_revocation_needs_a_token_or_a_subject(shared: AccessList) -> None:
    for given in ({}, {"token_id": "t", "subject": "s"}):
        with pytest.raises(InvalidInput, match="exactly one"):
            await shared.revoke(tenant="web", for_s=60, **given)


@pytest.fixture
def _narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_list, "MAX_REVOCATIONS", 2)
    monkeypatch.setattr(access_list, "MAX_ALL_REVOCATIONS", 5)
    monkeypatch.setattr(access_list, "PRUNE_MS", 0)


async def counts(connection: LogConnection) -> dict[str, int]:
    """How many revocations there are by their counters."""
    found = await connection.redis.hgetall(connection.keys.access_state)
    state = {name.decode(): int(value) for name, value in found.items() if isinstance(name, bytes)}
    return {name: number for name, number in state.items() if name.startswith("revoked")}


@pytest.mark.usefixtures("_narrow")
async def test_revocations_are_bounded_and_those_that_are_over_make_room(
    shared: AccessList, connection: LogConnection
) -> None:
    await shared.revoke(tenant="web", token_id="t1", for_s=-1)
    await shared.revoke(tenant="web", token_id="t2", for_s=60)
    await shared.revoke(tenant="web", token_id="t3", for_s=60)
    assert set((await shared.read()).revoked) == {"web jti t2", "web jti t3"}
    with pytest.raises(TenantLimit, match="2 revocations"):
        await shared.revoke(tenant="web", token_id="t4", for_s=60)
    await shared.revoke(tenant="web", token_id="t3", for_s=90)
    assert await counts(connection) == {"revoked": 2, "revoked:web": 2}


@pytest.mark.usefixtures("_narrow")
async def test_a_tenant_with_all_its_revocations_leaves_the_room_of_others(
    shared: AccessList, connection: LogConnection
) -> None:
    for tenant in ("web", "web.jobs", "we"):
        await shared.revoke(tenant=tenant, token_id="t1", for_s=60)
        await shared.revoke(tenant=tenant, subject="ann jti t1", for_s=-1 if tenant == "web.jobs" else 60)
    with pytest.raises(TenantLimit, match="of this tenant"):
        await shared.revoke(tenant="web", token_id="t3", for_s=60)
    # What was over is gone, and its tenant has room.
    assert await counts(connection) == {"revoked": 5, "revoked:web": 2, "revoked:web.jobs": 1, "revoked:we": 2}


@pytest.mark.usefixtures("_narrow")
async def test_the_revocations_of_all_tenants_are_bounded_and_are_pruned_first(shared: AccessList) -> None:
    for tenant in ("a", "b", "c", "d"):
        await shared.revoke(tenant=tenant, token_id="t1", for_s=60)
    await shared.revoke(tenant="e", token_id="t1", for_s=-1)
    await shared.revoke(tenant="f", token_id="t1", for_s=60)
    assert "e jti t1" not in (await shared.read()).revoked
    with pytest.raises(TenantLimit, match="of all tenants"):
        await shared.revoke(tenant="g", token_id="t1", for_s=60)


async def test_revocations_of_an_earlier_version_and_lost_counters_are_counted(
    shared: AccessList, connection: LogConnection
) -> None:
    later = 10**15
    await connection.redis.hset(
        connection.keys.access_revoked, mapping={"web jti t1": f"1 {later}", "jobs sub a": "1 2"}
    )
    await connection.redis.hset(connection.keys.access_state, mapping={"version": 7, "revoked:gone": 5})
    await shared.revoke(tenant="jobs", token_id="t2", for_s=60)
    assert await counts(connection) == {"revoked": 2, "revoked:web": 1, "revoked:jobs": 1}
    assert await shared.version() > 7
    assert set((await shared.read()).revoked) == {"web jti t1", "jobs jti t2"}


async def test_refusals_in_a_row_read_the_revocations_once(
    shared: AccessList, connection: LogConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access_list, "MAX_REVOCATIONS", 1)
    monkeypatch.setattr(access_list, "PRUNE_MS", 3_000_000)
    await shared.revoke(tenant="web", token_id="t1", for_s=-1)
    with pytest.raises(TenantLimit):
        await shared.revoke(tenant="web", token_id="t2", for_s=60)
    pruned_ms = int(await connection.redis.hget(connection.keys.access_state, "pruned_ms") or 0)
    await connection.redis.hset(connection.keys.access_state, "pruned_ms", pruned_ms - 3_000_000)
    await shared.revoke(tenant="web", token_id="t2", for_s=60)
    assert set((await shared.read()).revoked) == {"web jti t2"}


async def test_a_shorter_revocation_never_ends_a_longer_one(shared: AccessList, connection: LogConnection) -> None:
    for for_s in (60, 1):
        await shared.revoke(tenant="web", token_id="t1", for_s=for_s)
    raw = await connection.redis.hget(connection.keys.access_revoked, "web jti t1")
    assert raw is not None
    revoked_ms, until_ms = map(int, raw.split())
    assert until_ms - revoked_ms > 50_000


@pytest.mark.parametrize("record", [b"{", b"[]", b"{}", b'{"tenant":"web","rights":["fly"],"name":"","created_ms":1}'])
async def test_a_record_that_cannot_be_read_is_left_out(
    shared: AccessList, connection: LogConnection, record: bytes
) -> None:
    await shared.add_key(DIGEST, RECORD)
    await connection.redis.hset(connection.keys.access_keys, "1" * 64, record)
    assert [stored.digest for stored in (await shared.read()).keys] == [DIGEST]
