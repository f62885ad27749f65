"""The checks over HTTP: the front-end, and the list of models of each provider."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import httpx2

from broadcaster import __version__
from broadcaster.cli.doctor.machine import provider_of
from broadcaster.cli.doctor.table import Check, fail, skip, warn
from broadcaster.cli.terminal.formats import number
from broadcaster.client.address import checked_url, key_headers
from broadcaster.core.access.masking import masked
from broadcaster.core.providers.model_routing import ModelRoutes
from broadcaster.settings import Settings
from broadcaster.settings.values import ProviderSpec
from broadcaster.web.documents.problem_table import PROBLEMS

CALL_S: Final = 5.0
# The longest lists of models have some megabytes.
LIST_BYTES: Final = 8 * 2**20

ANTHROPIC: Final = "anthropic"
OPENAI: Final = "openai"
RESPONSES: Final = "openai-responses"
# The SDKs' own servers, the defaults.
SERVERS: Final = {ANTHROPIC: "https://api.anthropic.com", OPENAI: "https://api.openai.com/v1"}
# The version every request to the Messages API must name.
ANTHROPIC_VERSION: Final = "2023-06-01"

_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})
_REFUSED: Final = frozenset({401, 403})
_NO_LIST: Final = frozenset({404, 405, 501})
# What a client raises if its URL, its proxy or its certificates cannot be used; TimeoutError is an OSError.
_NO_CALL: Final = (httpx2.InvalidURL, ValueError, OSError, ImportError)


# ---------------------------------------------------------------------------------------------------- the front-end


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontEnd:
    """What a front-end responded. ``is_named``: its URL is set explicitly, so that it must be there.

    ``has_health`` is False if its address publishes the API alone, as a proxy may.
    """

    url: str
    is_named: bool
    fault: str | None = None
    is_one: bool = False
    has_health: bool = True
    unready: str | None = None
    version: str | None = None
    has_key: bool = False
    is_refused: bool = False


async def probe_front_end(url: str, *, api_key: str | None, is_named: bool) -> FrontEnd:
    """Request ``/healthz``, ``/readyz``, the version in ``/openapi.json``, and a list, which needs a good key.

    Where nothing is found at ``/healthz``, the list alone decides.
    """
    seen = FrontEnd(url=url, is_named=is_named, has_key=api_key is not None)
    try:
        checked_url(url)
        headers = key_headers(api_key)
    except ValueError as error:
        return replace(seen, fault=str(error))
    try:
        async with _client(url, headers) as http:
            health = await http.get("/healthz")
            if health.status_code == httpx2.codes.NOT_FOUND:
                return _known_by_list(seen, await _listed(http))
            if health.status_code != httpx2.codes.OK or _json(health).get("status") != "ok":
                return seen
            ready, document = await http.get("/readyz"), await http.get("/openapi.json")
            listed = await _listed(http)
    except httpx2.HTTPError as error:
        return replace(seen, fault=str(error) or type(error).__name__)
    except _NO_CALL as error:
        return replace(seen, fault=_fault(error))
    faults = [f"{name}: {state}" for name, state in _object(_json(ready).get("checks")).items() if state != "ok"]
    unready = None if ready.status_code == httpx2.codes.OK else "; ".join(faults) or f"HTTP {ready.status_code}"
    version = _object(_json(document).get("info")).get("version")
    return replace(seen, is_one=True, unready=unready, version=version, is_refused=_is_refusal(listed))


async def _listed(http: httpx2.AsyncClient) -> httpx2.Response:
    return await http.get("/v1/generations", params={"limit": 1})


def _is_refusal(listed: httpx2.Response) -> bool:
    return listed.status_code == httpx2.codes.UNAUTHORIZED


def _known_by_list(seen: FrontEnd, listed: httpx2.Response) -> FrontEnd:
    """A front-end responds with its list or with a problem of ours; none responds with 404 there."""
    document, status = _json(listed), listed.status_code
    code = str(document.get("code"))
    if status == httpx2.codes.OK:
        is_one = isinstance(document.get("generations"), list)
    else:
        is_one = status != httpx2.codes.NOT_FOUND and code in PROBLEMS and PROBLEMS[code].status == status
    unready = code if is_one and listed.is_server_error else None
    return replace(seen, is_one=is_one, has_health=False, unready=unready, is_refused=_is_refusal(listed))


def _object(value: Any) -> dict[str, Any]:
    """The value if it is an object, else an empty one: any server may listen there."""
    return value if isinstance(value, dict) else {}


def _front_end(seen: FrontEnd) -> str:
    if seen.fault is not None:
        return f"{masked(seen.url)}: {seen.fault}"
    if not seen.is_one:
        return f"{masked(seen.url)} answers, but is no front-end"
    if not seen.has_health and seen.unready is None:
        return f"{masked(seen.url)} is alive; its health is not published here"
    return f"{masked(seen.url)} is alive and {f'not ready: {seen.unready}' if seen.unready else 'ready'}"


def _calls(seen: FrontEnd) -> str:
    if not seen.is_refused:
        return "it accepts our calls"
    return "it refuses our key" if seen.has_key else "it requires a key, and BROADCASTER_API_KEY is not set"


FRONT_END_CHECKS: Final[tuple[Check[FrontEnd], ...]] = (
    Check(
        "answer",
        _front_end,
        fail(
            lambda seen: seen.fault is not None and seen.is_named,
            "start one with broadcaster serve (or up), or correct --url and BROADCASTER_URL",
        ),
        warn(lambda seen: seen.fault is not None, "start one with broadcaster serve, or set --url"),
        fail(lambda seen: not seen.is_one, "correct --url and BROADCASTER_URL"),
        fail(lambda seen: seen.unready is not None, "check its Redis, or wait until it has ended"),
    ),
    Check(
        "version",
        lambda seen: f"{seen.version or 'unknown'}, this command is {__version__}",
        skip(lambda seen: not (seen.is_one and seen.has_health)),
        warn(lambda seen: seen.version != __version__, "run the same version everywhere"),
    ),
    Check(
        "key",
        _calls,
        skip(lambda seen: not seen.is_one),
        fail(
            lambda seen: seen.is_refused and seen.has_key,
            "correct BROADCASTER_API_KEY: it is not a key of this front-end",
        ),
        warn(lambda seen: seen.is_refused, "set it where you use the commands"),
    ),
)


# ----------------------------------------------------------------------------------------------------- the providers


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderEndpoint:
    """A provider to check: its address and key, and whether the settings need it.

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
        """The URL of its list of models. A base URL of the OpenAI wires ends in /v1, one of Anthropic's does not."""
        return f"{self.base_url.rstrip('/')}{'/v1' if self.wire == ANTHROPIC else ''}/models"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderReply:
    """What a provider responded; without status and fault, no request was sent, because there is no key."""

    target: ProviderEndpoint
    status: int | None = None
    fault: str | None = None
    models: int | None = None


