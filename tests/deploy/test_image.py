"""The Dockerfile's steps without Docker: its COPY and RUN lines in their order, in a folder of their own.

Different from a build: the interpreter is this one, /opt and /build lie in the folder, bytecode is not written, what
apt-get would install must be here, and in `make test` uv installs the pins, which takes pip half a minute of a core.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final, Literal

import pytest

from tests.deploy.files import ROOT, instructions
from tests.support.authorities import trusting

# Everything is fetched and unpacked once: by pip half a minute, and more beside other tests.
LIMIT_S: Final = 300.0
IGNORED: Final = shutil.ignore_patterns("__pycache__", "*.pyc")

UV: Final = Path(sys.prefix) / "bin" / "uv"
# pip's installation of pins into the environment of another interpreter, and its arguments.
PINS: Final = re.compile(r"\S+/build/bin/pip --python (\S+) install((?: --\S+)* -r \S+)")

Installer = Literal["uv", "pip"]


class Build:
    """The first stage, replayed; what it ships is in ``/opt/broadcaster`` of its folder.

    ``installer``: what installs the pins of the environment that is shipped. uv does not read pip's configuration:
    where that alone names a package index, pip installs.
    """

    def __init__(self, folder: Path, installer: Installer) -> None:
        self.opt = folder / "opt"
        self._installer = installer
        self._context = folder / "build"
        self._environment = {"PIP_COMPILE": "0", "UV_NO_BUILD": "1", "UV_NO_CONFIG": "1"}
        self._context.mkdir()
        self.opt.mkdir()

    def run(self) -> None:
        """All instructions up to the second FROM."""
        stages = 0
        for name, rest in instructions((ROOT / "Dockerfile").read_text()):
            stages += name == "FROM"
            if stages == 2:
                return
            if name == "ENV":
                self._environment |= dict(re.findall(r"(\w+)=(\S+)", rest))
            elif name == "COPY":
                *sources, target = rest.split()
                for source in sources:
                    self._copy(ROOT / source, target)
            elif name == "RUN":
                self._shell(rest)
            else:
                assert name in ("FROM", "WORKDIR"), f"not replayed: {name} {rest}"

    def _copy(self, source: Path, target: str) -> None:
        to = self._context / target
        if source.is_dir():
            shutil.copytree(source, to, ignore=IGNORED)
        else:
            if target.endswith("/"):
                to.mkdir(exist_ok=True)
                to /= source.name
            shutil.copy(source, to)

    def _shell(self, line: str) -> None:
        if line.startswith("apt-get "):
            assert line.endswith(" gcc libc6-dev"), "this machine is to have them too"
            return
        # The image's `python` is in a place of its own; pip may use what it has fetched before.
        line = line.replace("/opt/", f"{self.opt}/").replace("python -m venv", f"{sys.executable} -m venv")
        if self._installer == "uv":
            line = PINS.sub(rf"{{ {UV} pip install --python \1/bin/python\2 || \g<0>; }}", line)
        environment = {**trusting(), **self._environment}
        environment.pop("PIP_NO_CACHE_DIR", None)
        environment.pop("PYTHONPATH", None)
        done = subprocess.run(
            ["/bin/sh", "-c", line], cwd=self._context, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"


@pytest.mark.skipif("REDIS_BIN" in os.environ, reason="asks nothing of any Redis: runs on the embedded engine only")
@pytest.mark.timeout(LIMIT_S)
@pytest.mark.parametrize("installer", ["uv", pytest.param("pip", marks=pytest.mark.thorough)])
def test_the_steps_of_the_dockerfile_make_an_environment_whose_commands_start(
    tmp_path: Path, installer: Installer
) -> None:
    build = Build(tmp_path, installer)
    build.run()
    last = dict(instructions((ROOT / "Dockerfile").read_text()))
    (entrypoint,) = json.loads(last["ENTRYPOINT"])
    shipped = build.opt / "broadcaster"
    # Nothing of ours is around: neither this checkout nor this environment.
    environment = {"PATH": str(shipped / "bin"), "HOME": "/nowhere"}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(shipped / "bin" / entrypoint), *arguments]
        return subprocess.run(command, cwd="/", env=environment, capture_output=True, text=True, check=False)

    assert run("--version").stdout.startswith("broadcaster ")
    # Both programs come as far as they can without a Redis, and report what they miss.
    for word in [*json.loads(last["CMD"]), "worker"]:
        refused = run(word)
        assert (refused.returncode, "BROADCASTER_REDIS_URL" in refused.stderr) == (2, True), refused.stderr
    assert not (shipped / "bin" / "pip").exists()
    (package,) = shipped.glob("lib/*/site-packages/broadcaster")
    assert (package / "log/redis/scripts/streams/append.lua").exists()
    for part in ("log/tail/_push", "dialects/native/_encode", "hub/live/_writes"):
        assert (package / f"{part}.abi3.so").exists()
