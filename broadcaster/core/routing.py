"""Routes: which provider serves a model, by the model's name alone.

Rules
1. Patterns are tried in their order; the first match wins.
2. A pattern matches the whole name, case and all: ``*`` stands for any run of characters, ``?`` for one, ``[ab]`` for
   one of a set (fnmatch(3)). After ``re:`` it is a regular expression, also for the whole name: ``re:o\\d.*``.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Mapping
from typing import Final

from broadcaster.errors import SetupError, UnknownModel

BUILT_IN: Final = ("anthropic", "openai", "openai-responses", "local")
"""The providers that every worker has; the operator may add others, under other names."""

_REGULAR: Final = "re:"
# A model's name comes from a caller: what an error repeats of it is short.
_MAX_SHOWN: Final = 80


class Routes:
    """Model pattern → provider name, in the mapping's order."""

    def __init__(self, routes: Mapping[str, str]) -> None:
        """Raises SetupError when a regular expression is none."""
        self._routes = [(_compile(pattern), provider) for pattern, provider in routes.items()]

    @property
    def providers(self) -> frozenset[str]:
        """The providers that some route names."""
        return frozenset(provider for _, provider in self._routes)

    def check(self, providers: Iterable[str]) -> None:
        """Raises SetupError when a route leads to none of these providers."""
        known = list(providers)
        if unknown := sorted(self.providers.difference(known)):
            raise SetupError(f"routes name unknown providers: {', '.join(unknown)}; there are: {', '.join(known)}")

    def provider_for(self, model: str) -> str:
        """The provider that serves this model. Raises UnknownModel when no pattern matches."""
        for pattern, provider in self._routes:
            if pattern.fullmatch(model) is not None:
                return provider
        shown = model if len(model) <= _MAX_SHOWN else f"{model[:_MAX_SHOWN]}…"
        raise UnknownModel(f"no route serves the model {shown!r}")


def _compile(pattern: str) -> re.Pattern[str]:
    if not pattern.startswith(_REGULAR):
        return re.compile(fnmatch.translate(pattern))
    try:
        return re.compile(pattern.removeprefix(_REGULAR))
    except re.error as error:
        raise SetupError(f"the route {pattern!r} is not a regular expression: {error}") from None
