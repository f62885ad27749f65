"""What an attempt needs of a provider.

    async with provider.stream(request) as stream:
        async for events in stream:      # one list per network read, never empty
            ...
        # the answer is whole: its last list ended with a Finish

Rules
1. Leaving the block, by whatever way (end, break, error, cancellation), closes the provider's socket at once: that is
   what stops the generation there. A connection is used again only after a whole answer.
2. The iteration ends normally only after the provider's own terminal event. Every other end raises ProviderFailed with
   a stable ``reason``; its text holds no key and nothing of the request.
3. There are no retries in here: whether and when to try again is decided above.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

from broadcaster.core.events import Event, Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderRequest:
    """One call: what to generate, in the words of the Messages API.

    ``extra`` goes into the request's body as it is (``top_p``, ``thinking``, ``stop_sequences``, …); it cannot replace
    a field that has a place of its own here. ``max_tokens`` None: as many as the model can give. ``api_key`` is the
    key of this call; None: the provider's own. ``headers`` are the caller's for a provider of the Messages wire
    (``passed_headers``); other providers ignore them.
    """

    model: str
    messages: Sequence[Mapping[str, Any]]
    max_tokens: int | None = None
    system: str | Sequence[Mapping[str, Any]] | None = None
    temperature: float | None = None
    tools: Sequence[Mapping[str, Any]] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    api_key: str | None = field(default=None, repr=False)


class ProviderStream(Protocol):
    """One answer as it comes; iterate it once."""

    def __aiter__(self) -> AsyncIterator[list[Event]]:
        """The events in their order, one list per network read. Raises ProviderFailed (rule 2)."""

    @property
    def received_bytes(self) -> int:
        """Bytes of the answer's body so far: what it holds grows with them."""

    def usage_so_far(self) -> Usage:
        """Token counts known now, also after a stop or a failure; ``estimated`` if the output was never reported."""


class Provider(Protocol):
    """A place that generates."""

    def stream(self, request: ProviderRequest) -> AbstractAsyncContextManager[ProviderStream]:
        """Send the request; entering returns when the provider has answered with headers, or raises ProviderFailed."""

    async def start(self) -> None:
        """Make ready now what the first request would otherwise wait for. Raises ProviderFailed when it cannot."""

    async def aclose(self) -> None:
        """Close what is kept open between answers. Idempotent."""
