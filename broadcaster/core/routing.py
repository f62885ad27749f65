"""Routes: where a model's answer is asked for, by the model's name alone.

Rules
1. Patterns are tried in their order; the first match wins.
2. A pattern matches the whole name, case and all: ``*`` stands for any run of characters, ``?`` for one, ``[ab]`` for
   one of a set (fnmatch(3)). After ``re:`` it is a regular expression, also for the whole name: ``re:o\\d.*``.
3. A route leads to one target or to several, which are asked in their order (core/retrying.py says when the next).
4. A target is ``provider`` (asked for the model by the name it was asked for here) or ``provider/model`` (by this
   name). It is split at its first ``/``: a model's name may hold more of them, a provider's none.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from broadcaster.errors import SetupError, UnknownModel

BUILT_IN: Final = ("anthropic", "openai", "openai-responses", "local")
"""The providers that every worker has; the operator may add others, under other names."""

_REGULAR: Final = "re:"
_WILD: Final = frozenset("*?[")
# A model's name comes from a caller: what an error repeats of it is short.
_MAX_SHOWN: Final = 80


class Target(NamedTuple):
    """A provider, and the name under which it knows the model; None: the name that was asked for."""

    provider: str
    model: str | None = None

    @classmethod
    def parse(cls, text: str) -> Target:
        """Rule 4. Raises SetupError when a part is empty."""
        provider, slash, model = text.partition("/")
        if not provider or (slash and not model):
            raise SetupError(f"the target {text!r} is neither `provider` nor `provider/model`")
        return cls(provider, model or None)

    def model_for(self, asked: str) -> str:
        """The model's name at this provider."""
        return self.model or asked


class Routes:
    """Model pattern → targets, in the mapping's order."""

    def __init__(self, routes: Mapping[str, str | Sequence[str]]) -> None:
        """Raises SetupError when a regular expression is none, or a route leads nowhere or twice to one target."""
        self._patterns = tuple(routes)
        self._routes = [(_compile(pattern), _targets(pattern, told)) for pattern, told in routes.items()]

    @property
    def names(self) -> tuple[str, ...]:
        """The patterns that are plain names: the models that can be listed, in the mapping's order."""
        return tuple(each for each in self._patterns if not each.startswith(_REGULAR) and _WILD.isdisjoint(each))

    @property
    def providers(self) -> frozenset[str]:
        """The providers that some route names."""
        return frozenset(target.provider for _, targets in self._routes for target in targets)

    def check(self, providers: Iterable[str]) -> None:
        """Raises SetupError when a route leads to none of these providers."""
        known = list(providers)
        if unknown := sorted(self.providers.difference(known)):
            raise SetupError(f"routes name unknown providers: {', '.join(unknown)}; there are: {', '.join(known)}")

    def targets_for(self, model: str) -> tuple[Target, ...]:
        """Where this model's answer is asked for, at least one. Raises UnknownModel when no pattern matches."""
        for pattern, targets in self._routes:
            if pattern.fullmatch(model) is not None:
                return targets
        shown = model if len(model) <= _MAX_SHOWN else f"{model[:_MAX_SHOWN]}…"
        raise UnknownModel(f"no route serves the model {shown!r}")

    def provider_for(self, model: str) -> str:
        """The provider that is asked first. Raises UnknownModel when no pattern matches."""
        return self.targets_for(model)[0].provider


def _targets(pattern: str, told: str | Sequence[str]) -> tuple[Target, ...]:
    targets = tuple(map(Target.parse, [told] if isinstance(told, str) else told))
    if not targets or len(set(targets)) < len(targets):
        raise SetupError(f"the route {pattern!r} must lead to at least one target, and to none twice")
    return targets


def _compile(pattern: str) -> re.Pattern[str]:
    if not pattern.startswith(_REGULAR):
        return re.compile(fnmatch.translate(pattern))
    try:
        return re.compile(pattern.removeprefix(_REGULAR))
    except re.error as error:
        raise SetupError(f"the route {pattern!r} is not a regular expression: {error}") from None
