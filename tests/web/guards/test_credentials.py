"""The credentials of a front-end: keys of the setting, of a file and of Redis, and what happens when they change."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import pytest

from broadcaster.core.access.api_keys import Keyring, read_key
from broadcaster.core.access.callers import Action, Caller, StreamGrant
from broadcaster.core.access.viewer_tokens import ViewerToken
from broadcaster.errors import LogUnavailable, SetupError, TokenRevoked
from broadcaster.log.access.access_list import AccessList, AccessState, StoredKey
from broadcaster.web.guards import credentials as credentials_module
from broadcaster.web.guards.credentials import Credentials
from broadcaster.web.guards.key_file import KeyFile

KEY, OTHER = b"a-key-of-a-caller-0123", b"another-key-of-a-caller"
DEADLINE_S = 20.0


def digest(key: bytes) -> str:
    return hashlib.sha256(key).hexdigest()


def ring(key: bytes, tenant: str, **fields: Any) -> Keyring:
    return Keyring([read_key({"sha256": digest(key), **fields}, tenant=tenant)])


def stored(key: bytes, tenant: str, **fields: Any) -> StoredKey:
    return StoredKey(digest(key), read_key({"sha256": digest(key), **fields}, tenant=tenant), 1)


@dataclass
class Listed:
    """The list in Redis: ``state`` None while Redis is away."""

    state: AccessState | None = None
    reads: int = 0
    polled: asyncio.Event = field(default_factory=asyncio.Event)

    async def version(self) -> int:
        self.polled.set()
        if self.state is None:
            raise LogUnavailable("away")
        return self.state.version

    async def read(self) -> AccessState:
        self.polled.set()
        if self.state is None:
            raise LogUnavailable("away")
        self.reads += 1
        return self.state

    async def until_polled(self, times: int = 2) -> None:
        for _ in range(times):
            self.polled.clear()
            async with asyncio.timeout(DEADLINE_S):
                await self.polled.wait()


class Following:
    """The task that follows the list, in a block."""

    def __init__(self, credentials: Credentials, listed: Listed) -> None:
        self.changes = 0
        self._begin: Callable[[], Any] = lambda: credentials.follow(cast(AccessList, listed), changed=self._changed)
        self._has_changed = asyncio.Event()

    def _changed(self) -> None:
        self.changes += 1
        self._has_changed.set()

    async def until_changed(self) -> None:
        async with asyncio.timeout(DEADLINE_S):
            await self._has_changed.wait()
        self._has_changed.clear()

    async def __aenter__(self) -> Following:
        self._task = asyncio.create_task(self._begin())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.wait({self._task})


@pytest.fixture(autouse=True)
def _short_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(credentials_module, "POLL_S", 0.001)


async def tenant_of(credentials: Credentials, key: bytes) -> str | None:
    caller = await credentials.judged(lambda each: each.caller_of(key))
    return None if caller is None else caller.tenant


def write(path: Path, value: object, *, mode: int = 0o644) -> Path:
    """Replaced as a whole, as tools that write configuration do."""
    new = path.with_suffix(".new")
    new.write_text(value if isinstance(value, str) else json.dumps(value), "utf-8")
    new.chmod(mode)
    os.replace(new, path)
    return path


async def test_a_key_of_redis_opens_once_the_list_was_read_and_no_more_when_it_is_gone() -> None:
    listed = Listed(AccessState(1, (stored(KEY, "web"),)))
    credentials = Credentials(Keyring(), is_shared=True)
    async with Following(credentials, listed) as following:
        caller = await credentials.judged(lambda each: each.caller_of(KEY))
        assert caller is not None
        assert (caller.tenant, credentials.admits(caller)) == ("web", True)
        assert credentials.caller_of(OTHER) is None
        await following.until_changed()
        listed.state = AccessState(2)
        await following.until_changed()
        assert credentials.caller_of(KEY) is None
        assert not credentials.admits(caller)


async def test_an_unchanged_list_is_read_once() -> None:
    listed = Listed(AccessState(1, (stored(KEY, "web"),)))
    async with Following(Credentials(Keyring(), is_shared=True), listed) as following:
        await listed.until_polled(5)
        assert (listed.reads, following.changes) == (1, 1)


async def test_a_change_without_another_version_is_found_by_the_next_full_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(credentials_module, "REREAD_S", 0.0)
    listed = Listed(AccessState(1, (stored(KEY, "web"),)))
    credentials = Credentials(Keyring(), is_shared=True)
    async with Following(credentials, listed) as following:
        await following.until_changed()
        await listed.until_polled(5)
        assert following.changes == 1
        listed.state = AccessState(1, (stored(OTHER, "web"),))
        await following.until_changed()
        assert [await tenant_of(credentials, key) for key in (KEY, OTHER)] == [None, "web"]


async def test_while_redis_is_away_the_last_list_stays_valid() -> None:
    listed = Listed(AccessState(1, (stored(KEY, "web"),)))
    credentials = Credentials(Keyring(), is_shared=True)
    async with Following(credentials, listed) as following:
        await following.until_changed()
        listed.state = None
        await listed.until_polled()
        assert await tenant_of(credentials, KEY) == "web"
        assert await tenant_of(credentials, OTHER) is None


async def test_before_the_first_read_an_unknown_key_waits_and_is_then_unavailable_not_unknown() -> None:
    listed = Listed()
    credentials = Credentials(ring(KEY, "set"), is_shared=True, wait_s=0.05)
    async with Following(credentials, listed):
        assert await tenant_of(credentials, KEY) == "set"
        with pytest.raises(LogUnavailable):
            await credentials.judged(lambda each: each.caller_of(OTHER))
    patient = Credentials(Keyring(), is_shared=True, wait_s=DEADLINE_S)
    async with Following(patient, listed):
        waiting = asyncio.create_task(patient.judged(lambda each: each.caller_of(OTHER)))
        await listed.until_polled()
        assert not waiting.done()
        listed.state = AccessState(1, (stored(OTHER, "web"),))
        assert (await waiting) == read_key({"sha256": digest(OTHER)}, tenant="web").caller


async def test_the_setting_counts_before_the_file_and_the_file_before_redis(tmp_path: Path) -> None:
    file = KeyFile(str(write(tmp_path / "keys.json", {"file": [{"sha256": digest(KEY)}, {"sha256": digest(OTHER)}]})))
    credentials = Credentials(ring(KEY, "set"), file=file, is_shared=True)
    listed = Listed(AccessState(1, (stored(KEY, "web"), stored(OTHER, "web"))))
    async with Following(credentials, listed):
        await credentials.until_read()
        assert [await tenant_of(credentials, key) for key in (KEY, OTHER)] == ["set", "file"]


async def test_a_key_that_loses_a_right_is_no_longer_what_its_viewers_were_admitted_with() -> None:
    before = read_key({"sha256": digest(KEY)}, tenant="web").caller
    assert Credentials(ring(KEY, "web", name="renamed")).admits(before)
    assert not Credentials(ring(KEY, "web", rights=["watch"])).admits(before)
    assert not Credentials(ring(KEY, "other")).admits(before)
    assert Credentials(ring(KEY, "web")).admits(Caller("web", frozenset({Action.WATCH}), credential=before.credential))


async def test_a_token_counts_no_longer_than_the_key_that_requested_it() -> None:
    key = read_key({"sha256": digest(KEY)}, tenant="web").caller
    token = ViewerToken("web", (StreamGrant("gen_1", frozenset({Action.WATCH})),), 1.0, 2e9, minted_by=key.credential)
    assert Credentials(ring(KEY, "web")).admits(token.caller("token:1"))
    assert not Credentials(ring(OTHER, "web")).admits(token.caller("token:1"))
    assert Credentials(ring(OTHER, "web")).admits(replace(token, minted_by="").caller("token:1"))


async def test_a_token_counts_while_the_key_that_requested_it_has_its_tenant_and_its_rights() -> None:
    key = read_key({"sha256": digest(KEY)}, tenant="web").caller
    grants = (StreamGrant("job-1", frozenset({Action.APPEND})), StreamGrant("gen_1", frozenset({Action.WATCH})))
    caller = ViewerToken("web", grants, 1.0, 2e9, minted_by=key.credential).caller("token:1")
    assert Credentials(ring(KEY, "web", rights=["watch", "append"])).admits(caller)
    for now in (ring(KEY, "web", rights=["watch"]), ring(KEY, "web", rights=["append"]), ring(KEY, "other")):
        credentials = Credentials(now)
        assert not credentials.admits(caller)
        with pytest.raises(TokenRevoked):
            credentials.check(caller)


async def test_a_changed_file_is_reread(tmp_path: Path) -> None:
    path = write(tmp_path / "keys.json", {"web": [{"sha256": digest(KEY)}]})
    credentials = Credentials(Keyring(), file=KeyFile(str(path)), is_shared=True)
    async with Following(credentials, Listed(AccessState())) as following:
        assert await tenant_of(credentials, KEY) == "web"
        await following.until_changed()
        write(path, {"jobs": [{"sha256": digest(OTHER)}]})
        await following.until_changed()
        assert [await tenant_of(credentials, key) for key in (KEY, OTHER)] == [None, "jobs"]


@pytest.mark.parametrize("content", ["{", '{"web": ["a-key-in-plain-text"]}', "{}", None])
async def test_a_file_that_becomes_unusable_changes_nothing(tmp_path: Path, content: str | None) -> None:
    path = write(tmp_path / "keys.json", {"web": [{"sha256": digest(KEY)}]})
    credentials = Credentials(Keyring(), file=KeyFile(str(path)), is_shared=True)
    listed = Listed(AccessState())
    async with Following(credentials, listed):
        if content is None:
            path.unlink()
        else:
            write(path, content)
        await listed.until_polled(3)
        assert await tenant_of(credentials, KEY) == "web"
        write(path, {"jobs": [{"sha256": digest(OTHER)}]})
        async with asyncio.timeout(DEADLINE_S):
            while await tenant_of(credentials, OTHER) is None:
                await listed.until_polled(1)


@pytest.mark.parametrize(
    ("content", "mode", "fault"),
    [
        ("{", 0o600, "JSON"),
        (f'{{"web": ["{KEY.decode()}"]}}', 0o600, "only digests"),
        (f'{{"web": [{{"sha256": "{digest(KEY)}"}}]}}', 0o620, "chmod go-w"),
        (f'{{"web": [{{"sha256": "{digest(KEY)}"}}]}}', 0o602, "chmod go-w"),
        (" " * (2**20 + 1), 0o600, "1048576 bytes"),
    ],
)
def test_a_file_that_cannot_be_trusted_stops_the_start(tmp_path: Path, content: str, mode: int, fault: str) -> None:
    path = write(tmp_path / "keys.json", content, mode=mode)
    with pytest.raises(SetupError, match=fault) as refused:
        Credentials(Keyring(), file=KeyFile(str(path)))
    assert "BROADCASTER_API_KEYS_FILE" in refused.value.detail
    assert KEY.decode() not in refused.value.detail


def test_a_file_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "keys.json", {"web": [{"sha256": digest(KEY)}]})
    os.chown(path, 12345, -1) if os.geteuid() == 0 else monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(SetupError, match="chown"):
        KeyFile(str(path)).read_changed()


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_what_is_no_file_is_refused_without_waiting_for_it(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "keys.json")
    with pytest.raises(SetupError, match=r"not a file|cannot be read"):
        KeyFile(str(tmp_path / "keys.json")).read_changed()


def test_a_link_is_followed_as_mounted_secrets_are_links(tmp_path: Path) -> None:
    write(tmp_path / "version-1", {"web": [{"sha256": digest(KEY)}]})
    (tmp_path / "keys.json").symlink_to("version-1")
    read = KeyFile(str(tmp_path / "keys.json")).read_changed()
    assert read is not None
    assert read.key_count == 1
