"""What children get: the options of the command, no credential that is not theirs, and settings that agree."""

from __future__ import annotations

import json
from typing import Any, get_type_hints

import pytest

from broadcaster.cli.option_settings import variables_of, with_options
from broadcaster.cli.serve import serve
from broadcaster.cli.up import up
from broadcaster.process.child_environment import worker_environment
from broadcaster.settings import PREFIX, Settings
from tests.support.access import token_kit as kit

OF_CALLERS = {
    "AUTH": "keys",
    "HOST": "0.0.0.0",
    "API_KEY": "key-of-the-command-0123",
    "API_KEYS": json.dumps({"web": ["web-key-0123456789"]}),
    "API_KEYS_FILE": "/etc/broadcaster/keys.json",
    "TOKEN_KEYS": kit.TOKEN_KEYS,
    "TOKEN_ISSUERS": kit.issuers(),
}


def test_a_worker_gets_no_credential_of_callers_and_its_settings_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {f"{PREFIX}{name}": value for name, value in OF_CALLERS.items()}
    found = worker_environment({**given, **{name.lower(): value for name, value in given.items()}, "OWN": "1"})
    assert found == {"OWN": "1"}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert Settings().token_keys is not None
    for name in given:
        monkeypatch.delenv(name)
    assert Settings().auth == "off"


def test_whatever_needs_keys_stays_with_the_front_ends() -> None:
    """Without AUTH, which a worker does not get, such a setting would be refused, and the worker not start."""
    for name in OF_CALLERS.keys() - {"AUTH"}:
        assert worker_environment({f"{PREFIX}{name}": OF_CALLERS[name]}) == {}


OPTIONS: dict[str, Any] = {"host": "localhost", "port": 1234, "processes": 3, "workers": 5, "data_dir": "else where"}


def test_every_option_of_serve_and_up_is_a_variable_of_their_children(monkeypatch: pytest.MonkeyPatch) -> None:
    assert OPTIONS.keys() == (get_type_hints(serve) | get_type_hints(up)).keys() - {"return"}
    monkeypatch.setenv(f"{PREFIX}HOST", "::1")
    settings = with_options(**OPTIONS)
    for name, value in variables_of(settings).items():
        monkeypatch.setenv(name, value)
    assert Settings() == settings


def test_what_a_child_has_by_itself_is_no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    providers = {"mine": {"wire": "openai", "base_url": "http://127.0.0.1:1/v1", "api_key_env": "MINE"}}
    monkeypatch.setenv(f"{PREFIX}PROVIDERS", json.dumps(providers))
    for name in ("AUTH", "API_KEYS", "TOKEN_KEYS", "TOKEN_ISSUERS"):
        monkeypatch.setenv(f"{PREFIX}{name}", OF_CALLERS[name])
    changed = with_options(port=1234).model_copy(update={"local_model_preload": True, "drain_s": 0.0})
    assert variables_of(changed) == {
        f"{PREFIX}PORT": "1234", f"{PREFIX}LOCAL_MODEL_PRELOAD": "True", f"{PREFIX}DRAIN_S": "0.0",
    }  # fmt: skip