def targets(settings: Settings, *, is_routing_set: bool, environment: Mapping[str, str]) -> list[ProviderEndpoint]:
    """The providers that the settings can lead to; the default model routing does not make a provider needed.

    A key goes only to its own server: the SDKs' keys to the SDKs' servers; an operator's server gets the keys of the
    variables that it names, or no key. Each of several keys is tried.
    """
    needed = {*(ModelRoutes(settings.routes).providers if is_routing_set else ()), provider_of(settings)}
    variables = settings.key_variables
    found = [
        _target(ANTHROPIC, None, environment=environment, is_needed=ANTHROPIC in needed),
        _target(OPENAI, None, environment=environment, is_needed=bool({OPENAI, RESPONSES} & needed)),
    ]
    own = settings.providers.items()
    found += [_target(name, spec, environment=environment, is_needed=True) for name, spec in own]
    if RESPONSES in settings.api_key_envs:
        found.append(replace(found[1], name=RESPONSES))
    return [each for target in found for each in _by_key(target, variables.get(target.name, ()), environment)]


def _by_key(
    target: ProviderEndpoint, variables: Sequence[str], environment: Mapping[str, str]
) -> list[ProviderEndpoint]:
    """The same target once for each of its keys; naming a key makes the provider needed."""
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


def _target(
    name: str, spec: ProviderSpec | None, *, environment: Mapping[str, str], is_needed: bool
) -> ProviderEndpoint:
    wire = ANTHROPIC if (spec.wire if spec else name) == ANTHROPIC else OPENAI
    base_variable, key_variable = f"{wire.upper()}_BASE_URL", f"{wire.upper()}_API_KEY"
    token = environment.get("ANTHROPIC_AUTH_TOKEN") if wire == ANTHROPIC else None
    base_url = environment.get(base_variable)
    if spec is not None and spec.base_url is not None:
        base_url, key_variable, token = spec.base_url, "", None
    return ProviderEndpoint(
        name=name,
        wire=wire,
        base_url=base_url or SERVERS[wire],
        key_variable=key_variable,
        headers=_headers(wire, key=environment.get(key_variable), token=token),
        is_needed=is_needed or base_url is not None,
    )


