"""How this interpreter was built: ``configure`` leaves optimizations out unless asked.

A program too: ``python bench/interpreter.py`` exits with 0 if the interpreter was built with them and has the headers
that compiled modules need. ``make install`` asks each interpreter that it finds.
"""

from __future__ import annotations

import os
import sys
import sysconfig


def is_optimized() -> bool:
    """Whether the build was asked for optimizations. A system's own counts as such: Debian's does not say so."""
    arguments = sysconfig.get_config_var("CONFIG_ARGS") or ""
    return "--enable-optimizations" in arguments or sys.base_prefix == "/usr"


def has_headers() -> bool:
    """Whether modules in C can be compiled for it."""
    return os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h"))


if __name__ == "__main__":
    sys.exit(not (is_optimized() and has_headers()))
