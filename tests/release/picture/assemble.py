"""``.venv-release/bin/python -m tests.release.picture.assemble FOLDER PICTURE``: the frames as one animated WebP.

Its times are those of the recording. A frame like the one before only lengthens that one. The quality is the best with
which the picture stays within its size.
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from PIL import Image, ImageDraw, ImageFont

LIMIT_BYTES: Final = 2_000_000
QUALITIES: Final = (75, 50, 30)
BAR_PX: Final = 44
FONT_PX: Final = 20
INK, PAPER = (255, 255, 255), (24, 28, 38)
LAST_MS: Final = 3000


class Frame(NamedTuple):
    """A picture, and how long it is shown."""

    image: Image.Image
    lasts_ms: int


def read(folder: Path) -> list[Frame]:
    """The frames that differ, each with its caption beneath."""
    listed = json.loads((folder / "frames.json").read_text("utf-8"))
    images = [with_caption(Image.open(folder / each["file"]).convert("RGB"), each["caption"]) for each in listed]
    times = [round(1000 * each["at_s"]) for each in listed]
    frames: list[Frame] = []
    for image, begins, ends in zip(images, times, [*times[1:], times[-1] + LAST_MS], strict=True):
        if frames and frames[-1].image.tobytes() == image.tobytes():
            frames[-1] = frames[-1]._replace(lasts_ms=frames[-1].lasts_ms + ends - begins)
        else:
            frames.append(Frame(image, ends - begins))
    return frames


def with_caption(image: Image.Image, caption: str) -> Image.Image:
    """The image over a bar with a line of text."""
    whole = Image.new("RGB", (image.width, image.height + BAR_PX), PAPER)
    whole.paste(image)
    place = (image.width // 2, image.height + BAR_PX // 2)
    ImageDraw.Draw(whole).text(place, caption, INK, ImageFont.load_default(FONT_PX), anchor="mm")
    return whole


def encode(frames: Sequence[Frame], quality: int) -> bytes:
    """An animated WebP that is repeated for ever."""
    written = io.BytesIO()
    first, *rest = (frame.image for frame in frames)
    durations = [frame.lasts_ms for frame in frames]
    first.save(
        written, "WEBP", save_all=True, append_images=rest, duration=durations, loop=0, quality=quality, method=2
    )
    return written.getvalue()


def main(arguments: Sequence[str]) -> int:
    """0: written; 1: too large in every quality."""
    folder, picture = map(Path, arguments)
    frames = read(folder)
    for quality in QUALITIES:
        content = encode(frames, quality)
        if len(content) <= LIMIT_BYTES:
            picture.write_bytes(content)
            lasts_s = sum(frame.lasts_ms for frame in frames) / 1000
            print(f"picture: {picture}, {len(content)} bytes, {len(frames)} frames, {lasts_s:.1f} s, quality {quality}")
            return 0
    print(f"picture: {len(content)} bytes in the least quality, {LIMIT_BYTES} are allowed: record a shorter run")
    return 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
