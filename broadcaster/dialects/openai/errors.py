"""The meaning of errors on the OpenAI wires: chat completions, Responses, and the servers that implement them.

Rules
1. The error's ``code`` decides, then its ``type``, then the HTTP status: ``insufficient_quota`` arrives with status 429
   and is not a rate limit.
2. The status precedes codes that only name the side at fault: a missing key arrives as ``invalid_request_error`` with
   status 401.
3. Some servers (vLLM, llama.cpp, OpenRouter) put a status into ``code``; in a stream there is nothing else.
4. An unknown error is the provider's own, and retryable.
5. Gemini's server puts the object that holds the error into a list.

Source: the openai package's ``ResponseError`` and ``SessionTurnError``; platform.openai.com, "Error codes"; vLLM's and
llama.cpp's servers.
"""

from __future__ import annotations

from typing import Final

from broadcaster.dialects.errors import (
    AUTH,
    BAD_REQUEST,
    DENIED,
    ERROR,
    OVERLOADED,
    RATE_LIMITED,
    TIMEOUT,
    ProviderFault,
    by_name,
)
from broadcaster.dialects.reading import Json, json_in
from broadcaster.errors import ProviderFailed

_FAULTS: Final = by_name(
    {
        RATE_LIMITED: ("rate_limit_exceeded", "rate_limit_error", "requests", "tokens"),
        OVERLOADED: (
            *("slow_down", "server_overloaded", "engine_overloaded", "overloaded", "overloaded_error"),
            *("unavailable_error", "service_unavailable", "flex_unavailable"),
        ),
        TIMEOUT: ("timeout", "timeout_error", "request_timeout", "vector_store_timeout"),
        ERROR: ("connection_failed", "conflict_error"),
        AUTH: (
            *("insufficient_quota", "billing_not_active", "billing_hard_limit_reached", "credit_balance_exhausted"),
            *("usage_limit_exceeded", "project_spend_limit_exceeded", "organization_spend_limit_exceeded"),
            *("organization_usage_limit_exceeded", "account_deactivated", "invalid_api_key", "invalid_organization"),
            *("invalid_authentication", "authentication_error"),
        ),
        DENIED: ("permission_error", "permission_denied"),
        BAD_REQUEST: (
            *("context_length_exceeded", "exceed_context_size_error", "model_not_found", "not_found_error"),
            *("resource_not_found", "not_supported_error", "unsupported_parameter", "unsupported_value"),
            *("missing_required_parameter", "invalid_type", "invalid_value", "string_above_max_length"),
            *("invalid_prompt", "data_residency_mismatch", "content_filter", "content_policy_violation"),
            *("image_content_policy_violation", "misalignment_policy_violation", "bio_policy", "cyber_policy"),
            *("invalid_image", "invalid_image_format", "invalid_base64_image", "invalid_image_url"),
            *("image_too_large", "image_too_small", "image_parse_error", "invalid_image_mode"),
            *("image_file_too_large", "unsupported_image_media_type", "empty_image_file", "failed_to_download_image"),
            *("image_file_not_found",),
        ),
    }
)

_GENERIC: Final = by_name(
    {
        BAD_REQUEST: ("invalid_request_error", "invalid_request", "BadRequestError", "NotFoundError"),
        ERROR: ("server_error", "api_error", "internal_error", "internal_server_error", "InternalServerError"),
    }
)
"""Rule 2."""

_BY_STATUS: Final = {
    401: AUTH,
    402: DENIED,
    403: DENIED,
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
    whole = json_in(data)
    return whole.get("error", whole) if isinstance(whole, dict) else listed_error(whole)


def listed_error(whole: object) -> object:
    """The error in a list (rule 5); None: it holds no error."""
    match whole:
        case [{"error": error}, *_]:
            return error
    return None


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
