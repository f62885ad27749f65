"""The environments of child processes: each gets the secrets that it reads, and no others.

| Child | What it gets |
| --- | --- |
| the embedded server, the local model | the system's variables alone (``plain_environment``): no setting and no key |
| a worker | everything but callers' keys and those of viewer tokens (``worker_environment``): its tools read the rest |
| a front-end | everything but the providers' variables and the webhooks' secret (``front_end_environment``) |

Names of settings ignore case. AUTH goes with the keys, whose settings require it, and so does HOST: without keys only
loopback is accepted.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

METRICS_FOLDER_VARIABLE: Final = "BROADCASTER_METRICS_FOLDER"
"""Names the folder to which a child writes its metrics; set by its parent, and not a setting."""

_FRONT_ENDS_ALONE: Final = frozenset(
    f"BROADCASTER_{name}"
    for name in ("API_KEYS", "API_KEYS_FILE", "API_KEY", "AUTH", "HOST", "TOKEN_KEYS", "TOKEN_ISSUERS")
)
_WORKERS_ALONE: Final = frozenset({"BROADCASTER_WEBHOOK_SECRET"})
_PROVIDERS_PREFIXES: Final = ("ANTHROPIC_", "OPENAI_")
# What programs need to start, to find libraries and to speak the right language.
_SYSTEM: Final = frozenset({"PATH", "HOME", "USER", "LANG", "LANGUAGE", "TZ", "TMPDIR", "VIRTUAL_ENV", "SYSTEMROOT"})
_SYSTEM_PREFIXES: Final = ("LC_", "LD_", "DYLD_", "MALLOC_", "PYTHON", "OMP_", "GGML_")


def plain_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that any program may receive."""
    return {name: it for name, it in environment.items() if name in _SYSTEM or name.startswith(_SYSTEM_PREFIXES)}


def worker_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """A worker's variables: providers' keys, the webhooks' secret, and what its tools read; no caller's key."""
    return {name: it for name, it in environment.items() if name.upper() not in _FRONT_ENDS_ALONE}


def with_variables(environment: Mapping[str, str], variables: Mapping[str, str]) -> dict[str, str]:
    """The environment with these variables, and with no other spelling of them."""
    return {name: it for name, it in environment.items() if name.upper() not in variables} | dict(variables)


def front_end_environment(environment: Mapping[str, str], *, provider_keys: Collection[str]) -> dict[str, str]:
    """A front-end's variables; ``provider_keys`` are the variables that the settings name for providers' keys."""
    return {
        name: it
        for name, it in environment.items()
        if name.upper() not in _WORKERS_ALONE and name not in provider_keys and not name.startswith(_PROVIDERS_PREFIXES)
    }
