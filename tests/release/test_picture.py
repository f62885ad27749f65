"""The picture of README: its frames become one animation that is small enough, with the times of the recording."""

from __future__ import annotations

import json
import struct
import subprocess
import zlib
from pathlib import Path

import pytest

from tests.release.building import ROOT, TOOLS
from tests.support.servers.programs import lacking

pytestmark = pytest.mark.thorough

LIMIT_BYTES = 2_000_000


def png(red: int) -> bytes:
    """A picture of one colour."""
    width, height = 320, 200
    rows = (b"\0" + bytes((red, 0, 0)) * width) * height
    chunks = {
        b"IHDR": struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0),
        b"IDAT": zlib.compress(rows),
        b"IEND": b"",
    }
    parts = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks.items()
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def durations(webp: bytes) -> list[int]:
    """Milliseconds of each frame of an animated WebP."""
    found, at = [], 12
    while at < len(webp):
        kind, size = struct.unpack("<4sI", webp[at : at + 8])
        if kind == b"ANMF":
            found.append(int.from_bytes(webp[at + 20 : at + 23], "little"))
        at += 8 + size + size % 2
    return found


def test_frames_become_an_animation_in_which_equal_frames_are_one(tmp_path: Path) -> None:
    if not (TOOLS / "python").exists():
        lacking("no tools for releases here: get them with `make releasetools`")
    taken = {"a.png": (10, 0.0), "b.png": (10, 0.25), "c.png": (200, 0.5), "d.png": (90, 1.5)}
    for name, (red, _) in taken.items():
        (tmp_path / name).write_bytes(png(red))
    listed = [{"file": name, "at_s": at_s, "caption": "a caption"} for name, (_, at_s) in taken.items()]
    (tmp_path / "frames.json").write_text(json.dumps(listed))
    picture = tmp_path / "picture.webp"
    command = [str(TOOLS / "python"), "-m", "tests.release.picture.assemble", str(tmp_path), str(picture)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    content = picture.read_bytes()
    assert (content[:4], content[8:12]) == (b"RIFF", b"WEBP")
    assert durations(content) == [500, 1000, 3000]
    assert len(content) <= LIMIT_BYTES


def test_the_picture_of_the_readme_is_small_enough_for_a_page() -> None:
    picture = ROOT / "docs" / "demo.webp"
    if not picture.exists():
        lacking("no picture was recorded yet: make picture")
    assert picture.stat().st_size <= LIMIT_BYTES
    assert len(durations(picture.read_bytes())) > 20
