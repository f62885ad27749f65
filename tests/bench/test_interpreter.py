"""Which interpreters count as built with optimizations: `make install` chooses by it, and the report names it."""

from __future__ import annotations

import subprocess
import sys
import sysconfig

import pytest

from bench import interpreter
from bench.programs import ROOT


@pytest.mark.parametrize(
    ("arguments", "prefix", "is_optimized"),
    [
        ("'--enable-optimizations' '--with-lto'", "/opt/python", True),
        ("'--with-system-ffi'", "/usr", True),
        ("'--enable-shared'", "/root/.pyenv/versions/3.11.7", False),
        (None, "/opt/python", False),
    ],
)
def test_a_build_is_optimized_if_configure_had_the_option_or_if_the_system_made_it(
    monkeypatch: pytest.MonkeyPatch, arguments: str | None, prefix: str, is_optimized: bool
) -> None:
    monkeypatch.setattr(sysconfig, "get_config_var", {"CONFIG_ARGS": arguments}.get)
    monkeypatch.setattr(sys, "base_prefix", prefix)
    assert interpreter.is_optimized() is is_optimized


def test_the_program_fails_unless_the_interpreter_is_optimized_and_has_headers() -> None:
    ended = subprocess.run([sys.executable, "bench/interpreter.py"], cwd=ROOT, check=False, timeout=30)
    assert (ended.returncode == 0) is (interpreter.is_optimized() and interpreter.has_headers())
