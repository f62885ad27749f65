"""Several front-end processes on one port: what a delivery costs in all together, how viewers spread over two."""

from __future__ import annotations

import subprocess
import sys
from functools import partial

from bench.figures import spread
from bench.measuring import Traffic, Viewers, fan_out
from bench.plan import Outcome, Site, Step
from bench.processes import socket_counts, tree

CASE = "20 events/s"
MORE = ("ours-2", "ours-3", "ours-4")


def by_processes(site: Site) -> list[Step]:
    """One process, two, three and four in turns; nothing where `serve` has no --processes."""
    ran = subprocess.run(
        [sys.executable, "-m", "broadcaster", "serve", "--help"], capture_output=True, text=True, check=False
    )
    if "--processes" not in ran.stdout:
        site.yard.left_out["ours-2"] = "two processes are left out: this `broadcaster serve` has no --processes"
        return []
    return [
        Step("processes", CASE, name, number, partial(_run, site, name, number), expects_s=site.size.seconds + 4)
        for number in range(site.size.rounds)
        for name in site.yard.known("ours", *MORE)
    ]


def _run(site: Site, name: str, number: int) -> Outcome:
    server, size = site.yard.get(name), site.size
    traffic = Traffic(size.viewers, 1, 20.0, size.seconds)
    values, faults = fan_out(site.bench, server, traffic, run=f"processes-{number}")
    values["at"] = float(name.rpartition("-")[2] if name in MORE else 1)
    if name == "ours-2":
        values["spread"] = _spread(site, name, number)
    return values, faults


def _spread(site: Site, name: str, number: int) -> float:
    """How far from an even share the fuller process is."""
    server, run = site.yard.get(name), f"spread-{number}"
    server.publish_to(run, 1)
    pids = [pid for root in server.pids for pid in tree(root)]
    before = socket_counts(pids)
    viewers = Viewers(site.bench, server, ["--path", server.path(run), "--viewers", str(site.size.viewers)])
    try:
        viewers.until_connected()
        grown = [after - earlier for earlier, after in zip(before, socket_counts(pids), strict=True)]
    finally:
        viewers.stop()
    serving = sorted(grown)[-2:]  # the supervisor takes none
    return spread(serving)
