"""What `broadcaster demo` prints while pip installs: files, megabytes, seconds."""

from __future__ import annotations

import sys

import pytest

from broadcaster.cli.demo.pip_install import Installation, install, installer

PIP = """
Collecting xllamacpp
  Downloading xllamacpp-2026.10-cp310-abi3-linux_x86_64.whl (33.8 MB)
Collecting numpy
  Downloading numpy-2.0.whl.metadata (60 kB)
  Using cached numpy-2.0-py3-none-any.whl (500 kB)
Installing collected packages: numpy, xllamacpp
Successfully installed numpy-2.0 xllamacpp-2026.10
"""


def test_the_lines_of_pip_are_counted_in_megabytes() -> None:
    installation = Installation("packages")
    states = []
    for line in PIP.split("\n"):
        installation.read(line)
        states.append(installation.state.partition(" · ")[2])
    assert installation.total.startswith("packages: 2 files, 34.3 MB, ")
    assert list(dict.fromkeys(states)) == [
        "starting",
        "downloading xllamacpp-2026.10-cp310-abi3-linux_x86_64.whl (33.8 MB)",
        "from the cache: numpy-2.0-py3-none-any.whl (500 kB)",
        "unpacking",
    ]


def test_a_step_prints_its_begin_and_what_it_took(capfd: pytest.CaptureFixture[str]) -> None:
    assert install("the model", [sys.executable, "-c", f"print({PIP!r})"]) == 0
    begun, took = capfd.readouterr().out.strip().split("\n")
    assert begun == "the model: installing"
    assert took.startswith("the model: 2 files, 34.3 MB, ")


def test_a_step_that_fails_prints_pips_own_error_and_no_total(capfd: pytest.CaptureFixture[str]) -> None:
    assert install("the model", [sys.executable, "-c", "import sys; sys.exit('no such package')"]) == 1
    seen = capfd.readouterr()
    assert seen.out.strip() == "the model: installing"
    assert "no such package" in seen.err


def test_the_installer_is_of_this_environment() -> None:
    command = installer()
    assert command is not None
    assert sys.executable in command
