"""Where the program connects while a test runs that uses our fixtures: to the test's server, whatever URL it names.

An app makes its Broadcaster at import, over the developer's own Redis, before a test begins. So the place is decided
when a connection is opened, and the models that a request may name when a front-end's parts are. The processes that the
test starts inherit the variable.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Final

from broadcaster.core.access.masking import masked
from broadcaster.observability.logs import get_logger
from broadcaster.settings import PREFIX, TEST_VARIABLE, Settings

_PLACE: Final = ("redis_url", "key_prefix")
_MODELS: Final = ("routes", "default_model")
_log = get_logger(__name__)


def as_connected(settings: Settings) -> Settings:
    """The settings to open a connection with; in a test, with its server and key prefix."""
    replaced = _replaced(settings, _PLACE)
    if replaced.redis_url != settings.redis_url:
        _log.warning("test_server_replaces_redis", named=masked(settings.redis_url or ""))
    return replaced


def as_serving(settings: Settings) -> Settings:
    """The settings to open a front-end's parts with; in a test, with its models where the program has set none.

    A default model is one of the program's own routes: it goes with them.
    """
    own = settings.model_fields_set
    return _replaced(settings, () if "routes" in own else (name for name in _MODELS if name not in own))


def _replaced(settings: Settings, names: Iterable[str]) -> Settings:
    if TEST_VARIABLE not in os.environ:
        return settings
    of_test = Settings()
    update = {name: getattr(of_test, name) for name in names if PREFIX + name.upper() in os.environ}
    return settings.model_copy(update=update)
