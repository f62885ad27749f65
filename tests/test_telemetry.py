"""What is logged are names, ids, counts and durations; never payloads."""

from __future__ import annotations

import io
import sys

import pytest
import structlog

from broadcaster.observability.telemetry import set_up_logging


class Terminal(io.StringIO):
    """Standard error as a person sees it."""

    def __init__(self, *, is_terminal: bool) -> None:
        super().__init__()
        self._is_terminal = is_terminal

    def isatty(self) -> bool:
        return self._is_terminal


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_logged_traceback_shows_no_local_variable(monkeypatch: pytest.MonkeyPatch, is_terminal: bool) -> None:
    written = Terminal(is_terminal=is_terminal)
    monkeypatch.setattr(sys, "stderr", written)
    set_up_logging("info")
    prompt = "my " + "prompt"
    try:
        raise ValueError(f"of {len(prompt)} characters")
    except ValueError:
        structlog.get_logger("test").exception("it_failed")
    assert "ValueError: of 9 characters" in written.getvalue()
    assert "my prompt" not in written.getvalue()
