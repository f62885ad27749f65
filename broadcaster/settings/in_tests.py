"""Where the program connects while a test runs that uses our fixtures: to the test's server, whatever URL it names.

An app makes its Broadcaster at import, over the developer's own Redis, before a test begins. So the place is decided
when a connection is opened. The processes that the test starts inherit the variable.
"""

from __future__ import annotations

import os
from typing import Final

from broadcaster.core.access.masking import masked
from broadcaster.observability.logs import get_logger
from broadcaster.settings import PREFIX, TEST_VARIABLE, Settings

_REPLACED: Final = ("redis_url", "key_prefix")
_log = get_logger(__name__)


def as_connected(settings: Settings) -> Settings:
    """The settings to open a connection with; in a test, with its server and key prefix."""
    if TEST_VARIABLE not in os.environ:
        return settings
    names = {name: PREFIX + name.upper() for name in _REPLACED}
    of_test = {name: os.environ[variable] for name, variable in names.items() if variable in os.environ}
    if of_test.get("redis_url", settings.redis_url) != settings.redis_url:
        _log.warning("test_server_replaces_redis", named=masked(settings.redis_url or ""))
    return settings.model_copy(update=of_test)
