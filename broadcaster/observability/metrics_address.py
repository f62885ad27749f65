"""Where a process serves its metrics, by its settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


class MetricsSettings(Protocol):
    """The settings of the server."""

    @property
    def metrics_host(self) -> str: ...
    @property
    def metrics_port(self) -> int | None: ...
    @property
    def metrics_connections(self) -> int: ...
    @property
    def head_timeout_s(self) -> float: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsAddress:
    """Where metrics are served; ``timeout_s`` bounds the head and the response, each."""

    host: str
    port: int
    max_connections: int
    timeout_s: float

    @classmethod
    def of(cls, settings: MetricsSettings) -> MetricsAddress | None:
        """None: metrics are off."""
        if settings.metrics_port is None:
            return None
        return cls(
            host=settings.metrics_host,
            port=settings.metrics_port,
            max_connections=settings.metrics_connections,
            timeout_s=settings.head_timeout_s,
        )
