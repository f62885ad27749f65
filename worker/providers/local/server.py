"""``python -m worker.providers.local.server``: the local model behind llama.cpp's HTTP server, as a child process.

It reads the key of its calls from KEY_VARIABLE, prints one line, ``listening on http://127.0.0.1:PORT``, and dies with
its parent. In the worker's own process, its C++ threads would share the worker's memory and crashes and delay its end.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
from pathlib import Path
from typing import Final

import xllamacpp

from broadcaster.process.lifeline import follow_parent
from worker.providers.local.process import KEY_VARIABLE, SLOT_TOKENS, SLOTS, WEIGHTS_PACKAGE

# More threads wait for each other at barriers and, on a shared machine, are 5 to 10 times slower.
_THREADS: Final = 1
# A prompt may take longer than the caller's read timeout; comments keep the connection alive.
_PING_S: Final = 5
# Without it a small model soon repeats itself.
_REPEAT_PENALTY: Final = 1.1


def weights() -> Path:
    """The model's file. The package is located, not imported: its import needs libraries that are not installed."""
    spec = importlib.util.find_spec(WEIGHTS_PACKAGE)
    folders = spec.submodule_search_locations if spec is not None else None
    for folder in folders or ():
        for path in Path(folder).glob("*.gguf"):
            return path
    raise SystemExit(f"the package {WEIGHTS_PACKAGE} holds no .gguf file")


def parameters(model: Path) -> xllamacpp.CommonParams:
    """llama.cpp's parameters for a small quiet server on the loopback."""
    params = xllamacpp.CommonParams()
    params.model.path = str(model)
    params.model_alias = {"local"}
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.n_parallel = SLOTS
    params.n_ctx = SLOTS * SLOT_TOKENS
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = _THREADS
    params.sampling.penalty_repeat = _REPEAT_PENALTY
    params.sse_ping_interval = _PING_S
    # Its store of old prompts may grow to 8 GiB by default.
    params.cache_ram_mib = 0
    # No web page and no other user of this machine may use the server or read its prompts.
    params.ui = False
    params.api_keys = [os.environ[KEY_VARIABLE]]
    params.cors_origins = ""
    params.endpoint_slots = False
    params.verbosity = 0
    return params


def main() -> None:
    """Serve until a signal comes."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    follow_parent()
    server = xllamacpp.Server(parameters(weights()))
    sys.stdout.write(f"listening on {server.listening_address}\n")
    sys.stdout.flush()
    while True:
        signal.pause()


if __name__ == "__main__":
    main()
