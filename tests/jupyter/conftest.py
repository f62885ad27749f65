"""The library's Broadcaster."""

from __future__ import annotations

from tests.library.conftest import broadcaster

__all__ = ["broadcaster"]
