"""A package that a library imports for what is not used here, and that takes longer to import than the library."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def absent(package: str) -> Iterator[None]:
    """Within the block the package cannot be imported, as if it were not installed.

    Nothing changes where it is imported already. It affects the whole process: not for libraries.
    """
    if package in sys.modules:
        yield
        return
    sys.modules[package] = None  # type: ignore[assignment]  # an import of it raises (docs.python.org, sys.modules)
    try:
        yield
    finally:
        del sys.modules[package]
