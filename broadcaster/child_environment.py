"""The environments of child processes: each gets the secrets that it reads, and no others.

| Child | What it gets |
| --- | --- |
| the embedded server, the local model | the system's variables alone (``plain_environment``): no setting and no key |
| a worker | everything but the keys of callers (``worker_environment``): tools may read variables of their own |
| a front-end | everything but the providers' keys and the webhooks' secret (``front_end_environment``) |
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

PREFIX: Final = "BROADCASTER_"

# What programs need to start, to find libraries and to speak the right language.
_SYSTEM: Final = frozenset({"PATH", "HOME", "USER", "LANG", "LANGUAGE", "TZ", "TMPDIR", "VIRTUAL_ENV", "SYSTEMROOT"})
_SYSTEM_PREFIXES: Final = ("LC_", "LD_", "DYLD_", "MALLOC_", "PYTHON", "OMP_", "GGML_")


def plain_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that any program may know."""
    return {name: it for name, it in environment.items() if name in _SYSTEM or name.startswith(_SYSTEM_PREFIXES)}
