"""Why a viewer's response ended: a closed list, each with "reconnect: yes or no"."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple


class StopReason(Enum):
    """``code`` is what ``hub.bye``, metrics and logs say; ``reconnect``: the same cursor may be served again."""

    TERMINAL = "terminal", False  # the stream's terminal event was delivered: nothing will follow
    CLIENT_GONE = "client_gone", True  # the viewer closed its connection
    SLOW = "slow", True  # its socket took nothing for too long; it goes on from its cursor when it comes back
    DRAIN = "drain", True  # this front-end goes away; another one serves the same cursor
    LIMIT = "limit", True  # as many viewers or rooms as the settings allow
    LOG_UNAVAILABLE = "log_unavailable", True  # the log did not answer in time: the viewer was not let in
    GAP = "gap", True  # its dialect cannot say that entries are missing; who asks again is told what is left
    NEW_ATTEMPT = "new_attempt", True  # its dialect cannot take back what a lost attempt sent; the new one runs on
    LOG_GONE = "log_gone", True  # the log no longer holds what it told this front-end; a new look at it will say why
    FEED_LOST = "feed_lost", True  # this front-end's supply ended without a word; the log itself may be well

    def __init__(self, code: str, reconnect: bool) -> None:
        self.code = code
        self.reconnect = reconnect


class Refused(NamedTuple):
    """The response to a viewer that is not let in: one block says why and when to come back (always HTTP 200)."""

    reason: StopReason
    block: bytes
