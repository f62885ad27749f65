"""The metadata that a caller stores with a generation or a feed: any JSON object, up to a bound. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from broadcaster.errors import MetadataTooLarge

MAX_METADATA_BYTES: Final = 16 * 2**10
"""The default of the setting."""


def check_metadata(metadata: Mapping[str, Any] | None, *, max_bytes: int) -> None:
    """Raises MetadataTooLarge when it has more bytes as JSON."""
    size = len(msgspec.json.encode(metadata)) if metadata else 0
    if size > max_bytes:
        raise MetadataTooLarge(f"metadata has {size} bytes as JSON; this server takes {max_bytes} (MAX_METADATA_BYTES)")
