"""A call that is passed to a provider unchanged (core/requests/passed_calls.py): the part that all providers share.

``sent_as_bytes`` sends the body, and the response is read as bytes.
"""

from __future__ import annotations

from typing import Any, Final

import httpx2

from broadcaster.core.requests.passed_calls import COMPLETIONS
from broadcaster.dialects.errors import ProviderFault
from broadcaster.dialects.passed.decode import BodyDecoder, StreamDecoder
from broadcaster.dialects.reading import ProviderDecoder
from worker.providers.base import ProviderRequest
from worker.providers.errors import ENCODED
from worker.providers.transport import check_stream, is_encoded

_NO_JSON: Final = ProviderFault("provider_bad_data", "the provider's answer is not JSON", True)


def passed_body(request: ProviderRequest) -> dict[str, Any]:
    """The caller's body, in which the model has the provider's name."""
    return {**request.extra, "model": request.model}


def create_decoder(
    request: ProviderRequest, response: httpx2.Response, *, request_id: str | None, max_bytes: int
) -> ProviderDecoder:
    """The decoder of the response. Raises ProviderFailed (provider_bad_data) if its type does not fit the call."""
    if request.call == COMPLETIONS and request.extra.get("stream") is True:
        check_stream(response)
        return StreamDecoder(request_id=request_id)
    if response.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise _NO_JSON.failure()
    if is_encoded(response):
        raise ENCODED.failure()
    return BodyDecoder(request_id=request_id, max_bytes=max_bytes)
