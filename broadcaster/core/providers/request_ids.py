"""The id that a provider gives to one request: stored with the answer, and returned beside our own.

A user quotes it to the provider's support. A decoder stores it in ``start`` (or ``start-step``), a failure stores it in
``error``; in both it is ``requestId`` in the ``providerMetadata``. A version without this rule reads the events as
before.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from broadcaster.core import events as ev
from broadcaster.core.entry import Entry

NAME: Final = "requestId"
MAX_CHARS: Final = 200
_SHOWABLE: Final = re.compile(rf"[\x21-\x7e]{{1,{MAX_CHARS}}}")
_PREFIXES: Final = (b'{"type":"start', b'{"type":"error"')


def showable_id(value: object) -> str | None:
    """The id as far as it may stand in a header: printable ASCII without spaces, up to MAX_CHARS; else None."""
    return value if isinstance(value, str) and _SHOWABLE.fullmatch(value) else None


def id_in(metadata: Mapping[str, Any] | None) -> str | None:
    """The id that this ``providerMetadata`` holds; of several, the last."""
    found: str | None = None
    for extras in (metadata or {}).values():
        if isinstance(extras, Mapping):
            found = showable_id(extras.get(NAME)) or found
    return found


def request_id_of(entries: Iterable[Entry]) -> str | None:
    """The id of the newest request whose answer these entries hold. A new attempt drops those of earlier ones."""
    found: str | None = None
    for entry in entries:
        raw = entry.event
        if raw.startswith(ev.ATTEMPT_PREFIX):
            found = None
        elif raw.startswith(_PREFIXES):
            event = ev.read_event(raw)
            if isinstance(event, ev.Start | ev.StartStep | ev.Error):
                found = id_in(event.provider_metadata) or found
    return found
