"""How a provider refused a request: stored in the ``error`` event that ends the generation, read back by the surfaces.

It rides in ``providerMetadata.refusal``, so that a version that does not know it reads the event as before.
"""

from __future__ import annotations

from typing import Final

import msgspec

from broadcaster.core import events as ev
from broadcaster.errors import ProviderFailed

_REFUSAL: Final = "refusal"


class StoredRefusal(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, kw_only=True):
    """``retryable``: the same request may succeed later, after ``retry_after_s`` if the provider named a time."""

    status: int
    type: str | None = None
    code: str | None = None
    param: str | None = None
    message: str | None = None
    retryable: bool = False
    retry_after_s: float | None = None


def refusal_metadata(failure: ProviderFailed) -> ev.ProviderMetadata | None:
    """What the ``error`` event of this failure carries; None: the provider answered with no status."""
    refusal = failure.refusal
    if refusal is None:
        return None
    stored = StoredRefusal(**refusal._asdict(), retryable=failure.retryable, retry_after_s=failure.retry_after_s)
    return {_REFUSAL: msgspec.to_builtins(stored)}


def refusal_of(end: ev.Event) -> StoredRefusal | None:
    """How the provider refused; None: it did not, or the event says it in a way that this version cannot read."""
    metadata = end.provider_metadata if isinstance(end, ev.Error) else None
    stored = (metadata or {}).get(_REFUSAL)
    try:
        refusal = msgspec.convert(stored, StoredRefusal)
    except msgspec.ValidationError:
        return None
    return refusal if 400 <= refusal.status <= 599 else None
