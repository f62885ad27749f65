"""How a provider refused a request: stored in the ``error`` event that ends the generation, read back by the surfaces.

It is in ``providerMetadata.refusal``, so that a version that does not know it reads the event as before. Beside it,
``providerMetadata.request`` has the id of the failed request (request_ids.py), also where no error response came.
"""

from __future__ import annotations

from typing import Final

import msgspec

from broadcaster.core import events as ev
from broadcaster.core.providers.request_ids import NAME as REQUEST_ID
from broadcaster.errors import ProviderFailed

TOO_LONG: Final = "context_length_exceeded"
"""OpenAI's code of a request that is longer than the model's context. Workers set it for every provider's
refusal that gives this reason in its text alone; the surfaces of other APIs translate it for their clients."""

_REFUSAL: Final = "refusal"
_REQUEST: Final = "request"


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
    """The metadata of this failure's ``error`` event; None: no response of the provider is known."""
    metadata: ev.ProviderMetadata = {}
    if (refusal := failure.refusal) is not None:
        stored = StoredRefusal(**refusal._asdict(), retryable=failure.retryable, retry_after_s=failure.retry_after_s)
        metadata[_REFUSAL] = msgspec.to_builtins(stored)
    if failure.request_id is not None:
        metadata[_REQUEST] = {REQUEST_ID: failure.request_id}
    return metadata or None


def refusal_of(end: ev.Event) -> StoredRefusal | None:
    """How the provider refused; None: it did not, or this version cannot read how."""
    metadata = end.provider_metadata if isinstance(end, ev.Error) else None
    stored = (metadata or {}).get(_REFUSAL)
    try:
        refusal = msgspec.convert(stored, StoredRefusal)
    except msgspec.ValidationError:
        return None
    return refusal if 400 <= refusal.status <= 599 else None
