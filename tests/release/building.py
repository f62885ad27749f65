"""``python -m tests.release.building FOLDER [OWNER/NAME]``: build everything that is published into a folder.

The sdist, the wheels that are built from it (compiled for this machine, and pure Python) and the JavaScript package.
They are built from a copy of the files that git tracks, so the checkout stays as it is: a build there would remove the
compiled module that its processes use.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from tests.support.authorities import trusting

ROOT: Final = Path(__file__).resolve().parents[2]
TOOLS: Final = ROOT / ".venv-release" / "bin"
LIMIT_S: Final = 300.0


class Artifacts(NamedTuple):
    """The files, in the folder where they were built."""

    sdist: Path
    wheel: Path
    pure_wheel: Path
    npm: Path


def find(folder: Path) -> Artifacts:
    """What ``build`` has left there."""
    (sdist,) = folder.glob("llm_broadcaster-*.tar.gz")
    (pure,) = folder.glob("llm_broadcaster-*-py3-none-any.whl")
    (wheel,) = set(folder.glob("llm_broadcaster-*-abi3-*.whl"))
    (npm,) = folder.glob("llm-broadcaster-*.tgz")
    return Artifacts(sdist, wheel, pure, npm)


def build(folder: Path, repository: str) -> Artifacts:
    """Build all of it. Raises CalledProcessError, whose output is on the terminal."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="release-") as temporary:
        source = Path(temporary) / "source"
        copy_tracked(source)
        environment = {"GITHUB_REPOSITORY": repository}
        build_python(source, folder, BUILD_C="required", **environment)
        (sdist,) = folder.glob("*.tar.gz")
        run("tar", "-xzf", str(sdist.resolve()), cwd=Path(temporary))
        unpacked = Path(temporary) / sdist.name.removesuffix(".tar.gz")
        build_python(unpacked, folder, "--wheel", BUILD_C="none", **environment)
        package = source / "clients" / "js"
        describe_package(package / "package.json", repository)
        run("npm", "pack", "--loglevel=error", "--pack-destination", str(folder.resolve()), cwd=package)
    return find(folder)


def build_python(source: Path, folder: Path, *options: str, **environment: str) -> None:
    """``python -m build``, with the pinned backend; without options, an sdist and the wheel of that sdist."""
    command = (str(TOOLS / "python"), "-m", "build", "--no-isolation", "--outdir", str(folder.resolve()), *options, ".")
    run(*command, cwd=source, environment=environment)


def copy_tracked(target: Path) -> None:
    """The checkout's files, without what git ignores."""
    for name in tracked():
        to = target / name
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, to, follow_symlinks=False)


def tracked(*folders: str) -> list[str]:
    """Tracked files and new ones that nothing ignores."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *folders]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [name for name in listed.split("\0") if name and (ROOT / name).exists()]


def describe_package(path: Path, repository: str) -> None:
    """Add the addresses to a ``package.json``: trusted publishing compares the repository with its own."""
    package: dict[str, Any] = json.loads(path.read_text("utf-8"))
    address = f"https://github.com/{repository}"
    package["repository"] = {"type": "git", "url": f"git+{address}.git", "directory": "clients/js"}
    package["homepage"] = f"{address}/blob/v{package['version']}/docs/javascript.md"
    package["bugs"] = f"{address}/issues"
    path.write_text(json.dumps(package, indent=2, ensure_ascii=False) + "\n", "utf-8")


def run(*command: str, cwd: Path = ROOT, environment: Mapping[str, str] | None = None) -> None:
    """Run it, its output to stderr. Raises CalledProcessError."""
    whole = {**trusting(), **(environment or {})}
    whole.pop("PYTHONPATH", None)
    subprocess.run(command, cwd=cwd, env=whole, stdout=sys.stderr, timeout=LIMIT_S, check=True)


def main(arguments: Sequence[str]) -> int:
    """Build, and print each file with its size."""
    folder, repository = Path(arguments[0]), [*arguments[1:], os.environ.get("GITHUB_REPOSITORY", "")][0]
    if not repository:
        print(
            "building: name the public repository: python -m tests.release.building FOLDER OWNER/NAME", file=sys.stderr
        )
        return 2
    for path in build(folder, repository):
        print(f"{path.stat().st_size / 1024:8.0f} KiB  {path}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
