"""Settings of viewer tokens: the keys that sign and verify them, and how long they live (docs/tokens.md)."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from broadcaster.settings.values import TokenIssuers, TokenKeys


class TokenSettings(BaseSettings):
    """A part of ``Settings``."""

    model_config = SettingsConfigDict(defer_build=True)  # ``Settings`` validates it

    token_keys: TokenKeys = Field(
        None,
        description='secrets that sign viewer tokens, with AUTH=keys: `{"key id": "secret of 32 bytes or more"}`; the '
        "first signs, all verify (JSON)",
    )
    token_issuers: TokenIssuers = Field(
        None,
        description='backends that mint viewer tokens: `{"issuer": {"tenant": "…", "keys": {"key id": "PEM or JWK"}}}`'
        ", or `jwks_file`; docs/tokens.md (JSON)",
    )
    token_ttl_s: float = Field(900, ge=1, description="how long a viewer token lives whose creator names no time")
    token_max_s: float = Field(
        86_400, ge=1, le=31 * 86_400, description="longest life of a viewer token; one that lives longer is refused"
    )
    token_notice_s: float = Field(
        30,
        ge=0,
        le=3600,
        description="how long before its token expires a viewer receives `hub.expiring`, at most half of the token's "
        "life; 0: never",
    )
