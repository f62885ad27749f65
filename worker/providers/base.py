"""What an attempt needs from a provider.

    async with provider.stream(request) as stream:
        async for events in stream:      # one list per network read, never empty
            ...
        # the answer is complete: its last list ended with a Finish

Rules
1. Leaving the block in any way (end, break, error, cancellation) closes the provider's socket at once, which stops the
   generation there. A connection is reused only after a complete answer.
2. The iteration ends normally only after the provider's own terminal event. Every other end raises ProviderFailed with
   a stable ``reason``; its text contains no key and no part of the request.
3. A provider does not retry: its caller does.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol, TypeAlias, runtime_checkable

from broadcaster.core.events import Event, Usage
from broadcaster.core.providers.listed_models import ListedModel
from broadcaster.core.requests.origins import TraceContext

TraceReceivers: TypeAlias = Literal["own", "all", "none"]
CONNECT_TIMEOUT_S: Final = 5.0
LIST_BYTES: Final = 8 * 2**20
"""Most bytes of one page of a provider's list of models; the longest lists have some megabytes."""
LIST_PAGES: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class CallBounds:
    """What one provider's calls may take.

    ``max_connections`` bounds the concurrent answers: a call beyond it waits CONNECT_TIMEOUT_S, then fails.
    ``read_timeout_s`` is the longest silence: until the headers, and then between two messages; each ping resets it.
    At most ``error_bytes`` of an error's body are read, for at most ``error_timeout_s``. ``fallback_tokens`` is the
    ``max_tokens`` on a wire that requires one, if neither the caller nor the provider sets a limit.
    ``answer_bytes`` bounds the body of a response that is passed on whole (providers/sdk_provider.py). ``trace_to``:
    which providers receive ``traceparent`` (transport.py).
    """

    max_connections: int
    read_timeout_s: float
    error_bytes: int = 64 * 2**10
    error_timeout_s: float = 5.0
    fallback_tokens: int = 8192
    answer_bytes: int = 8 * 2**20
    trace_to: TraceReceivers = "none"

    @property
    def headers_timeout_s(self) -> float:
        """Longest wait for an answer's headers, interim responses (1xx) included; each part has a limit of its own."""
        return 2 * CONNECT_TIMEOUT_S + self.read_timeout_s


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderRequest:
    """One call: what to generate, as the Messages API expresses it.

    ``extra`` goes into the request's body as it is (``top_p``, ``thinking``, ``stop_sequences``, …). It cannot replace
    a field of this class. ``max_tokens`` None: as many as the model can give. ``api_key`` is the key of this call;
    None: the provider's own. ``headers`` are the caller's for a provider of the Messages wire (``passed_headers``);
    other providers ignore them. ``call``: the request is passed to the provider unchanged, with ``extra`` as its body
    (core/requests/passed_calls.py); None: the request is for an answer.
    ``trace`` is the parent of the provider's spans, sent where CallBounds allows it.
    """

    model: str
    messages: Sequence[Mapping[str, Any]]
    max_tokens: int | None = None
    system: str | Sequence[Mapping[str, Any]] | None = None
    temperature: float | None = None
    tools: Sequence[Mapping[str, Any]] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    call: str | None = None
    api_key: str | None = field(default=None, repr=False)
    trace: TraceContext | None = None


class ProviderStream(Protocol):
    """One answer as it comes; iterate it once."""

    def __aiter__(self) -> AsyncIterator[list[Event]]:
        """The events in their order, one list per network read. Raises ProviderFailed (rule 2)."""

    @property
    def received_bytes(self) -> int:
        """Bytes of the answer's body so far, a measure of its memory."""

    def usage_so_far(self) -> Usage:
        """Token counts known now, also after a stop or a failure; ``estimated`` if the output was never reported."""


@runtime_checkable
class ListsModels(Protocol):
    """A provider that has a list of its models."""

    async def models(self, *, api_key: str | None) -> Sequence[ListedModel]:
        """The provider's own list, bounded. Raises any error of a call; the caller sets the deadline."""


class Provider(Protocol):
    """An API that generates answers."""

    def stream(self, request: ProviderRequest) -> AbstractAsyncContextManager[ProviderStream]:
        """Send the request. Entering returns when the response's headers have arrived, or raises ProviderFailed."""

    async def start(self) -> None:
        """Prepare now what the first request would otherwise wait for. Raises ProviderFailed if that fails."""

    async def aclose(self) -> None:
        """Close the connections that stay open between answers. Idempotent."""
