"""Parameters that several routes take."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from fastapi import Header, Query

from broadcaster.log.jobs.lists.listing import Which
from broadcaster.web.documents.schemas import IDEMPOTENCY_KEY, MAX_IDEMPOTENCY_KEY_CHARS

LISTED_AT_MOST: Final = 100
LISTED: Final = 50
"""How many streams a page has, if the request names no number."""

ListedStatus = Annotated[Which, Query(description="open: queued or running; over: finished, failed or aborted")]
PageSize = Annotated[int, Query(ge=1, le=LISTED_AT_MOST)]
PageBefore = Annotated[str | None, Query(pattern=r"^[0-9]{1,18}$", description="`next_before` of the page before")]

IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=MAX_IDEMPOTENCY_KEY_CHARS,
        pattern=IDEMPOTENCY_KEY,
        description="the same key and body name the same generation, for a day; an abandoned one is begun anew",
    ),
]

OnDisconnect = Annotated[
    Literal["stop", "wait", "continue"],
    Header(
        alias="Broadcaster-On-Disconnect",
        description="stop: when this client disconnects and no other viewer watches, the answer is stopped after "
        "`BROADCASTER_DISCONNECT_GRACE_S`; wait: after `BROADCASTER_ABANDON_GRACE_S`; "
        "continue: the answer runs to its end",
    ),
]
