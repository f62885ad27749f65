"""What an SDK raises in the middle of a stream → ProviderFailed, with the reason that a worker gives for the same.

No SDK is imported: the package of the exception's class decides, also for the causes of an exception. An exception that
no SDK and no HTTP library raised is the program's own.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from broadcaster.dialects.anthropic.wire import fault_of as anthropic_fault
from broadcaster.dialects.errors import DISCONNECTED, SILENT
from broadcaster.dialects.openai.errors import fault_of, known_code
from broadcaster.dialects.reading import member
from broadcaster.errors import ProviderFailed

_SDKS: Final = frozenset({"openai", "anthropic", "litellm"})
_TRANSPORTS: Final = frozenset({"httpx", "httpx2", "httpcore", "httpcore2", "aiohttp"})


def provider_failure(error: BaseException) -> ProviderFailed | None:
    """The failure of the provider that this exception reports; None: the exception is the program's own.

    Its text holds a known code and nothing else of the exception: a provider's message may quote the request.
    """
    if isinstance(error, ProviderFailed):
        return error
    for each in _chain(error):
        package = type(each).__module__.partition(".")[0]
        if package in _SDKS or package in _TRANSPORTS:
            failure = _reported(each) if package in _SDKS else None
            failure = failure or _broken(error)
            failure.__cause__ = error
            return failure
    return None


def _reported(error: BaseException) -> ProviderFailed | None:
    """The error that the provider sent; None: it sent none."""
    body, status = getattr(error, "body", None), getattr(error, "status_code", None)
    kind = member(member(body, "error"), "type")
    if isinstance(kind, str) and (fault := anthropic_fault(kind)) is not None:
        return fault.failure(detail=kind)
    if isinstance(body, dict) or (isinstance(status, int) and status >= 400):
        reported = body if isinstance(body, dict) else None
        return fault_of(reported, status=status if isinstance(status, int) else None).failure(
            detail=known_code(reported) or ""
        )
    return None


def _broken(error: BaseException) -> ProviderFailed:
    is_timeout = any("Timeout" in type(each).__name__ for each in _chain(error))
    return (SILENT if is_timeout else DISCONNECTED).failure()


def _chain(error: BaseException) -> Iterator[BaseException]:
    found: BaseException | None = error
    for _ in range(8):
        if found is None:
            return
        yield found
        found = found.__cause__ or found.__context__
