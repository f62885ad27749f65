"""The issuers whose viewer tokens a front-end accepts, with files of keys that are read again when they change.

A file that cannot be used any more changes nothing: the keys that were read last stay valid until it can be.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Final

from broadcaster.core.access.token_setup import IssuerSetup, read_key_set
from broadcaster.core.access.token_signatures import TokenIssuer, TokenVerifier, foreign_issuer, own_issuer
from broadcaster.core.access.viewer_tokens import TokenHolder
from broadcaster.errors import SetupError
from broadcaster.observability.logs import get_logger

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
        self._from_files = [issuer for issuer in issuers if issuer.keys is None]
        self._seen: dict[str, tuple[int, ...]] = {}
        try:
            self._issuers = own_issuer(keys, max_s=max_s) if keys else {}
        except ValueError as error:
            raise SetupError(f"BROADCASTER_TOKEN_KEYS: {error}") from None
        for issuer in issuers:
            self._issuers[issuer.name] = self._read(issuer)
        self._verifier = TokenVerifier(self._issuers)

    def verify(self, text: str, *, now_s: float) -> TokenHolder:
        """The caller with this token. Raises TokenInvalid, TokenExpired."""
        presented = self._verifier.verify(text, now_s=now_s)
        return presented.token.caller(presented.credential)

    def read_changed(self) -> None:
        """Read the files that have changed. Blocks, unless no issuer has a file."""
        changed = {}
        for issuer in self._from_files:
            try:
                if self._version(issuer) == self._seen.get(issuer.name):
                    continue
                changed[issuer.name] = self._read(issuer)
                _log.info("token_issuer_read", issuer=issuer.name, keys=len(changed[issuer.name].keys))
            except SetupError as error:
                if self._seen.get(issuer.name) != ():
                    _log.error("token_issuer_unusable", fault=error.detail)
                self._seen[issuer.name] = ()
        if changed:
            self._issuers = self._issuers | changed
            self._verifier = TokenVerifier(self._issuers)

    def _read(self, issuer: IssuerSetup) -> TokenIssuer:
        """Raises SetupError."""
        try:
            keys = issuer.keys
            if keys is None:
                version = self._version(issuer)
                with open(issuer.jwks_file, encoding="utf-8") as file:
                    keys = read_key_set(file.read(MAX_FILE_BYTES))
                self._seen[issuer.name] = version
            return foreign_issuer(issuer, keys, max_s=self._max_s)
        except OSError as error:
            raise SetupError(f"{_SETTING}: {issuer.jwks_file} cannot be read: {error.strerror}") from None
        except ValueError as error:  # its text repeats no key
            where = f" {issuer.jwks_file}:" if issuer.keys is None else ""
            raise SetupError(f"{_SETTING}:{where} {error}") from None

    def _version(self, issuer: IssuerSetup) -> tuple[int, ...]:
        try:
            found = os.stat(issuer.jwks_file)
        except OSError as error:
            raise SetupError(f"{_SETTING}: {issuer.jwks_file} cannot be read: {error.strerror}") from None
        return (found.st_ino, found.st_mtime_ns, found.st_size)
