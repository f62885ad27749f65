"""What one call of a provider may take: connections, time, bytes of an error. Imports no HTTP client."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

CONNECT_TIMEOUT_S: Final = 5.0
DEFAULT_ERROR_BYTES: Final = 64 * 2**10
DEFAULT_ERROR_TIMEOUT_S: Final = 5.0
DEFAULT_FALLBACK_TOKENS: Final = 8192
DEFAULT_ANSWER_BYTES: Final = 8 * 2**20
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
    ``answer_bytes`` bounds the body of a response that is passed on whole (providers/sdk_provider.py).
    """

    max_connections: int
    read_timeout_s: float
    error_bytes: int = DEFAULT_ERROR_BYTES
    error_timeout_s: float = DEFAULT_ERROR_TIMEOUT_S
    fallback_tokens: int = DEFAULT_FALLBACK_TOKENS
    answer_bytes: int = DEFAULT_ANSWER_BYTES

    @property
    def headers_timeout_s(self) -> float:
        """Longest wait for an answer's headers, interim responses (1xx) included; each part has a limit of its own."""
        return 2 * CONNECT_TIMEOUT_S + self.read_timeout_s
