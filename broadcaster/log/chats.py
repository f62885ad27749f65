"""Chats: which generation is a chat's latest, so that a page that knows only its chat finds the answer it waits for.

Rules
1. A chat is its tenant's: the key names both, so that equal ids of two tenants never meet. An id is no credential.
2. The newest answer of a chat takes the place of the one before; whoever was told of that one still has its id. Newest
   means created last (``created_ms``), and one script decides: a request that is repeated, or was slow, never makes an
   older answer the latest one.
3. A chat is remembered for as long as its generation may be, counted from when it was asked for.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from broadcaster.log.connect import LogConnection, log_errors
from broadcaster.log.scripts import CHAT


class Chat(msgspec.Struct, frozen=True, kw_only=True):
    """``message_id``: the message of the page that the answer goes on with; None: the answer is a message of its own.

    ``created_ms`` is the generation's; 0 in what earlier versions wrote.
    """

    created_ms: int = 0
    generation_id: str
    message_id: str | None = None


_encoder: Final = msgspec.json.Encoder()
_decoder: Final[msgspec.json.Decoder[Chat]] = msgspec.json.Decoder(Chat)


class Chats:
    """Every method raises LogUnavailable while Redis cannot answer."""

    def __init__(self, connection: LogConnection, *, keep_ms: int) -> None:
        self._redis = connection.redis
        self._keys = connection.keys
        self._keep_ms = keep_ms

    async def remember(self, chat_id: str, chat: Chat, *, tenant: str) -> None:
        """This is the chat's latest answer now, unless a newer one is (rule 2)."""
        key = self._keys.chat(tenant, chat_id)
        with log_errors():
            await CHAT.run(self._redis, [key], chat.created_ms, _encoder.encode(chat), self._keep_ms)

    async def latest(self, chat_id: str, *, tenant: str) -> Chat | None:
        """The chat's latest answer; None: it has none, or it was kept no longer."""
        with log_errors():
            held: Any = await self._redis.get(self._keys.chat(tenant, chat_id))
        return None if held is None else _decoder.decode(held)
