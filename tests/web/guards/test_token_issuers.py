"""The files with issuers' keys: read again when they change, trusted as the file of callers' keys is."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from broadcaster.core.access.token_setup import read_issuers
from broadcaster.errors import SetupError, TokenInvalid
from broadcaster.web.guards.tokens import issuers as issuers_module
from broadcaster.web.guards.tokens.issuers import MAX_FILE_BYTES, TokenIssuers
from tests.support.access import token_kit as kit

KINDS = (("EdDSA", "k1"), ("ES256", "k2"))
GOOD = kit.jwks("EdDSA", kid="k1")
# A JWK set by its form, whose key is none: it is found when the key is loaded.
BROKEN = json.dumps({"keys": [{"kid": "k1", "kty": "OKP", "crv": "Ed25519", "x": "AAAA"}]})


@pytest.fixture(autouse=True)
def _structured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("structlog.is_configured", lambda: True)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write(tmp_path / "app.jwks", GOOD)


def write(path: Path, content: str | bytes, *, mode: int = 0o644) -> Path:
    """Replaced as a whole."""
    new = path.with_suffix(".new")
    new.write_bytes(content if isinstance(content, bytes) else content.encode())
    new.chmod(mode)
    os.replace(new, path)
    return path


def opened(path: Path) -> TokenIssuers:
    setting = {kit.ISSUER: {"tenant": "web", "jwks_file": str(path)}}
    return TokenIssuers(issuers=read_issuers(json.dumps(setting)), max_s=3600)


def accepts(issuers: TokenIssuers, *, kind: str = "EdDSA", kid: str = "k1") -> bool:
    now_s = time.time()
    try:
        return issuers.verify(kit.foreign_token(now_s, kind=kind, kid=kid), now_s=now_s).tenant == "web"
    except TokenInvalid:
        return False


def logged(issuers: TokenIssuers, *, polls: int = 3) -> list[str]:
    with capture_logs() as lines:
        for _ in range(polls):
            issuers.read_changed()
    return [line["event"] for line in lines]


def test_a_signer_is_known_while_the_file_lists_its_key(path: Path) -> None:
    issuers = opened(path)
    now_s = time.time()
    signer = issuers.verify(kit.foreign_token(now_s, kind="EdDSA", kid="k1"), now_s=now_s).signer
    assert signer is not None
    assert not issuers.read_changed()
    keys = {each["kid"]: each for each in (json.loads(kit.jwks(kind, kid=kid))["keys"][0] for kind, kid in KINDS)}
    for listed, is_known in (({"k1", "k2"}, True), ({"k2"}, False)):
        write(path, json.dumps({"keys": [keys[kid] for kid in sorted(listed)]}))
        assert issuers.read_changed()
        assert issuers.knows(signer) is is_known
    write(path, json.dumps({"keys": [keys["k2"] | {"kid": "k1"}]}))  # another key with its id
    assert issuers.read_changed()
    assert not issuers.knows(signer)


@pytest.mark.parametrize("content", [BROKEN, "no key set", b'{"keys": "\xff"}', " " * (MAX_FILE_BYTES + 1), None])
def test_a_file_that_becomes_unusable_is_logged_once_and_changes_nothing(
    path: Path, content: str | bytes | None
) -> None:
    issuers = opened(path)
    assert logged(issuers) == []
    if content is None:
        path.unlink()
    else:
        write(path, content)
    assert logged(issuers) == ["token_issuer_unusable"]
    assert accepts(issuers)
    write(path, kit.jwks("ES256", kid="k2"))
    assert logged(issuers) == ["token_issuer_read"]
    assert (accepts(issuers), accepts(issuers, kind="ES256", kid="k2")) == (False, True)


def test_each_change_to_another_unusable_file_is_logged(path: Path) -> None:
    issuers = opened(path)
    for content in (BROKEN, "no key set"):
        write(path, content)
        assert logged(issuers) == ["token_issuer_unusable"]
    path.unlink()
    assert logged(issuers) == ["token_issuer_unusable"]


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_that_others_may_write_to_is_refused_until_they_may_not(path: Path, mode: int) -> None:
    path.chmod(mode)
    with pytest.raises(SetupError, match=r"BROADCASTER_TOKEN_ISSUERS: other users may change .*chmod go-w"):
        opened(path)
    path.chmod(0o644)
    issuers = opened(path)
    assert accepts(issuers)
    write(path, kit.jwks("ES256", kid="k2"), mode=mode)
    assert logged(issuers) == ["token_issuer_unusable"]
    assert (accepts(issuers), accepts(issuers, kind="ES256", kid="k2")) == (True, False)
    path.chmod(0o644)
    assert logged(issuers) == ["token_issuer_read"]
    assert accepts(issuers, kind="ES256", kid="k2")


def test_a_file_of_another_user_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.chown(path, 12345, -1) if os.geteuid() == 0 else monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(SetupError, match="chown"):
        opened(path)


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_what_is_no_file_is_refused_without_waiting_for_it(path: Path, make: Callable[[Path], None]) -> None:
    issuers = opened(path)
    path.unlink()
    make(path)
    assert logged(issuers) == ["token_issuer_unusable"]
    with pytest.raises(SetupError, match=r"not a file|cannot be read"):
        opened(path)


def test_a_file_beyond_the_bound_is_refused_whole(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(issuers_module, "MAX_FILE_BYTES", len(GOOD))
    assert accepts(opened(path))
    write(path, GOOD + " ")
    with pytest.raises(SetupError, match=f"more than {len(GOOD)} bytes"):
        opened(path)
