"""How a command finds the `up` of its folder, and what it does not believe."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from broadcaster.cli.running_up import LOCK_NAME, find_url, front_end_url, only_one
from broadcaster.settings import Settings

URL = "http://127.0.0.1:8123"
HOLDER = (
    "import sys; from pathlib import Path; from broadcaster.cli.running_up import only_one\n"
    "with only_one(Path(sys.argv[1])) as up: up.announce(sys.argv[2]); print('locked', flush=True); sys.stdin.read()"
)


def test_the_url_is_found_while_the_up_of_the_folder_runs_and_not_after_it_was_killed(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path), URL],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "locked\n"
        assert find_url(tmp_path) == URL
        with only_one(tmp_path) as second:
            assert (second.is_first, second.url) == (False, URL)
    finally:
        holder.kill()
        holder.communicate()
    assert (tmp_path / LOCK_NAME).read_text() == URL  # nothing has removed it
    assert find_url(tmp_path) is None
    with only_one(tmp_path) as next_one:
        assert next_one.is_first


def test_a_file_that_no_process_has_locked_leads_nowhere(tmp_path: Path) -> None:
    (tmp_path / LOCK_NAME).write_text("http://attacker.example")
    assert find_url(tmp_path) is None
    assert find_url(tmp_path / "none") is None


def test_an_up_that_still_starts_has_no_url(tmp_path: Path) -> None:
    with only_one(tmp_path) as up:
        assert up.is_first
        assert find_url(tmp_path) is None
        up.announce(URL)
        assert find_url(tmp_path) == URL
    assert find_url(tmp_path) is None


def test_a_file_of_another_user_leads_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with only_one(tmp_path) as up:
        up.announce(URL)
        monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
        assert find_url(tmp_path) is None


@pytest.mark.parametrize(("is_named", "expected"), [(True, "http://127.0.0.1:8000"), (False, URL)])
def test_a_front_end_that_the_user_names_comes_first(tmp_path: Path, is_named: bool, expected: str) -> None:
    settings = Settings(data_dir=str(tmp_path))
    with only_one(tmp_path) as up:
        up.announce(URL)
        assert front_end_url(settings, is_named=is_named) == expected
    assert front_end_url(settings, is_named=False) == settings.url
