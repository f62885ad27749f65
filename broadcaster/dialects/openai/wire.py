"""The names that both wires of OpenAI share: chat completions and Responses."""

from __future__ import annotations

from typing import Any, Final

from broadcaster.core.events import ProviderMetadata
from broadcaster.dialects.reading import Json

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
