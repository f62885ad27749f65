"""What ``import broadcaster`` gives, and when."""

from __future__ import annotations

import subprocess
import sys

import pytest

import broadcaster
from broadcaster.core.cursor import Cursor
from broadcaster.library.broadcaster import Broadcaster


def test_its_names_come_when_they_are_asked_for():
    assert (broadcaster.Broadcaster, broadcaster.Cursor) == (Broadcaster, Cursor)
    assert {"Broadcaster", "Cursor", "__version__"} <= set(dir(broadcaster))
    with pytest.raises(AttributeError, match="Brodcaster"):
        getattr(broadcaster, "Brodcaster")  # noqa: B009 - mypy would refuse the attribute


def test_the_package_alone_brings_no_web_framework():
    program = (
        "import sys, broadcaster; broadcaster.Cursor; print([m for m in ('fastapi', 'redis') if m in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
