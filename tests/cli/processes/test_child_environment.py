"""What a worker gets of its parent's environment: no credential of callers, and settings that agree."""

from __future__ import annotations

import json

import pytest

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
