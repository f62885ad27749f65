"""``python -m tests.hunt [--seed N] [--seconds S] [--topology one|sentinel|cluster|drawn] [--engine …] [--lossy]``."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import secrets
import shutil
import sys
import tempfile
from pathlib import Path

from tests.hunt.run import Options, hunt


def main() -> None:
    """One hunt; exit code 1 when it found something."""
    options, engine = _options()
    if engine == "redis" and not os.environ.get("REDIS_BIN"):
        os.environ["REDIS_BIN"] = shutil.which("redis-server") or str(Path(sys.executable).parent / "redis-server")
    command = f"make soak SEED={options.seed} SOAK_S={options.seconds:g} TOPOLOGY={options.topology}"
    command += f"{' LOSSY=1' if options.lossy else ''} ENGINE={engine}"
    print(f"hunt: seed {options.seed}, {options.seconds:g} s; again with: {command}", flush=True)
    logging.getLogger("broadcaster").addHandler(logging.NullHandler())
    folder = Path(tempfile.mkdtemp(prefix="bc-hunt-"))
    verdict = asyncio.run(hunt(folder, options))
    print("\n".join([*verdict.lines, *map(str, verdict.violations), f"violations: {len(verdict.violations)}"]))
    if verdict.violations:
        sys.exit(f"seed {options.seed}; the logs and what each viewer received are in {folder}")
    shutil.rmtree(folder, ignore_errors=True)


def _options() -> tuple[Options, str]:
    parser = argparse.ArgumentParser(prog="python -m tests.hunt", description="Traffic and faults drawn from a seed.")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--topology", choices=("one", "sentinel", "cluster", "drawn"), default="drawn")
    parser.add_argument("--engine", choices=("valkey", "redis"), default="valkey")
    parser.add_argument("--lossy", action="store_true", help="Redis forgets what it acknowledged")
    given = parser.parse_args()
    seed = secrets.randbelow(10**6) if given.seed is None else given.seed
    return Options(seed, given.seconds, given.topology, given.lossy), given.engine


if __name__ == "__main__":
    main()
