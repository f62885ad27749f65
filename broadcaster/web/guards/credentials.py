"""The credentials that a front-end admits: the keys of its setting, of a file and of Redis; and what was revoked.

Rules
1. A key of the setting counts before one of the file, and that before one of Redis: an entry in Redis takes no right
   from a key that the operator has set.
2. File and Redis are read every ``POLL_S``, an unchanged list by one small call: a change reaches every front-end in
   less than a second. The whole list is read every ``REREAD_S``, too: the version of an earlier release, which counts,
   may be the same after a failover that lost a change.
3. While Redis is away the list that was read last stays valid. Before the first read, a key that is unknown here may be
   one of Redis: the request waits a moment, and is then refused as one that may be repeated.
4. After each change ``changed`` is called, which ends the viewers whose credential is no longer valid.
5. A viewer token is verified at each request. Whether it was revoked is known from the list: before its first read a
   request with a token waits, too.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeVar

from broadcaster.core.access.api_keys import Keyring
from broadcaster.core.access.callers import Caller
from broadcaster.core.access.viewer_tokens import TokenHolder
from broadcaster.errors import LogUnavailable, SetupError, TokenExpired
from broadcaster.extras import import_for
from broadcaster.hub.places import revocation_of
from broadcaster.log.access.access_list import AccessList, AccessState
from broadcaster.observability.logs import get_logger
from broadcaster.web.guards.key_file import KeyFile

if TYPE_CHECKING:
    from broadcaster.web.guards.tokens.issuers import TokenIssuers

POLL_S: Final = 0.4
REREAD_S: Final = 60.0

_log = get_logger(__name__)
_VerdictT = TypeVar("_VerdictT")


class ListUnread(Exception):
    """What a credential allows may be written in the list of Redis, which was not read yet."""


class Credentials:
    """One for a front-end. ``is_shared``: a task will ``follow`` the list in Redis; ``wait_s``: for its first read."""

    def __init__(
        self,
        keyring: Keyring,
        *,
        file: KeyFile | None = None,
        tokens: TokenIssuers | None = None,
        is_shared: bool = False,
        wait_s: float = 2.0,
    ) -> None:
        """Reads the file. Raises SetupError when it cannot be used."""
        self._of_setting = keyring
        self._tokens = tokens or _no_issuers()
        self._file = file
        self._of_file = Keyring() if file is None else file.read_changed() or Keyring()
        self._of_redis = Keyring()
        self._wait_s = wait_s
        self._is_current = asyncio.Event()
        self._is_stale = False
        self._reread_at = 0.0  # on the loop's clock
        self.state = AccessState()
        """The list of Redis as it was read last; see ``until_read``."""
        if not is_shared:
            self._is_current.set()

    def caller_of(self, key: bytes) -> Caller | None:
        """The caller with this key; None: no caller has it. Raises ListUnread if that is not known yet (rule 3)."""
        found = self._find(key)
        if found is None and not self._is_current.is_set():
            raise ListUnread
        return found

    def holder_of(self, text: str) -> TokenHolder:
        """The caller with this viewer token.

        Raises TokenInvalid, TokenExpired, TokenRevoked; ListUnread if it is not known yet whether it was revoked.
        """
        holder = self._tokens.verify(text, now_s=time.time())
        if not self._is_current.is_set():
            raise ListUnread
        self.check(holder)
        return holder

    async def judged(self, judge: Callable[[Credentials], _VerdictT]) -> _VerdictT:
        """What ``judge`` returns, after the list of Redis was read if it raises ListUnread. Raises LogUnavailable."""
        try:
            return judge(self)
        except ListUnread:
            await self.until_read()
            return judge(self)

    def check(self, caller: Caller) -> None:
        """Raises TokenExpired, TokenRevoked or Unauthorized if the credential of an admitted caller counts no more."""
        if time.time() >= caller.expires_s:
            raise TokenExpired("the token has expired; get a new one from the service that issued it")
        if not self.admits(caller):
            raise revocation_of(caller)

    async def until_read(self) -> None:
        """Return once the list of Redis was read. Raises LogUnavailable if that takes too long."""
        try:
            async with asyncio.timeout(self._wait_s):
                await self._is_current.wait()
        except TimeoutError:
            raise LogUnavailable("Redis has not answered yet, and may hold this credential; try again") from None

    def admits(self, caller: Caller) -> bool:
        """Whether a caller that was admitted before still is, with all its rights, but for the age of its token."""
        if isinstance(caller, TokenHolder):
            token = caller.token
            if token.minted_by and not caller.still(self._holder_of(token.minted_by)):
                return False
            if caller.signer is not None and not self._tokens.knows(caller.signer):
                return False
            return not self.state.revokes(
                tenant=token.tenant,
                token_id=token.id,
                subject=token.subject,
                issued_ms=int(token.issued_s * 1000),
            )
        return caller.still(self._holder_of(caller.credential))

    async def follow(self, shared: AccessList, *, changed: Callable[[], None]) -> None:
        """Keep file and list up to date until cancelled; after the first read and each change call ``changed``."""
        is_first = True
        while True:
            has_changed = await self._read_file()
            has_changed |= await asyncio.to_thread(self._tokens.read_changed)
            has_changed |= await self._read_list(shared)
            if has_changed or (is_first and self._is_current.is_set()):
                is_first = False
                changed()
            await asyncio.sleep(POLL_S)

    def _holder_of(self, credential: str) -> Caller | None:
        """The caller that has this key now."""
        rings = (self._of_setting, self._of_file, self._of_redis)
        return next((caller for ring in rings if (caller := ring.caller_with(credential)) is not None), None)

    def _find(self, key: bytes) -> Caller | None:
        # Every source is checked, so that the duration does not reveal which one has the key.
        found = [ring.caller_of(key) for ring in (self._of_setting, self._of_file, self._of_redis)]
        return next((caller for caller in found if caller is not None), None)

    async def _read_file(self) -> bool:
        if self._file is None:
            return False
        try:
            read = await asyncio.to_thread(self._file.read_changed)
        except SetupError as error:
            _log.error("key_file_unusable", fault=error.detail, keys_kept=self._of_file.key_count)
            return False
        if read is not None:
            self._of_file = read
            _log.info("key_file_read", keys=read.key_count)
        return read is not None

    async def _read_list(self, shared: AccessList) -> bool:
        now, is_first = asyncio.get_running_loop().time(), not self._is_current.is_set()
        try:
            if not is_first and now < self._reread_at and await shared.version() == self.state.version:
                self._is_stale = False
                return False
            state = await shared.read()
        except LogUnavailable:
            if not self._is_stale:
                self._is_stale = True
                _log.warning("credentials_stale", since_version=self.state.version)
            return False
        self._reread_at = now + REREAD_S
        self._is_stale = False
        if not is_first and state == self.state:
            return False
        self.state = state
        self._of_redis = Keyring(stored.key for stored in state.keys)
        self._is_current.set()
        _log.info("credentials_read", version=state.version, keys=len(state.keys), revoked=len(state.revoked))
        return True


def _no_issuers() -> TokenIssuers:
    kind: type[TokenIssuers] = import_for("server", "broadcaster.web.guards.tokens.issuers").TokenIssuers
    return kind()
