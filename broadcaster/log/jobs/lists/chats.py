"""Chats: which generation is a chat's latest, so that a page that knows only its chat finds its answer.

Rules
1. A chat is its tenant's: the key names both, so that equal ids of two tenants never meet. An id is no credential.
2. The newest answer of a chat replaces the one before; a client that knows the older one's id can still read it. Newest
   means created last (``created_ms``), and one script decides: a request that is repeated, or was slow, never makes an
   older answer the latest one.
3. A chat is remembered for as long as its generation may be: while that is open, and for its own retention afterwards.
"""

from __future__ import annotations

import msgspec

from broadcaster.core.status import META_OUTLIVES_LOG_MS
from broadcaster.log.redis.connect import LogConnection, reply_to
from broadcaster.log.redis.scripts import SCRIPTS


class Chat(msgspec.Struct, frozen=True, kw_only=True):
    """A chat's latest answer.

    ``message_id``: the page's message to which the answer is appended; None: the answer is a message of its own.
    ``run_id``: the caller's own name of the answer (AG-UI). ``created_ms`` is the generation's; 0 in what earlier
    versions wrote.
    """

    created_ms: int = 0
    generation_id: str
    message_id: str | None = None
    run_id: str | None = None


class Chats:
    """Every method raises LogUnavailable while Redis cannot answer.

    ``open_ms``: the longest that a generation is open, from its creation to its end.
    """

    def __init__(self, connection: LogConnection, *, open_ms: int) -> None:
        self._redis = connection.redis
        self._keys = connection.keys
        self._open_ms = open_ms

    async def remember(self, chat_id: str, chat: Chat, *, tenant: str, retention_ms: int) -> None:
        """This is the chat's latest answer now, unless a newer one is (rule 2). Its generation has this retention."""
        key = self._keys.chat(tenant, chat_id)
        keep_ms = self._open_ms + retention_ms + META_OUTLIVES_LOG_MS
        await SCRIPTS["chat"].run(self._redis, [key], chat.created_ms, msgspec.json.encode(chat), keep_ms)

    async def latest(self, chat_id: str, *, tenant: str) -> Chat | None:
        """The chat's latest answer; None: it has none, or it has expired."""
        value = await reply_to(self._redis.get(self._keys.chat(tenant, chat_id)))
        return None if value is None else msgspec.json.decode(value, type=Chat)
