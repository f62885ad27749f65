"""Puts the JavaScript client into the wheel, for the console, builds the parts in C, and describes the package.

Without a compiler the package is pure Python and does the same, slower. ``BUILD_C=none`` builds none,
``BUILD_C=required`` fails where one cannot be built.

``GITHUB_REPOSITORY=owner/name``, which GitHub sets, is where the links of README lead on a package index. Without it
they stay as they are. What an sdist says of itself, its wheels say too.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.metadata.plugin.interface import MetadataHookInterface

MODULES = (
    Path("broadcaster/log/tail/_push"),
    Path("broadcaster/dialects/native/_encode"),
    Path("broadcaster/hub/live/_writes"),
)
STABLE_ABI = "0x030B0000"  # of CPython 3.11, the oldest that is served
SERVER = "https://github.com"
# Relative, so neither an address nor a place in README itself.
IMAGE = re.compile(r"""(!\[[^\]]*\]\(|<img\s[^>]*?src=["'])(?![a-z]+:|#|/)""")
LINK = re.compile(r"""(\]\(|<a\s[^>]*?href=["'])(?![a-z]+:|#|/)""")


class Describe(MetadataHookInterface):
    """The hook ``custom`` of hatchling's metadata."""

    def update(self, metadata: dict[str, Any]) -> None:
        """README, and the project's addresses."""
        if "readme" in metadata:  # it is built from an sdist
            return
        text = (Path(self.root) / "README.md").read_text("utf-8")
        metadata["urls"] = {}
        if name := os.environ.get("GITHUB_REPOSITORY"):
            address = f"{os.environ.get('GITHUB_SERVER_URL', SERVER)}/{name}"
            tag = f"v{metadata['version']}"
            text = with_whole_links(text, address, tag=tag)
            metadata["urls"] = {
                "Homepage": address,
                "Documentation": f"{address}/blob/{tag}/docs/index.md",
                "Changelog": f"{address}/blob/{tag}/CHANGELOG.md",
                "Issues": f"{address}/issues",
            }
        metadata["readme"] = {"content-type": "text/markdown", "text": text}


def with_whole_links(text: str, address: str, *, tag: str) -> str:
    """A document whose relative links and pictures lead to the files of a tag."""
    return LINK.sub(rf"\1{address}/blob/{tag}/", IMAGE.sub(rf"\1{address}/raw/{tag}/", text))


class Compile(BuildHookInterface):  # type: ignore[type-arg]
    """The hook ``custom`` of hatchling."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile next to the source; the wheel then is of this platform, for every CPython from 3.11 on."""
        wish = os.environ.get("BUILD_C", "")
        if self.target_name != "wheel":
            return
        if version != "editable":  # a checkout has it at its own place
            build_data["force_include"]["clients/js/src"] = "broadcaster/web/console/client"
        targets = {module: Path(self.root) / module.with_suffix(".abi3.so") for module in MODULES}
        for target in targets.values():
            target.unlink(missing_ok=True)  # a process that runs keeps its own
        if wish == "none":
            return
        for module, target in targets.items():
            failure = self._compile(module, target)
            if failure and wish == "required":
                raise RuntimeError(failure)
            if failure:  # all or none: a process tells by one of them what it has
                self.app.display_warning(f"{module}.c was not compiled, Python does the work: {failure}")
                for other in targets.values():
                    other.unlink(missing_ok=True)
                return
        build_data["artifacts"] += [f"/{module}.abi3.so" for module in MODULES]
        build_data["pure_python"] = False
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["tag"] = f"cp311-abi3-{platform}"

    def _compile(self, module: Path, target: Path) -> str:
        """Why it could not be; "" when it was."""
        if os.name != "posix" or sys.implementation.name != "cpython" or sysconfig.get_config_var("Py_GIL_DISABLED"):
            return "the stable ABI is of CPython with its lock, on POSIX"
        compiler = os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc"
        command = [
            *shlex.split(compiler), "-O2", "-shared", "-fPIC", f"-DPy_LIMITED_API={STABLE_ABI}",
            *(["-undefined", "dynamic_lookup", *_architectures()] if sys.platform == "darwin" else []),
            f"-I{sysconfig.get_path('include')}", "-o", str(target), str(Path(self.root) / module.with_suffix(".c")),
        ]  # fmt: skip
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"{command[0]}: {error}"
        return done.stderr.strip() or f"exit {done.returncode}" if done.returncode else ""


def _architectures() -> list[str]:
    """``-arch …``: a Python that was built for two kinds of Mac calls its wheels so, and what is in them must be it."""
    flags = os.environ.get("ARCHFLAGS") or sysconfig.get_config_var("CFLAGS") or ""
    return [word for name in re.findall(r"-arch\s+(\S+)", flags) for word in ("-arch", name)]
