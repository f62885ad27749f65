"""What docker compose would run, as processes of this machine: the same commands and variables, on the loopback.

Different from a container: the interpreter is this one, a front-end's port is a free one, and `valkey` is the loopback.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from tests.deploy.files import ROOT, compose_environment, instructions
from tests.support.servers.processes import Running

# Several start at once, beside the tests of other rooms.
START_TIMEOUT_S: Final = 60.0


@dataclass
class Containers:
    """Services of docker-compose.yml, started one by one."""

    folder: Path
    services: Mapping[str, Any]
    environment: Mapping[str, str]
    valkey_port: int
    # For a test that checks more than a deployment has to: what compose does not set.
    besides: Mapping[str, str] = field(default_factory=dict)
    running: dict[str, Running] = field(default_factory=dict)

    def variables(self, name: str) -> dict[str, str]:
        """What the service's processes get, and nothing that this test's own environment holds."""
        given = compose_environment(self.services[name], self.environment)
        url = given["BROADCASTER_REDIS_URL"]
        assert urlsplit(url).hostname == "valkey"
        given["BROADCASTER_REDIS_URL"] = url.replace("@valkey:6379", f"@127.0.0.1:{self.valkey_port}")
        if "BROADCASTER_PORT" in given:
            given["BROADCASTER_PORT"] = "0"
        return given | {**self.besides, "PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HOME": str(self.folder)}

    async def start(self, name: str) -> Running:
        """Start it as the image would: ENTRYPOINT, then the service's command."""
        (entrypoint,) = json.loads(dict(instructions((ROOT / "Dockerfile").read_text()))["ENTRYPOINT"])
        log = self.folder / f"{name}.log"
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", entrypoint, *self.services[name]["command"]),
                env=self.variables(name),
                cwd=self.folder,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        running = self.running[name] = Running(process, log)
        if name.startswith("front-end"):
            line = await running.logged("listening on http", START_TIMEOUT_S)
            # It prints where it listens: every address, of which the loopback is one.
            running.url = f"http://127.0.0.1:{urlsplit(line.partition('listening on ')[2].split()[0]).port}"
        else:
            await running.logged("worker_ready", START_TIMEOUT_S)
        return running

    async def end(self) -> None:
        """End all that runs."""
        await asyncio.gather(*(each.end() for each in self.running.values()))