def _headers(wire: str, *, key: str | None, token: str | None) -> dict[str, str]:
    if wire == ANTHROPIC and key:
        return {"x-api-key": key}
    bearer = key or token
    return {"authorization": f"Bearer {bearer}"} if bearer else {}


async def probe_provider(target: ProviderEndpoint) -> ProviderReply:
    """Request its list of models, unless it needs a key and there is none."""
    if target.key_variable and not target.headers:
        return ProviderReply(target=target)
    try:
        checked_url(target.base_url)
    except ValueError:
        return ProviderReply(target=target, fault=httpx2.InvalidURL.__name__)
    version = {"anthropic-version": ANTHROPIC_VERSION} if target.wire == ANTHROPIC else {}
    try:
        async with _client(target.base_url, {**target.headers, **version}) as http, asyncio.timeout(CALL_S):
            status, document = await _list(http, target.models_url)
    except (httpx2.HTTPError, *_NO_CALL) as error:
        return ProviderReply(target=target, fault=_fault(error))
    listed = document.get("data")
    return ProviderReply(target=target, status=status, models=len(listed) if isinstance(listed, list) else None)


async def _list(http: httpx2.AsyncClient, url: str) -> tuple[int, dict[str, Any]]:
    """The status and the JSON object of at most LIST_BYTES; empty if there is none, or if it is compressed."""
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


def _provider(seen: ProviderReply) -> str:
    where = masked(seen.target.base_url)
    if seen.fault is not None:
        return f"{where} cannot be reached ({seen.fault})"
    if seen.status is None:
        return f"no {seen.target.key_variable} here"
    if seen.status == httpx2.codes.OK:
        return f"{where} answers" + ("" if seen.models is None else f" and lists {number(seen.models, 'model')}")
    return f"{where} answers HTTP {seen.status}"


def provider_check(target: ProviderEndpoint) -> Check[ProviderReply]:
    """The row of one provider."""
    key = target.key_variable or "it (api_key_env in BROADCASTER_PROVIDERS)"
    return Check(
        target.name,
        _provider,
        warn(
            lambda seen: seen.status is None and seen.fault is None and seen.target.is_needed,
            f"the settings use it: workers need {key} in their environment",
        ),
        skip(lambda seen: seen.status is None and seen.fault is None),
        fail(lambda seen: seen.fault is not None, "check the network, the proxy and the base URL"),
        fail(lambda seen: seen.status in _REFUSED, f"the key is refused, or missing: correct {key}"),
        warn(lambda seen: seen.status in _NO_LIST, "it lists no models here: check the base URL"),
        warn(lambda seen: seen.status != httpx2.codes.OK, "it does not serve now: retry later"),
    )


def _client(url: str, headers: Mapping[str, str]) -> httpx2.AsyncClient:
    host = httpx2.URL(url).host
    # No proxy can reach our loopback; a redirect could carry a key elsewhere.
    return httpx2.AsyncClient(
        base_url=url, headers=dict(headers), timeout=CALL_S, trust_env=host not in _LOOPBACK, follow_redirects=False
    )


def _fault(error: Exception) -> str:
    """Only the type: the text could quote the header that could not be sent. Of a missing package, its name."""
    return str(error) if isinstance(error, ImportError) else type(error).__name__


def _json(response: httpx2.Response) -> dict[str, Any]:
    try:
        return _object(response.json())
    except ValueError:
        return {}
