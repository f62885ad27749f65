"""How a command finds the `up` of its folder, and what it does not believe."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from broadcaster.cli.processes.default_model import DefaultModel
from broadcaster.cli.processes.up import run_up
from broadcaster.cli.running_up import LOCK_NAME, find_url, front_end_url, only_one
from broadcaster.errors import SetupError
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


REDIS_URLS = pytest.mark.parametrize("redis_url", [None, "redis://127.0.0.1:1"])


def refused_up(data_dir: Path, redis_url: str | None) -> str:
    """The error of an `up` over this folder, whose port is taken in any case."""
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(SetupError) as caught:
        settings = Settings(data_dir=str(data_dir), redis_url=redis_url, port=taken.getsockname()[1])
        run_up(settings, DefaultModel("any"))
    return str(caught.value)


@REDIS_URLS
def test_a_lock_that_is_a_link_is_refused_and_its_target_keeps_its_content(
    tmp_path: Path, redis_url: str | None
) -> None:
    target, data_dir = tmp_path / "target", tmp_path / "data"
    target.write_text("precious")
    data_dir.mkdir()
    (data_dir / LOCK_NAME).symlink_to(target)
    assert f"{data_dir / LOCK_NAME} is no file of this user" in refused_up(data_dir, redis_url)
    assert target.read_text() == "precious"


@REDIS_URLS
def test_a_data_folder_that_others_may_write_to_is_refused_before_a_file_is_opened_there(
    tmp_path: Path, redis_url: str | None
) -> None:
    (tmp_path / LOCK_NAME).write_text("precious")
    tmp_path.chmod(0o777)
    assert f"chmod 700 {tmp_path}" in refused_up(tmp_path, redis_url)
    assert (tmp_path / LOCK_NAME).read_text() == "precious"


def test_a_lock_of_another_user_is_refused_and_keeps_its_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / LOCK_NAME).write_text("precious")
    monkeypatch.setattr(os, "geteuid", lambda: 0 if os.getuid() else 1)  # neither of them finds the folder unsafe
    with pytest.raises(SetupError, match="is no file of this user"), only_one(tmp_path):
        pass
    assert (tmp_path / LOCK_NAME).read_text() == "precious"


def test_a_pipe_in_the_place_of_the_lock_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / LOCK_NAME)
    with pytest.raises(SetupError, match="is no file of this user"), only_one(tmp_path):
        pass


def test_no_other_user_can_read_or_lock_the_file(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with only_one(tmp_path / "data"):
            assert stat.S_IMODE((tmp_path / "data" / LOCK_NAME).stat().st_mode) == 0o600
    finally:
        os.umask(before)
