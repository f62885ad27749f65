"""Tests trust no certificate authority: an HTTP client takes 25 ms to read this machine's, and tests open thousands.

No test speaks to another machine, but for what is started with ``trusting``; servers here bring their own certificate.
"""

from __future__ import annotations

import os
from typing import Final

_VARIABLES: Final = ("SSL_CERT_FILE", "SSL_CERT_DIR")
# Where the machine's own values are, for the processes that run the tests inherit these variables.
_KEPT: Final = "TESTS_KEPT_{}"
_NOWHERE: Final = "/nonexistent"


def trust_none() -> None:
    """From here on, in this process and in those that it starts."""
    if os.environ.get("SSL_CERT_DIR") == _NOWHERE:
        return
    for name in _VARIABLES:
        if (value := os.environ.pop(name, None)) is not None:
            os.environ[_KEPT.format(name)] = value
    os.environ["SSL_CERT_DIR"] = _NOWHERE


def trusting() -> dict[str, str]:
    """The environment of a process that fetches something from elsewhere."""
    if os.environ.get("SSL_CERT_DIR") != _NOWHERE:  # this process is not one of the tests
        return dict(os.environ)
    kept = {name: os.environ.get(_KEPT.format(name)) for name in _VARIABLES}
    others = {name: value for name, value in os.environ.items() if name not in _VARIABLES}
    return {**others, **{name: value for name, value in kept.items() if value is not None}}
