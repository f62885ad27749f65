"""Settings of logs and traces."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class ObservingSettings(BaseSettings):
    """A part of ``Settings``."""

    model_config = SettingsConfigDict(defer_build=True)  # ``Settings`` validates it

    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="least level that is logged")
    log_format: Literal["json", "console"] | None = Field(
        None,
        description="json: one object a line (docs/operations.md); console: text for people; unset: console on a "
        "terminal, json elsewhere",
    )
    log_refusals_per_s: int = Field(
        5,
        ge=1,
        le=1000,
        description="most lines a second about the same refusal of one tenant, by one front-end; further ones are "
        "counted, and reported in one line",
    )

    traces: Literal["off", "otlp"] = Field(
        "off",
        description="otlp: spans go to the receiver that OTEL_EXPORTER_OTLP_ENDPOINT names; needs the extra `otel` "
        "(docs/operations.md)",
    )
    trace_providers: Literal["own", "all", "none"] = Field(
        "own",
        description="providers that receive `traceparent` while TRACES is on; own: those with a loopback or private "
        "address, or a name without a public domain",
    )
