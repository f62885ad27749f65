"""What a provider's errors mean to us: the same stable reasons for every wire."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from broadcaster.errors import ProviderFailed, ProviderRefusal


class ProviderFault(NamedTuple):
    """One meaning: a stable reason, a sentence that is safe to show, whether another attempt may end otherwise.

    ``is_of_request``: the same key may serve other requests.
    """

    reason: str
    text: str
    retryable: bool
    is_of_request: bool = False

    def failure(
        self, *, detail: str = "", retry_after_s: float | None = None, refusal: ProviderRefusal | None = None
    ) -> ProviderFailed:
        """The error to raise; ``detail`` and ``refusal`` must be safe to show."""
        text = f"{self.text} ({detail})" if detail else self.text
        return ProviderFailed(
            text,
            reason=self.reason,
            retryable=self.retryable,
            retry_after_s=retry_after_s,
            refusal=refusal,
            is_of_request=self.is_of_request,
        )


OVERLOADED: Final = ProviderFault("provider_overloaded", "the provider is overloaded", True)
RATE_LIMITED: Final = ProviderFault("provider_rate_limited", "the provider's rate limit is reached", True)
TIMEOUT: Final = ProviderFault("provider_timeout", "the provider gave up by its own deadline", True)
ERROR: Final = ProviderFault("provider_error", "the provider reported an error of its own", True)
AUTH: Final = ProviderFault("provider_auth", "the provider refused the credentials or the account", False)
DENIED: Final = ProviderFault(
    "provider_auth", "the provider refused the credentials, the account or this request", False, is_of_request=True
)
"""402 and 403: a moderated input, a model that the key may not use, credit that does not suffice for this request."""
BAD_REQUEST: Final = ProviderFault("provider_bad_request", "the provider refused the request", False)
BAD_DATA: Final = ProviderFault("provider_bad_data", "the provider sent what is not its protocol", True)
TRUNCATED: Final = ProviderFault("provider_truncated", "the provider's answer ended without its terminal event", True)
SILENT: Final = ProviderFault("provider_timeout", "the provider sent nothing for too long", True)
DISCONNECTED: Final = ProviderFault("provider_disconnected", "the connection to the provider broke", True)


def by_name(names: Mapping[ProviderFault, tuple[str, ...]]) -> dict[str, ProviderFault]:
    """The meaning of each of a wire's names, from the names that have each meaning."""
    return {name: fault for fault, same in names.items() for name in same}
