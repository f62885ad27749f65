"""The keys of a provider: which key the next call takes, and which keys rest for a while.

Rules
1. A call takes a key that is ready; of several the one with the fewest running calls, then the one that has rested
   longest.
2. A key that met the provider's rate limit cools down: for as long as the provider requested, else ``cooldown_s``,
   never longer than LONGEST_S. A key that was refused (401, an exhausted quota) rests for LONGEST_S. After a refusal
   that may concern one request alone (402, 403) it does not rest: one caller's request must not delay all others.
3. If no key is ready, the call takes the one that will be ready first. A provider with a single key is therefore always
   called with it.
4. Logs name a key by its variable. Its value goes into the call and nowhere else.

A provider without keys of ours (the SDK's own credentials, or a server that needs no key) has one nameless key, so that
the same rules apply to it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from broadcaster.errors import ProviderFailed
from broadcaster.observability.logs import get_logger

_log = get_logger(__name__)

LONGEST_S: Final = 900.0
OWN: Final = "its own credentials"


@dataclass(slots=True, eq=False)
class Key:
    """One key. ``value`` None: the provider's own credentials."""

    variable: str
    value: str | None = field(repr=False)
    running: int = 0
    ready_at: float = 0.0
    taken: int = 0


class ProviderKeys:
    """See the module's rules. Belongs to one event loop, whose clock decides when a key is ready."""

    def __init__(self, values: Mapping[str, str] | None = None, *, cooldown_s: float) -> None:
        """``values`` are the keys by the names of their variables."""
        named = [Key(variable, value) for variable, value in (values or {}).items()]
        self._keys: Sequence[Key] = named or [Key(OWN, None)]
        self._cooldown_s = cooldown_s
        self._taken = 0

    def __len__(self) -> int:
        return len(self._keys)

    def has_ready(self, *, but: Collection[Key] = ()) -> bool:
        """Whether a key other than these is ready."""
        now = asyncio.get_running_loop().time()
        return any(key.ready_at <= now for key in self._keys if key not in but)

    @contextmanager
    def taken(self, *, but: Collection[Key] = ()) -> Iterator[Key]:
        """The key of the next call, counted while the call runs; one of ``but`` only if no other is ready.

        See rules 1 and 3.
        """
        now = asyncio.get_running_loop().time()
        key = min(self._keys, key=lambda each: (max(each.ready_at, now), each in but, each.running, each.taken))
        self._taken += 1
        key.taken = self._taken
        key.running += 1
        try:
            yield key
        finally:
            key.running -= 1

    def failed(self, key: Key, failure: ProviderFailed, *, provider: str) -> None:
        """A call with this key failed; see rule 2. Other failures do not concern the key."""
        if failure.reason == "provider_rate_limited":
            rest_s = self._cooldown_s if failure.retry_after_s is None else failure.retry_after_s
            self._rest(key, min(rest_s, LONGEST_S))
            _log.info(
                "provider_key_cools_down", provider=provider, key=key.variable, retry_after_s=failure.retry_after_s
            )
        elif failure.reason == "provider_auth":
            rest_s = 0.0 if failure.is_of_request else LONGEST_S
            self._rest(key, rest_s)
            _log.warning("provider_key_refused", provider=provider, key=key.variable, aside_s=rest_s)

    def _rest(self, key: Key, rest_s: float) -> None:
        key.ready_at = max(key.ready_at, asyncio.get_running_loop().time() + rest_s)
