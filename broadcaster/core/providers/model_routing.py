"""Model routing: which providers are called for a model, by the model's name alone.

Rules
1. Patterns are tried in their order; the first match wins.
2. A pattern matches the whole name, case and all: ``*`` stands for any run of characters, ``?`` for one, ``[ab]`` for
   one of a set (fnmatch(3)). After ``re:`` it is a regular expression, also for the whole name: ``re:o\\d.*``.
3. A route leads to one target or to several, which are tried in their order (core/providers/retrying.py decides when
   the next one is).
4. A target is ``provider`` (the provider receives the name that the client requested) or ``provider/model`` (it
   receives this name). It is split at its first ``/``: only a model's name may contain more of them.
5. The target ``provider/*`` stands for the name without the route's prefix: with ``"ollama/*": "ollama/*"`` the request
   for ``ollama/qwen3`` requests ``qwen3`` from the provider. The pattern of such a route is a prefix and one ``*``,
   which then stands for at least one character.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from broadcaster.errors import SetupError, UnknownModel

BUILT_IN: Final = ("anthropic", "openai", "openai-responses", "local")
"""The providers that every worker has; the operator may add others, under other names."""

MAX_MODEL_CHARS: Final = 200
"""The longest name that a caller may request: each generation stores it, and every list shows it."""

_REGULAR: Final = "re:"
_REST: Final = "*"
_WILD: Final = frozenset("*?[")
# A model's name comes from a caller: an error repeats only its beginning.
_MAX_ECHOED_CHARS: Final = 80


class ModelTarget(NamedTuple):
    """A provider, and the name under which it knows the model; None: the name in the request.

    ``prefix`` is the beginning of the route's names that the provider's name of the model does not have (rule 5).
    """

    provider: str
    model: str | None = None
    prefix: str = ""

    @classmethod
    def parse(cls, text: str) -> ModelTarget:
        """Rule 4. Raises SetupError when a part is empty."""
        provider, slash, model = text.partition("/")
        if not provider or (slash and not model):
            raise SetupError(f"the target {text!r} is neither `provider` nor `provider/model`")
        return cls(provider, model or None)

    def model_for(self, requested: str) -> str:
        """The model's name at this provider."""
        return requested.removeprefix(self.prefix) if self.model == _REST else self.model or requested


class ModelRoutes:
    """Model pattern → targets, in the mapping's order."""

    def __init__(self, routes: Mapping[str, str | Sequence[str]]) -> None:
        """Raises SetupError when a regular expression is invalid, or a route has no target or one target twice."""
        self._patterns = tuple(routes)
        self._routes = [
            _route(pattern, [texts] if isinstance(texts, str) else texts) for pattern, texts in routes.items()
        ]

    @property
    def names(self) -> tuple[str, ...]:
        """The patterns that are plain names: the models that can be listed, in the mapping's order."""
        return tuple(each for each in self._patterns if not each.startswith(_REGULAR) and _WILD.isdisjoint(each))

    @property
    def patterns(self) -> Mapping[str, ModelTarget]:
        """The patterns that stand for many names, regular expressions apart, each with the target of its first try."""
        wild = zip(self._patterns, self._routes, strict=True)
        return {
            each: targets[0]
            for each, (_, targets) in wild
            if not each.startswith(_REGULAR) and not _WILD.isdisjoint(each)
        }

    @property
    def providers(self) -> frozenset[str]:
        """The providers that some route names."""
        return frozenset(target.provider for _, targets in self._routes for target in targets)

    def check(self, providers: Iterable[str]) -> None:
        """Raises SetupError when a route leads to a provider that is not one of these."""
        known = list(providers)
        if unknown := sorted(self.providers.difference(known)):
            raise SetupError(f"routes name unknown providers: {', '.join(unknown)}; there are: {', '.join(known)}")

    def targets_for(self, model: str) -> tuple[ModelTarget, ...]:
        """The targets of this model in their order, at least one. Raises UnknownModel when no pattern matches."""
        for pattern, targets in self._routes:
            if pattern.fullmatch(model) is not None:
                return targets
        excerpt = model if len(model) <= _MAX_ECHOED_CHARS else f"{model[:_MAX_ECHOED_CHARS]}…"
        raise UnknownModel(f"no route serves the model {excerpt!r}; GET /v1/models lists those of this server")

    def label_of(self, model: str, target: ModelTarget) -> str:
        """A name for the requested model that comes from the routes alone: callers cannot add another.

        It is the name in the target, or else the pattern that matched.
        """
        if target.model is not None and target.model != _REST:
            return target.model
        return next(
            (name for name, (it, _) in zip(self._patterns, self._routes, strict=True) if it.fullmatch(model)), "other"
        )

    def provider_for(self, model: str) -> str:
        """The provider of the first target. Raises UnknownModel when no pattern matches."""
        return self.targets_for(model)[0].provider

    def names_of(self, model: str, provider: str) -> list[str]:
        """The names, made of its own one, under which this model of this provider can be requested here."""
        first = (targets[0] for _, targets in self._routes)
        prefixes = dict.fromkeys(("", *(target.prefix for target in first if target.provider == provider)))
        return [prefix + model for prefix in prefixes if self._leads_to(prefix + model, provider, model)]

    def _leads_to(self, name: str, provider: str, model: str) -> bool:
        try:
            target = self.targets_for(name)[0]
        except UnknownModel:
            return False
        return target.provider == provider and target.model_for(name) == model


def _route(pattern: str, texts: Sequence[str]) -> tuple[re.Pattern[str], tuple[ModelTarget, ...]]:
    targets = tuple(map(ModelTarget.parse, texts))
    if not targets or len(set(targets)) < len(targets):
        raise SetupError(f"the route {pattern!r} must lead to at least one target, each only once")
    if not any(target.model == _REST for target in targets):
        return _compile(pattern), targets
    prefix = pattern.removesuffix("*")
    if prefix == pattern or pattern.startswith(_REGULAR) or not _WILD.isdisjoint(prefix):
        raise SetupError(f"the route {pattern!r} leads to `provider/*`: its pattern must be a prefix and one `*`")
    placed = tuple(target._replace(prefix=prefix) if target.model == _REST else target for target in targets)
    return re.compile(re.escape(prefix) + "(?s:.+)"), placed


def _compile(pattern: str) -> re.Pattern[str]:
    if not pattern.startswith(_REGULAR):
        return re.compile(fnmatch.translate(pattern))
    try:
        return re.compile(pattern.removeprefix(_REGULAR))
    except re.error as error:
        raise SetupError(f"the route {pattern!r} is not a regular expression: {error}") from None
