"""Fresh environments, as a user makes them: a new virtual environment, and one ``pip install``."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from tests.release.building import TOOLS
from tests.support.authorities import trusting

INSTALL_LIMIT_S: Final = 400.0
RUN_LIMIT_S: Final = 200.0


class Fresh:
    """A virtual environment that has one package of ours and what it asks for, in its newest versions."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.python = folder / "bin" / "python"

    def install(self, *requirements: str) -> None:
        """Install them from the index that this machine uses."""
        options = ("--python", str(self.python), "--quiet", "--reinstall-package", "llm-broadcaster")
        self._tool("pip", "install", *options, *requirements)

    def create(self) -> None:
        """Make it, without pip."""
        self._tool("venv", "--quiet", "--python", sys.executable, str(self.folder))

    def environment(self, **variables: str) -> dict[str, str]:
        """For a process of it: nothing leads to this checkout, and no setting of ours is there."""
        kept = {name: value for name, value in os.environ.items() if name in ("LANG", "TMPDIR", "SSL_CERT_DIR")}
        return {**kept, "PATH": f"{self.folder / 'bin'}:/usr/bin:/bin", "HOME": str(self.folder), **variables}

    def run(self, *command: str, cwd: Path | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
        """A command of the environment, to its end."""
        program = str(self.folder / "bin" / command[0])
        return subprocess.run(
            [program, *command[1:]],
            cwd=cwd or self.folder,
            env=self.environment(**variables),
            capture_output=True,
            text=True,
            timeout=RUN_LIMIT_S,
            check=False,
        )

    def output_of(self, program: str, *arguments: str) -> str:
        """What a Python program prints; it must end with 0."""
        done = self.run("python", "-c", program, *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def lacks(self, *modules: str) -> bool:
        """Whether none of these modules is installed."""
        program = "import sys\nfrom importlib.util import find_spec\nprint([n for n in sys.argv[1:] if find_spec(n)])"
        return self.output_of(program, *modules).strip() == "[]"

    def _tool(self, *arguments: str) -> None:
        uv = shutil.which("uv", path=str(TOOLS))
        assert uv is not None, "no uv in .venv-release: make releasetools"
        environment = trusting()
        environment.pop("PYTHONPATH", None)
        done = subprocess.run(
            [uv, "--no-config", *arguments],
            env=environment,
            capture_output=True,
            text=True,
            timeout=INSTALL_LIMIT_S,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
