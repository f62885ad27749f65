"""The meaning of errors on the OpenAI wires: chat completions, Responses, and the servers that implement them.

Rules
1. The error's ``code`` decides, then its ``type``, then the HTTP status: ``insufficient_quota`` arrives with status 429
   and is not a rate limit.
2. The status precedes codes that only name the side at fault: a missing key arrives as ``invalid_request_error`` with
   status 401.
3. Some servers (vLLM, llama.cpp, OpenRouter) put a status into ``code``; in a stream there is nothing else.
4. An unknown error is the provider's own, and retryable.

Source: the openai package's ``ResponseError`` and ``SessionTurnError``; platform.openai.com, "Error codes"; vLLM's and
llama.cpp's servers.
"""

from __future__ import annotations

from typing import Final

import msgspec

from broadcaster.dialects.errors import AUTH, BAD_REQUEST, ERROR, OVERLOADED, RATE_LIMITED, TIMEOUT, ProviderFault
from broadcaster.dialects.reading import Json
from broadcaster.errors import ProviderFailed

_any_decoder: Final = msgspec.json.Decoder()

_FAULTS: Final = {
    "rate_limit_exceeded": RATE_LIMITED,
    "rate_limit_error": RATE_LIMITED,
    "requests": RATE_LIMITED,
    "tokens": RATE_LIMITED,
    "slow_down": OVERLOADED,
    "server_overloaded": OVERLOADED,
    "engine_overloaded": OVERLOADED,
    "overloaded": OVERLOADED,
    "overloaded_error": OVERLOADED,
    "unavailable_error": OVERLOADED,
    "service_unavailable": OVERLOADED,
    "flex_unavailable": OVERLOADED,
    "timeout": TIMEOUT,
    "timeout_error": TIMEOUT,
    "request_timeout": TIMEOUT,
    "vector_store_timeout": TIMEOUT,
    "connection_failed": ERROR,
    "conflict_error": ERROR,
    "insufficient_quota": AUTH,
    "billing_not_active": AUTH,
    "billing_hard_limit_reached": AUTH,
    "credit_balance_exhausted": AUTH,
    "usage_limit_exceeded": AUTH,
    "project_spend_limit_exceeded": AUTH,
    "organization_spend_limit_exceeded": AUTH,
    "organization_usage_limit_exceeded": AUTH,
    "account_deactivated": AUTH,
    "invalid_api_key": AUTH,
    "invalid_organization": AUTH,
    "invalid_authentication": AUTH,
    "authentication_error": AUTH,
    "permission_error": AUTH,
    "permission_denied": AUTH,
    "context_length_exceeded": BAD_REQUEST,
    "exceed_context_size_error": BAD_REQUEST,
    "model_not_found": BAD_REQUEST,
    "not_found_error": BAD_REQUEST,
    "resource_not_found": BAD_REQUEST,
    "not_supported_error": BAD_REQUEST,
    "unsupported_parameter": BAD_REQUEST,
    "unsupported_value": BAD_REQUEST,
    "missing_required_parameter": BAD_REQUEST,
    "invalid_type": BAD_REQUEST,
    "invalid_value": BAD_REQUEST,
    "string_above_max_length": BAD_REQUEST,
    "invalid_prompt": BAD_REQUEST,
    "data_residency_mismatch": BAD_REQUEST,
    "content_filter": BAD_REQUEST,
    "content_policy_violation": BAD_REQUEST,
    "image_content_policy_violation": BAD_REQUEST,
    "misalignment_policy_violation": BAD_REQUEST,
    "bio_policy": BAD_REQUEST,
    "cyber_policy": BAD_REQUEST,
    "invalid_image": BAD_REQUEST,
    "invalid_image_format": BAD_REQUEST,
    "invalid_base64_image": BAD_REQUEST,
    "invalid_image_url": BAD_REQUEST,
    "image_too_large": BAD_REQUEST,
    "image_too_small": BAD_REQUEST,
    "image_parse_error": BAD_REQUEST,
    "invalid_image_mode": BAD_REQUEST,
    "image_file_too_large": BAD_REQUEST,
    "unsupported_image_media_type": BAD_REQUEST,
    "empty_image_file": BAD_REQUEST,
    "failed_to_download_image": BAD_REQUEST,
    "image_file_not_found": BAD_REQUEST,
}

_GENERIC: Final = {
    "invalid_request_error": BAD_REQUEST,
    "invalid_request": BAD_REQUEST,
    "BadRequestError": BAD_REQUEST,
    "NotFoundError": BAD_REQUEST,
    "server_error": ERROR,
    "api_error": ERROR,
    "internal_error": ERROR,
    "internal_server_error": ERROR,
    "InternalServerError": ERROR,
}
"""Rule 2."""

_BY_STATUS: Final = {
    401: AUTH,
    402: AUTH,
    403: AUTH,
    408: TIMEOUT,
    409: ERROR,
    429: RATE_LIMITED,
    503: OVERLOADED,
    504: TIMEOUT,
    529: OVERLOADED,
}


def fault_of(error: Json | None, *, status: int | None = None) -> ProviderFault:
    """The meaning of an error object (the value of the body's ``error``) and of the HTTP status it came with."""
    name = known_code(error)
    if name in _FAULTS:
        return _FAULTS[name]
    stated = status if _is_error_status(status) else _stated_status(error)
    if stated is not None:
        return _BY_STATUS.get(stated, BAD_REQUEST if stated < 500 else ERROR)
    return _GENERIC.get(name or "", ERROR)


def known_code(error: object) -> str | None:
    """The ``code`` or ``type`` of the error, if we know it: safe to show. None: neither is known."""
    names = [error.get("code"), error.get("type")] if isinstance(error, dict) else []
    for known in (_FAULTS, _GENERIC):
        for name in names:
            if isinstance(name, str) and name in known:
                return name
    return None


def error_in(data: str) -> object:
    """The error in the data of an ``error`` event: what is under ``error``, or the event itself."""
    try:
        whole = _any_decoder.decode(data)
    except (msgspec.DecodeError, RecursionError):
        return None
    return whole.get("error", whole) if isinstance(whole, dict) else None


def reported_failure(error: object) -> ProviderFailed:
    """The failure for an error inside a stream.

    Its text holds the known code or type and nothing else of the wire: a provider's own message may quote the request.
    """
    known = error if isinstance(error, dict) else None
    status = _stated_status(known)
    return fault_of(known).failure(detail=known_code(known) or (f"code {status}" if status is not None else ""))


def _stated_status(error: Json | None) -> int | None:
    """Rule 3."""
    code = (error or {}).get("code")
    if isinstance(code, str) and len(code) == 3 and code.isascii() and code.isdigit():
        code = int(code)
    return code if isinstance(code, int) and _is_error_status(code) else None


def _is_error_status(status: int | None) -> bool:
    return status is not None and 400 <= status <= 599
