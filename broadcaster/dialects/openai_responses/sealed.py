"""The data of a thought that only its provider can read, as ``encrypted_content`` and back.

OpenAI's own passes as it is. Claude's signature and its redacted thoughts stand under a prefix, so that a reasoning
item that a client sends back becomes what it was.
"""

from __future__ import annotations

from typing import Final

from broadcaster.core.events import ProviderMetadata
from broadcaster.dialects.anthropic.wire import PROVIDER as ANTHROPIC
from broadcaster.dialects.openai.wire import PROVIDER
from broadcaster.dialects.reading import Json

_SIGNATURE: Final = "anthropic.signature."
_REDACTED: Final = "anthropic.redacted."


def seal(metadata: ProviderMetadata | None) -> str | None:
    """The ``encrypted_content`` of a reasoning item that these extras belong to; None: nothing to seal."""
    own, claude = (metadata or {}).get(PROVIDER, {}), (metadata or {}).get(ANTHROPIC, {})
    if isinstance(sealed := own.get("encryptedContent"), str):
        return sealed
    if isinstance(signature := claude.get("signature"), str) and signature:
        return _SIGNATURE + signature
    if isinstance(redacted := claude.get("redactedData"), str):
        return _REDACTED + redacted
    return None


def unseal(sealed: str, *, text: str) -> Json | None:
    """The thinking block that a reasoning item was, with its ``text``; None when it was not Claude's."""
    if sealed.startswith(_SIGNATURE):
        return {"type": "thinking", "thinking": text, "signature": sealed.removeprefix(_SIGNATURE)}
    if sealed.startswith(_REDACTED):
        return {"type": "redacted_thinking", "data": sealed.removeprefix(_REDACTED)}
    return None
