"""How many requests there were, by surface and status: one addition for each response head."""

from __future__ import annotations

from collections import Counter
from typing import Final

# The first prefix that matches: what is left below /v1 is for SDKs of OpenAI. Other paths that a caller invents are
# `other`.
_SURFACES: Final = (
    ("/v1/generations", "generations"),
    ("/v1/streams", "streams"),
    ("/v1/chat", "openai-chat"),
    ("/v1/responses", "openai-responses"),
    ("/v1/messages", "anthropic"),
    ("/v1/models", "models"),
    ("/v1/tokens", "tokens"),
    ("/v1/usage", "usage"),
    ("/v1/admin", "admin"),
    ("/v1/caller", "admin"),
    ("/v1/demo", "demo"),
    ("/v1/", "openai"),
    ("/api/chat", "ai-sdk"),
    ("/agui", "ag-ui"),
    ("/ds/", "durable-streams"),
    ("/healthz", "health"),
    ("/readyz", "health"),
)
OTHER: Final = "other"
_LEAST_STATUS: Final = 100
_MOST_STATUS: Final = 599


class RequestCounts:
    """Requests whose response has begun; ``heads`` is by surface and status."""

    def __init__(self) -> None:
        self.heads: Counter[tuple[str, ...]] = Counter()

    def add(self, path: str, status: int) -> None:
        """A response begins with this status."""
        code = str(status) if _LEAST_STATUS <= status <= _MOST_STATUS else OTHER
        self.heads[surface_of(path), code] += 1


def surface_of(path: str) -> str:
    """The surface that a path belongs to, from a closed list."""
    for prefix, surface in _SURFACES:
        if path.startswith(prefix):
            return surface
    return OTHER
