"""Bodies and responses of the routes of viewer tokens."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from broadcaster.web.documents.schemas import ResponseModel

_Name = Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[^\x00-\x1f\x7f]+$")]


class TokenBody(BaseModel):
    """What a new token allows."""

    model_config = ConfigDict(extra="forbid", strict=True)

    actions: list[Literal["watch", "stop", "append"]] = Field(["watch"], min_length=1, max_length=3)
    ttl_s: float | None = Field(None, ge=1, allow_inf_nan=False, description="seconds; unset: TOKEN_TTL_S")
    sub: _Name | None = Field(None, description="for whom it is: a revocation may name it; it appears in logs")
    prefix: bool = Field(False, description="the id in the path is a prefix: all streams whose id begins with it")


class TokenView(ResponseModel):
    """A new token. It is shown once, and not stored."""

    token: str
    jti: str = Field(description="its id, by which it is revoked; not a secret")
    expires_at: float = Field(description="seconds since 1970")
    events_url: str | None = Field(
        description="the stream's events with `?token=`; null for a prefix, and without `watch`"
    )


class RevocationBody(BaseModel):
    """Which tokens to refuse: one of the two."""

    model_config = ConfigDict(extra="forbid", strict=True)

    jti: _Name | None = Field(None, description="one token")
    sub: _Name | None = Field(None, description="all tokens of this subject that were issued until now")

    @model_validator(mode="after")
    def _names_one(self) -> RevocationBody:
        if (self.jti is None) == (self.sub is None):
            raise ValueError("exactly one of jti and sub is needed")
        return self
