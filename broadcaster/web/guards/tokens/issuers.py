"""The issuers whose viewer tokens a front-end accepts, with files of keys that are read again when they change.

Rules
1. A file of keys is public, and others may read it; nobody else may write to it (key_file.py).
2. A file that cannot be used any more changes nothing: the keys that were read last stay valid until it can be. It is
   logged once for each change of it.
3. A key that is gone from a file ends what its tokens have opened, as a revocation does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from broadcaster.core.access.token_setup import IssuerSetup, KeyText, read_key_set
from broadcaster.core.access.token_signatures import TokenIssuer, TokenVerifier, foreign_issuer, own_issuer
from broadcaster.core.access.viewer_tokens import Signer, TokenHolder
from broadcaster.errors import SetupError
from broadcaster.observability.logs import get_logger
from broadcaster.web.guards.key_file import TrustedFile

MAX_FILE_BYTES: Final = 2**18
_SETTING: Final = "BROADCASTER_TOKEN_ISSUERS"

_log = get_logger(__name__)


class TokenIssuers:
    """Verifies tokens; without keys and issuers it refuses all."""

    def __init__(
        self, keys: Mapping[str, bytes] | None = None, issuers: Sequence[IssuerSetup] = (), *, max_s: float = 0.0
    ) -> None:
        """Raises SetupError for a key that is none, and for a file that cannot be used."""
        self._max_s = max_s
        self._files = [
            (issuer, TrustedFile(issuer.jwks_file, setting=_SETTING, max_bytes=MAX_FILE_BYTES))
            for issuer in issuers
            if issuer.keys is None
        ]
        try:
            self._issuers = own_issuer(keys, max_s=max_s) if keys else {}
        except ValueError as error:
            raise SetupError(f"BROADCASTER_TOKEN_KEYS: {error}") from None
        for issuer in issuers:
            if issuer.keys is not None:
                self._issuers[issuer.name] = self._of_setting(issuer, issuer.keys)
        for issuer, file in self._files:
            found = self._changed(issuer, file)
            assert found is not None  # at the first read every file has changed
            self._issuers[issuer.name] = found
        self._verifier = TokenVerifier(self._issuers)

    def verify(self, text: str, *, now_s: float) -> TokenHolder:
        """The caller with this token. Raises TokenInvalid, TokenExpired."""
        presented = self._verifier.verify(text, now_s=now_s)
        return presented.token.caller(presented.credential, signer=presented.signer)

    def knows(self, signer: Signer) -> bool:
        """Whether its issuer still has the key that verified a token (rule 3)."""
        return self._verifier.knows(signer)

    def read_changed(self) -> bool:
        """Whether files had changed, which are read. Blocks, unless no issuer has a file."""
        changed = {}
        for issuer, file in self._files:
            try:
                found = self._changed(issuer, file)
            except SetupError as error:
                _log.error("token_issuer_unusable", fault=error.detail)
                continue
            if found is not None:
                changed[issuer.name] = found
                _log.info("token_issuer_read", issuer=issuer.name, keys=len(found.keys))
        if changed:
            self._issuers = self._issuers | changed
            self._verifier = TokenVerifier(self._issuers)
        return bool(changed)

    def _of_setting(self, issuer: IssuerSetup, keys: Mapping[str, KeyText]) -> TokenIssuer:
        try:
            return foreign_issuer(issuer, keys, max_s=self._max_s)
        except ValueError as error:  # its text repeats no key
            raise SetupError(f"{_SETTING}: {error}") from None

    def _changed(self, issuer: IssuerSetup, file: TrustedFile) -> TokenIssuer | None:
        """The issuer with the keys of its file; None: it has not changed. Raises SetupError, once for each change."""
        text = file.read_changed()
        if text is None:
            return None
        try:
            return foreign_issuer(issuer, read_key_set(text), max_s=self._max_s)
        except ValueError as error:  # its text repeats no key
            raise file.unusable(error) from None
