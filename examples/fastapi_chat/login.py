"""The signed-in user: a name in a signed cookie. The login asks for no password; everything else is as it would be.

This is the app's own: the mounted router asks the app's ``can_watch``, which depends on it.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import time
from typing import Annotated, Final

from fastapi import Cookie, HTTPException, Response

COOKIE: Final = "chat_user"
VALID_S: Final = 30 * 86_400
# Every process must read what another has signed, so none makes up a secret of its own.
_SECRET: Final = os.environ["CHAT_SECRET"].encode()


def sign_in(response: Response, user: str) -> None:
    """Give the browser its cookie: out of reach of scripts, and not sent along by other sites' forms."""
    claim = f"{user}.{int(time.time()) + VALID_S}"
    response.set_cookie(COOKIE, f"{claim}.{_signature(claim)}", max_age=VALID_S, httponly=True, samesite="lax")


def signed_in(chat_user: Annotated[str, Cookie()] = "") -> str:
    """The user of this request; 401 without a cookie of ours that is still valid."""
    claim, _, signature = chat_user.rpartition(".")
    user, _, valid_until = claim.rpartition(".")
    if not hmac.compare_digest(signature.encode(), _signature(claim).encode()) or int(valid_until) < time.time():
        raise HTTPException(401, "log in first")
    return user


def _signature(claim: str) -> str:
    return hmac.new(_SECRET, claim.encode(), hashlib.sha256).hexdigest()
