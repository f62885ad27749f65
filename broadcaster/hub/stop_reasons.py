"""Why a viewer's response ended: a closed list, each with "reconnect: yes or no"."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple


class StopReason(Enum):
    """``code`` stands in ``hub.bye``, metrics and logs; ``reconnect``: the same cursor may be served once more."""

    TERMINAL = "terminal", False  # the stream's terminal event was delivered: nothing will follow
    CLIENT_GONE = "client_gone", True  # the viewer closed its connection
    SLOW = "slow", True  # its socket took nothing for too long; it resumes from its cursor when it reconnects
    DRAIN = "drain", True  # this front-end ends; another one serves the same cursor
    LIMIT = "limit", True  # as many viewers or rooms as the settings allow
    LOG_UNAVAILABLE = "log_unavailable", True  # the log did not respond in time: the viewer was not admitted
    EXPIRED = "expired", False  # of the rest that it was not sent, the log has only the end
    GAP = "gap", True  # its dialect cannot express a gap; the next request receives what is left if it can begin there
    NEW_ATTEMPT = "new_attempt", True  # its dialect cannot take back what a lost attempt sent; the new one runs on
    LOG_GONE = "log_gone", True  # the log no longer holds what was delivered; the next read of it will show why
    LIFETIME = "lifetime", True  # the connection was as old as one may get; it resumes, perhaps at another front-end
    REVOKED = "revoked", False  # the key or token with which it was admitted is no longer valid
    TOKEN_EXPIRED = "token_expired", False  # the token with which it was admitted has expired; a new one is needed
    FEED_LOST = "feed_lost", True  # this front-end's tail ended without a reason; the log itself may be well

    def __init__(self, code: str, reconnect: bool) -> None:
        self.code = code
        self.reconnect = reconnect


class Refused(NamedTuple):
    """The response to a viewer that is not admitted: one block says why and when to reconnect (always HTTP 200)."""

    reason: StopReason
    block: bytes
