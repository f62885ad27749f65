"""The programs a run needs: ours in C, compiled into the run's folder, and those of peers; missing ones are reported.

Theory of operation. A peer that this machine cannot run is left out with one line that names the remedy. Without a C
compiler there is nothing to measure with, so that ends the run.
"""

from __future__ import annotations

import resource
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).resolve().parent
ROOT: Final = HERE.parent
PEERS: Final = HERE / "peers"
TOOLS: Final = ROOT / ".venv-bench"
"""What `make benchtools` fetches: the packages of the naive server, Debian's nginx with nchan, the modules of node."""

SOURCES: Final = {"load": ("load.c", "sse.c"), "floor": ("floor.c",), "publish": ("publish.c",)}
_FLAGS: Final = ("-O2", "-Wall", "-Wextra", "-std=gnu11")
_NO_COMPILER: Final = (
    "no C compiler found: the load generator is C; install one, e.g. 'sudo apt-get install gcc libc6-dev'"
)
_OTHER_FILES: Final = 500  # that a server has open beside its viewers
_UNLIMITED: Final = 10**6


class CannotRun(Exception):
    """What is missing, and the remedy, in one line."""


@dataclass(frozen=True, slots=True)
class Programs:
    """Paths of the compiled programs."""

    load: Path
    floor: Path
    publish: Path


def find_compiler() -> str:
    """gcc or another C compiler. Raises CannotRun."""
    for name in ("gcc", "cc", "clang"):
        if path := shutil.which(name):
            return path
    raise CannotRun(_NO_COMPILER)


def build(folder: Path) -> Programs:
    """Compile everything into ``folder``. Raises CannotRun with the output of the compiler."""
    compiler = find_compiler()
    for name, sources in SOURCES.items():
        command = [compiler, *_FLAGS, "-o", str(folder / name), *(str(HERE / each) for each in sources)]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        if ran.returncode:
            raise CannotRun(f"{name} does not compile: {ran.stderr.strip()[-500:]}")
    return Programs(*(folder / name for name in SOURCES))


def raise_file_limit() -> int:
    """Open as many files as this user may, children too; how many viewers one process may then have."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return max(1, most - _OTHER_FILES) if most != resource.RLIM_INFINITY else _UNLIMITED


def find_nchan() -> tuple[Path, Path]:
    """nginx and the module that fits it. Raises CannotRun."""
    base = TOOLS / "nchan"
    program, module = base / "usr/sbin/nginx", base / "usr/lib/nginx/modules/ngx_nchan_module.so"
    if not (program.exists() and module.exists()):
        raise CannotRun("nchan is left out: no nginx with libnginx-mod-nchan; `make benchtools` unpacks Debian's")
    return program, module


def find_centrifugo() -> str:
    """The program on PATH. Raises CannotRun."""
    if path := shutil.which("centrifugo"):
        return path
    raise CannotRun("centrifugo is left out: no program of that name is on PATH")


def find_naive_python() -> Path:
    """The Python that has FastAPI, sse-starlette and redis. Raises CannotRun."""
    path = TOOLS / "bin" / "python"
    if not path.exists():
        raise CannotRun("naive is left out: its packages are not there; `make benchtools` installs them")
    return path


def find_node(package: str) -> tuple[str, Path]:
    """node, and the folder whose node_modules has the package. Raises CannotRun."""
    node = shutil.which("node")
    if node is None or not (TOOLS / "node_modules" / package).exists():
        raise CannotRun(f"{package} is left out: no node, or its modules are not there; see `make benchtools`")
    return node, TOOLS
