"""A caller's options for a webhook: which URL is called, and for which ends of the stream."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, NotRequired, TypedDict

from broadcaster.core.status import OVER
from broadcaster.errors import InvalidInput

_NAMES: Final = frozenset({"url", "events"})


class WebhookOptions(TypedDict):
    """``url``: https, on a host that the operator has listed. ``events``: the ends it is called for; without it all."""

    url: str
    events: NotRequired[Sequence[Literal["finished", "failed", "aborted"]]]


def check_webhook(webhook: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of the caller's mapping. Raises InvalidInput, which names what is not valid."""
    if unknown := sorted(set(webhook) - _NAMES):
        raise InvalidInput(f"webhook: {unknown[0]!r} is not known; it has url and, if you choose, events")
    url, events = webhook.get("url"), webhook.get("events")
    if not isinstance(url, str) or not url:
        raise InvalidInput(f"webhook: url is the address that is called, as text; this is {url!r}")
    if events is None:
        return {"url": url}
    known = [str(status) for status in sorted(OVER)]
    if isinstance(events, str) or not events or any(each not in known for each in events):
        raise InvalidInput(f"webhook: events is a list of {', '.join(known)}; this is {events!r}")
    return {"url": url, "events": list(events)}
