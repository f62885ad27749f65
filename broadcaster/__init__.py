"""broadcaster keeps an LLM answer alive: workers append numbered events to a log, front-ends replay and fan out.

    from broadcaster import Broadcaster, Cursor
    from broadcaster import sync

The names are imported on first use: ``broadcaster.sync`` must not import a web framework into a job.
"""

from __future__ import annotations

TYPE_CHECKING = False  # during the import of `typing` a Ctrl-C would leave a command's traceback
if TYPE_CHECKING:
    from typing import Any, Final

    from broadcaster.core.cursor import Cursor
    from broadcaster.core.requests.options import FeedOptions, GenerationOptions, ReadOptions
    from broadcaster.core.requests.webhook_options import WebhookOptions
    from broadcaster.library.broadcaster import Broadcaster
    from broadcaster.settings.options import PublisherSettingOptions, SettingOptions
    from broadcaster.web.mount import RouterOptions

__all__ = [
    "Broadcaster",
    "Cursor",
    "FeedOptions",
    "GenerationOptions",
    "PublisherSettingOptions",
    "ReadOptions",
    "RouterOptions",
    "SettingOptions",
    "WebhookOptions",
]
__version__ = "0.1.0"

_OPTIONS: Final = "broadcaster.core.requests.options"
_SETTINGS: Final = "broadcaster.settings.options"
_HOMES: Final = {
    "Broadcaster": "broadcaster.library.broadcaster",
    "Cursor": "broadcaster.core.cursor",
    "FeedOptions": _OPTIONS,
    "GenerationOptions": _OPTIONS,
    "PublisherSettingOptions": _SETTINGS,
    "ReadOptions": _OPTIONS,
    "RouterOptions": "broadcaster.web.mount",
    "SettingOptions": _SETTINGS,
    "WebhookOptions": "broadcaster.core.requests.webhook_options",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415 - see TYPE_CHECKING

    value = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
