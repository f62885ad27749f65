"""What the doctor asks over HTTP: the front-end, and each provider for its list of models. Tables judge the answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import httpx2

from broadcaster import __version__
from broadcaster.cli.doctor_machine import provider_of
from broadcaster.cli.doctor_table import Check, Rule, Verdict
from broadcaster.cli.words import masked, number
from broadcaster.core.routing import Routes
from broadcaster.settings import ProviderSpec, Settings

CALL_S: Final = 5.0
# The longest lists of models have some megabytes.
LIST_BYTES: Final = 8 * 2**20

ANTHROPIC: Final = "anthropic"
OPENAI: Final = "openai"
RESPONSES: Final = "openai-responses"
# The SDKs' own servers, when nothing else is named.
SERVERS: Final = {ANTHROPIC: "https://api.anthropic.com", OPENAI: "https://api.openai.com/v1"}
# The version every request to the Messages API must name.
ANTHROPIC_VERSION: Final = "2023-06-01"

_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})
_REFUSED: Final = frozenset({401, 403})
_NO_LIST: Final = frozenset({404, 405, 501})


# ---------------------------------------------------------------------------------------------------- the front-end


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontEnd:
    """What a front-end answered. ``is_named``: somebody said that one is there, so that it must be."""

    url: str
    is_named: bool
    fault: str | None = None
    is_one: bool = False
    unready: str | None = None
    version: str | None = None
    has_key: bool = False
    is_refused: bool = False


async def ask_front_end(url: str, *, api_key: str | None, is_named: bool) -> FrontEnd:
    """Ask ``/healthz``, ``/readyz``, the version of ``/openapi.json``, and whether it would take our calls."""
    headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
    try:
        async with _client(url, headers) as http:
            health = await http.get("/healthz")
            if health.status_code != httpx2.codes.OK or _json(health).get("status") != "ok":
                return FrontEnd(url=url, is_named=is_named)
            ready, document = await http.get("/readyz"), await http.get("/openapi.json")
            listed = await http.get("/v1/generations", params={"limit": 1})
    except (httpx2.HTTPError, httpx2.InvalidURL, UnicodeEncodeError) as error:
        return FrontEnd(url=url, is_named=is_named, fault=str(error) or type(error).__name__)
    faults = [f"{name}: {said}" for name, said in _object(_json(ready).get("checks")).items() if said != "ok"]
    unready = None if ready.status_code == httpx2.codes.OK else "; ".join(faults) or f"HTTP {ready.status_code}"
    version = _object(_json(document).get("info")).get("version")
    return FrontEnd(
        url=url,
        is_named=is_named,
        is_one=True,
        unready=unready,
        version=version,
        has_key=bool(api_key),
        is_refused=listed.status_code == httpx2.codes.UNAUTHORIZED,
    )


def _object(value: Any) -> dict[str, Any]:
    """The value if it is an object: whatever listens there may say what it likes."""
    return value if isinstance(value, dict) else {}


def _front_end(seen: FrontEnd) -> str:
    if seen.fault is not None:
        return f"{masked(seen.url)}: {seen.fault}"
    if not seen.is_one:
        return f"{masked(seen.url)} answers, but is no front-end"
    return f"{masked(seen.url)} is alive and {f'not ready: {seen.unready}' if seen.unready else 'ready'}"


def _calls(seen: FrontEnd) -> str:
    if not seen.is_refused:
        return "it takes our calls"
    return "it does not take our key" if seen.has_key else "it wants a key, and BROADCASTER_API_KEY is not set"


FRONT_END_CHECKS: Final[tuple[Check[FrontEnd], ...]] = (
    Check(
        "answer",
        _front_end,
        (
            Rule(
                Verdict.FAIL,
                lambda seen: seen.fault is not None and seen.is_named,
                "start one with broadcaster serve (or up), or correct --url and BROADCASTER_URL",
            ),
            Rule(Verdict.WARN, lambda seen: seen.fault is not None, "start one with broadcaster serve, or set --url"),
            Rule(Verdict.FAIL, lambda seen: not seen.is_one, "correct --url and BROADCASTER_URL"),
            Rule(Verdict.FAIL, lambda seen: seen.unready is not None, "look at its Redis, or wait until it has gone"),
        ),
    ),
    Check(
        "version",
        lambda seen: f"{seen.version or 'not told'}, this command is {__version__}",
        (
            Rule(Verdict.SKIP, lambda seen: not seen.is_one),
            Rule(Verdict.WARN, lambda seen: seen.version != __version__, "run the same version everywhere"),
        ),
    ),
    Check(
        "key",
        _calls,
        (
            Rule(Verdict.SKIP, lambda seen: not seen.is_one),
            Rule(
                Verdict.FAIL,
                lambda seen: seen.is_refused and seen.has_key,
                "correct BROADCASTER_API_KEY: it is none of the keys of this front-end",
            ),
            Rule(Verdict.WARN, lambda seen: seen.is_refused, "set it where commands are to be used"),
        ),
    ),
)


# ----------------------------------------------------------------------------------------------------- the providers


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A provider that may be asked: where, by which key, and whether somebody counts on it.

    ``key_variable`` is empty for a server that needs no key.
    """

    name: str
    wire: str
    base_url: str
    key_variable: str
    headers: Mapping[str, str]
    is_needed: bool

    @property
    def models_url(self) -> str:
        """Where it lists its models. A base URL of the OpenAI wires ends in /v1, one of Anthropic's does not."""
        return f"{self.base_url.rstrip('/')}{'/v1' if self.wire == ANTHROPIC else ''}/models"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a provider answered; neither status nor fault: it was not asked, for want of a key."""

    target: Target
    status: int | None = None
    fault: str | None = None
    models: int | None = None


def targets(settings: Settings, *, are_routes_named: bool, environment: Mapping[str, str]) -> list[Target]:
    """The providers that the settings can lead to; routes that nobody set are no sign that somebody counts on one.

    A key goes to no other server than its own: the SDKs' keys to the SDKs' servers; an operator's server gets the keys
    of the variables it names, or none. Each of several keys is asked with.
    """
    wanted = {*(Routes(settings.routes).providers if are_routes_named else ()), provider_of(settings)}
    variables = settings.key_variables
    found = [
        _target(ANTHROPIC, None, environment=environment, is_needed=ANTHROPIC in wanted),
        _target(OPENAI, None, environment=environment, is_needed=bool({OPENAI, RESPONSES} & wanted)),
    ]
    own = settings.providers.items()
    found += [_target(name, spec, environment=environment, is_needed=True) for name, spec in own]
    if RESPONSES in settings.api_key_envs:
        found.append(replace(found[1], name=RESPONSES))
    return [each for target in found for each in _by_key(target, variables.get(target.name, ()), environment)]


def _by_key(target: Target, variables: Sequence[str], environment: Mapping[str, str]) -> list[Target]:
    """The same target once for each of its keys; whoever names a key counts on it."""
    return [
        replace(
            target,
            name=target.name if len(variables) == 1 else f"{target.name} {variable}",
            key_variable=variable,
            headers=_headers(target.wire, key=environment.get(variable), token=None),
            is_needed=True,
        )
        for variable in variables
    ] or [target]


def _target(name: str, spec: ProviderSpec | None, *, environment: Mapping[str, str], is_needed: bool) -> Target:
    wire = ANTHROPIC if (spec.wire if spec else name) == ANTHROPIC else OPENAI
    base_variable, key_variable = f"{wire.upper()}_BASE_URL", f"{wire.upper()}_API_KEY"
    token = environment.get("ANTHROPIC_AUTH_TOKEN") if wire == ANTHROPIC else None
    base_url = environment.get(base_variable)
    if spec is not None and spec.base_url is not None:
        base_url, key_variable, token = spec.base_url, "", None
    return Target(
        name=name,
        wire=wire,
        base_url=base_url or SERVERS[wire],
        key_variable=key_variable,
        headers=_headers(wire, key=environment.get(key_variable), token=token),
        is_needed=is_needed or base_url is not None,
    )


def _headers(wire: str, *, key: str | None, token: str | None) -> dict[str, str]:
    headers: dict[str, str] = {}
    if wire != ANTHROPIC:
        return {"authorization": f"Bearer {key}"} if key else headers
    if key:
        headers["x-api-key"] = key
    elif token:
        headers["authorization"] = f"Bearer {token}"
    return headers


async def ask_provider(target: Target) -> Answer:
    """Ask it for its models, unless it wants a key and there is none."""
    if target.key_variable and not target.headers:
        return Answer(target=target)
    version = {"anthropic-version": ANTHROPIC_VERSION} if target.wire == ANTHROPIC else {}
    try:
        async with _client(target.base_url, {**target.headers, **version}) as http, asyncio.timeout(CALL_S):
            status, document = await _list(http, target.models_url)
    except (httpx2.HTTPError, httpx2.InvalidURL, UnicodeEncodeError, TimeoutError) as error:
        # The type alone: a text could repeat the header that could not be sent.
        return Answer(target=target, fault=type(error).__name__)
    listed = document.get("data")
    return Answer(target=target, status=status, models=len(listed) if isinstance(listed, list) else None)


async def _list(http: httpx2.AsyncClient, url: str) -> tuple[int, dict[str, Any]]:
    """A status and the object it came with, of at most LIST_BYTES; empty when there is none, or it is packed."""
    body = bytearray()
    async with http.stream("GET", url, headers={"accept-encoding": "identity"}) as response:
        async for chunk in response.aiter_raw():
            body += chunk
            if len(body) > LIST_BYTES:
                return response.status_code, {}
    try:
        return response.status_code, _object(json.loads(body))
    except (ValueError, RecursionError):
        return response.status_code, {}


def _provider(seen: Answer) -> str:
    where = masked(seen.target.base_url)
    if seen.fault is not None:
        return f"{where} cannot be reached ({seen.fault})"
    if seen.status is None:
        return f"no {seen.target.key_variable} here"
    if seen.status == httpx2.codes.OK:
        return f"{where} answers" + ("" if seen.models is None else f" and lists {number(seen.models, 'model')}")
    return f"{where} answers HTTP {seen.status}"


def provider_check(target: Target) -> Check[Answer]:
    """The row of one provider."""
    key = target.key_variable or "it (api_key_env in BROADCASTER_PROVIDERS)"
    return Check(
        target.name,
        _provider,
        (
            Rule(
                Verdict.WARN,
                lambda seen: seen.status is None and seen.fault is None and seen.target.is_needed,
                f"it is counted on: workers need {key} in their environment",
            ),
            Rule(Verdict.SKIP, lambda seen: seen.status is None and seen.fault is None),
            Rule(Verdict.FAIL, lambda seen: seen.fault is not None, "check the network, the proxy and the base URL"),
            Rule(Verdict.FAIL, lambda seen: seen.status in _REFUSED, f"the key is refused, or missing: correct {key}"),
            Rule(Verdict.WARN, lambda seen: seen.status in _NO_LIST, "it lists no models here: check the base URL"),
            Rule(Verdict.WARN, lambda seen: seen.status != httpx2.codes.OK, "it does not serve now: try again later"),
        ),
    )


def _client(url: str, headers: Mapping[str, str]) -> httpx2.AsyncClient:
    host = httpx2.URL(url).host
    # No proxy can reach our loopback; a redirect could carry a key elsewhere.
    return httpx2.AsyncClient(
        base_url=url, headers=dict(headers), timeout=CALL_S, trust_env=host not in _LOOPBACK, follow_redirects=False
    )


def _json(response: httpx2.Response) -> dict[str, Any]:
    try:
        document = response.json()
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}
