"""The names that both wires of OpenAI share: chat completions and Responses."""

from __future__ import annotations

from typing import Any, Final

from broadcaster.core.events import ProviderMetadata, Usage
from broadcaster.dialects.reading import Json, count_in, token_count

PROVIDER: Final = "openai"
PASSED_TYPE: Final = "data-openai"
"""Type of the events that carry a wire event, or the part of it, that our events cannot express."""


def metadata(extras: Json) -> ProviderMetadata | None:
    """Extras as provider metadata; None without extras."""
    return {PROVIDER: extras} if extras else None


def extras_in(event: Any) -> Json:
    """The extras that an event carries for these wires."""
    extras = (event.provider_metadata or {}).get(PROVIDER)
    return extras if isinstance(extras, dict) else {}


def usage_of(counts: Json, names: tuple[str, str], *, output_tokens: int | None, estimated: bool) -> Usage:
    """The counts of a wire that names input and output so.

    The wire's input includes the tokens that were read from a cache or written to one, which we count apart. The wire's
    own counts are in the metadata.
    """
    received, written = names
    read, details = counts.get(f"{received}_tokens_details"), counts.get(f"{written}_tokens_details")
    total = token_count(counts.get(f"{received}_tokens"))
    cached, stored = count_in(read, "cached_tokens"), count_in(read, "cache_write_tokens")
    return Usage(
        input_tokens=None if total is None else max(0, total - (cached or 0) - (stored or 0)),
        output_tokens=output_tokens,
        reasoning_tokens=count_in(details, "reasoning_tokens"),
        cached_input_tokens=cached,
        cache_write_input_tokens=stored,
        estimated=estimated,
        provider_metadata=metadata({"usage": dict(counts)} if counts else {}),
    )
