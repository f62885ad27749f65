"""New viewer tokens: of front-ends, and of programs that have the settings (the library)."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from broadcaster.core.access.callers import StreamGrant
from broadcaster.core.access.viewer_tokens import read_token_actions
from broadcaster.errors import InvalidInput, TokensOff
from broadcaster.observability.limits import limit_reached

if TYPE_CHECKING:
    from broadcaster.core.access.token_signatures import MintedToken, TokenSigner

_ID_BYTES = 16


@dataclass(frozen=True, slots=True)
class TokenMint:
    """Makes tokens of the tenant that a caller speaks for. ``signer`` None: the settings have no TOKEN_KEYS."""

    signer: TokenSigner | None
    ttl_s: float
    max_s: float

    def mint(
        self,
        stream_id: str,
        *,
        tenant: str,
        actions: Iterable[str] = ("watch",),
        ttl_s: float | None = None,
        subject: str = "",
        minted_by: str = "",
        is_prefix: bool = False,
    ) -> MintedToken:
        """A token for one stream, or for all whose id begins with ``stream_id``; they need not exist yet.

        ``minted_by``: the credential of the key that requests it; the token counts as long as that key does.

        Raises TokensOff without a key to sign with, InvalidInput for values that no token can have.
        """
        if self.signer is None:
            raise TokensOff("set BROADCASTER_TOKEN_KEYS (with BROADCASTER_AUTH=keys) to mint viewer tokens")
        lives_s = self.ttl_s if ttl_s is None else ttl_s
        if not 1 <= lives_s <= self.max_s:
            if lives_s > self.max_s:
                limit_reached("TOKEN_MAX_S")
            raise InvalidInput(f"ttl_s is 1 to {self.max_s:g} here (BROADCASTER_TOKEN_MAX_S)")
        try:
            grant = StreamGrant(stream_id, read_token_actions(actions), is_prefix)
            return self.signer.mint(
                [grant],
                tenant=tenant,
                token_id=secrets.token_hex(_ID_BYTES),  # a command takes it: it must not begin with a dash
                subject=subject,
                minted_by=minted_by,
                now_s=time.time(),
                ttl_s=lives_s,
            )
        except ValueError as error:
            raise InvalidInput(str(error)) from None
