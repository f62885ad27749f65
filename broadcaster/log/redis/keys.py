"""Every key and channel name, in one place (docs/protocol.md §1).

Everything of one stream shares the hash tag ``{ID}``, the job side shares ``{jobs}``: each script stays in one slot,
so the same scripts run on a single server and on a cluster.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from typing import Final

from broadcaster.errors import UnknownStream

_PROBE_NAME_BYTES: Final = 8
STREAM_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}", re.ASCII)
"""Stream ids hold no brace (it would move the hash tag), no slash and no space."""


def check_stream_id(stream_id: str) -> str:
    """The id itself; raises UnknownStream when it is not a possible id."""
    if STREAM_ID.fullmatch(stream_id) is None:
        raise UnknownStream("no stream has such an id")
    return stream_id


class KeyNames:
    """Names under one prefix (setting ``KEY_PREFIX``)."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self.ready = f"{prefix}:{{jobs}}:ready"
        self.ready_hi = f"{prefix}:{{jobs}}:ready:hi"
        # Sorted sets of `<tenant> <entry id>`: jobs of `ready` that wait, and jobs that were delivered.
        self.waiting = f"{prefix}:{{jobs}}:waiting"
        self.running = f"{prefix}:{{jobs}}:running"
        # Sorted set: tenant that has a waiting job → its turn, the lowest first. String: up to which entry `ready` was
        # searched for jobs that earlier versions had enqueued.
        self.turns = f"{prefix}:{{jobs}}:turns"
        self.seen = f"{prefix}:{{jobs}}:seen"
        self.delayed = f"{prefix}:{{jobs}}:delayed"
        self.dead = f"{prefix}:{{jobs}}:dead"
        self.open = f"{prefix}:{{jobs}}:open"
        # Sorted sets: generation id → when its webhook is due (or its lease ends); when to check whether it is over.
        self.webhooks_due = f"{prefix}:{{jobs}}:webhooks"
        self.webhooks_promised = f"{prefix}:{{jobs}}:webhooks:promised"
        # Strings with expiry: Redis's clock when members of these sets were taken last.
        self.webhooks_due_clock = f"{prefix}:{{jobs}}:webhooks:clock"
        self.webhooks_promised_clock = f"{prefix}:{{jobs}}:webhooks:promised:clock"
        self._webhooks_of = f"{prefix}:{{jobs}}:webhooks:of:"
        self.workers = f"{prefix}:{{jobs}}:workers"
        # Hashes: digest of a caller's key → its record; revoked token or subject → since and until when; the version of
        # both.
        self.access_keys = f"{prefix}:{{access}}:keys"
        self.access_revoked = f"{prefix}:{{access}}:revoked"
        self.access_state = f"{prefix}:{{access}}:state"

    def delayed_tenant(self, generation_id: str) -> str:
        """String with expiry: the tenant of a generation in ``delayed``. promote.lua makes the name itself."""
        return f"{self.delayed}:{generation_id}"

    def webhooks_of(self, tenant: str) -> str:
        """Sorted set with expiry: ids whose webhooks a tenant has promised → when each was last seen pending."""
        return f"{self._webhooks_of}{tenant}"

    def usage(self, tenant: str, day: str) -> str:
        """Hash with expiry: a tenant's tokens of a day, by credential and model (daily_usage.py)."""
        return f"{self._prefix}:usage:{{{tenant}}}:{day}"

    def log(self, stream_id: str) -> str:
        """Stream of the entries ``<epoch>-<seq>``."""
        return f"{self._prefix}:{{{stream_id}}}:log"

    def meta(self, stream_id: str) -> str:
        """Hash: tenant, request, policies, status, epoch, attempts, stop, timestamps."""
        return f"{self._prefix}:{{{stream_id}}}:meta"

    def worker_report(self, worker: str) -> str:
        """String with expiry, beside ``workers``: what the worker runs, for operators (worker_reports.py)."""
        return f"{self._prefix}:{{jobs}}:worker:{worker}"

    def lease(self, stream_id: str) -> str:
        """String with expiry: ``<worker>:<epoch>`` that may write the stream; ``feed`` while a feed's writers live."""
        return f"{self._prefix}:{{{stream_id}}}:lease"

    def viewers(self, stream_id: str) -> str:
        """Sorted set: ``<front-end>:<count>`` → expiry of its presence."""
        return f"{self._prefix}:{{{stream_id}}}:viewers"

    def feed_keys(self, stream_id: str) -> str:
        """Sorted set: hash of a feed append's ``Idempotency-Key`` → its last seq, so that the oldest can be removed."""
        return f"{self._prefix}:{{{stream_id}}}:idem"

    def feed_taken(self, stream_id: str) -> str:
        """Hash, beside ``feed_keys``: hash of the key → hash of its body, epoch (when), first and last seq."""
        return f"{self._prefix}:{{{stream_id}}}:taken"

    def producers(self, stream_id: str) -> str:
        """Hash of a Durable Stream: its idempotent producers → epoch and last seq of each."""
        return f"{self._prefix}:{{{stream_id}}}:producers"

    def live(self, stream_id: str) -> str:
        """Sharded channel of the pushes."""
        return f"{self._prefix}:{{{stream_id}}}:live"

    def control(self, stream_id: str) -> str:
        """Sharded channel of stop and hand-back messages."""
        return f"{self._prefix}:{{{stream_id}}}:control"

    def probe(self, name: str) -> str:
        """Sharded channel on which a subscriber connection receives its own probes."""
        return f"{self._prefix}:{{probe-{name}}}:probe"

    def draw_probe(self, is_served: Callable[[str], bool], *, draws: int, purpose: str = "") -> str | None:
        """A ``probe`` channel that no other process uses and the caller's node serves; None when none was found."""
        names = (self.probe(purpose + secrets.token_hex(_PROBE_NAME_BYTES)) for _ in range(draws))
        return next(filter(is_served, names), None)

    def idem(self, tenant: str, key: str) -> str:
        """String: generation id and body hash of an ``Idempotency-Key``."""
        return f"{self._prefix}:idem:{{{tenant}:{key}}}"

    def chat(self, tenant: str, chat_id: str) -> str:
        """String: a chat's latest generation. A tenant's name holds no colon: no two chats share a key."""
        return f"{self._prefix}:chat:{{{tenant}:{chat_id}}}"

    def stored(self, tenant: str) -> str:
        """Hash: the tenant's streams → their bytes, and the sums (tenant_storage.py)."""
        return f"{self._prefix}:stored:{{{tenant}}}"

    def stored_due(self, tenant: str) -> str:
        """Sorted set, beside ``stored``: stream → when it is next measured."""
        return f"{self._prefix}:stored:{{{tenant}}}:due"

    def models(self, provider: str) -> str:
        """String with expiry: the provider's list of its models."""
        return f"{self._prefix}:models:{{{provider}}}"

    def models_turn(self, provider: str) -> str:
        """String with expiry, beside ``models``: until then no other worker requests the list from the provider."""
        return f"{self._prefix}:models:{{{provider}}}:turn"

    def recent(self, tenant: str) -> str:
        """Sorted set: the tenant's newest generations → when they were created, in microseconds."""
        return f"{self._prefix}:recent:{{{tenant}}}"

    def recent_feeds(self, tenant: str) -> str:
        """Sorted set, beside ``recent``: the tenant's newest feeds, by the ids under which they are stored."""
        return f"{self._prefix}:recent:{{{tenant}}}:feeds"
