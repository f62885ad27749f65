"""Apps of other frameworks with the library in them; each is served by ``server module:app``."""

from __future__ import annotations

import os

from fastapi import Request

from broadcaster import Broadcaster

broadcaster = Broadcaster.from_url(os.environ["BROADCASTER_REDIS_URL"], drain_s=0.3, drain_window_s=0.1)


def owns(stream_id: str, request: Request) -> bool:
    """The guard of these apps: a caller may watch what begins with its name."""
    return stream_id.startswith(request.headers.get("x-user", "?"))
