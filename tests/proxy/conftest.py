"""Real processes, as end-to-end tests have them; what measures nothing may share the cores."""

from __future__ import annotations

from tests.e2e.conftest import scripted, stack

__all__ = ["scripted", "stack"]
