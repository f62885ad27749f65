"""The values of settings that have a form of their own: providers, keys, hosts and origins."""

from __future__ import annotations

import json
from typing import Annotated, Any, Final, Literal, TypeAlias
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, model_validator
from pydantic_settings import NoDecode

from broadcaster.core.access.api_keys import Keyring
from broadcaster.core.access.redis_address import RedisAddress
from broadcaster.core.access.token_setup import read_issuers, read_token_keys
from broadcaster.core.access.web_origins import check_origin
from broadcaster.core.providers.model_routing import BUILT_IN
from broadcaster.core.requests.passed_calls import is_openai_host
from broadcaster.errors import SetupError
from broadcaster.webhooks.signature import read_secrets
from broadcaster.webhooks.url import WebhookHosts

# An environment variable's name, in capitals alone: a key that was put there by mistake does not match.
_VARIABLE: Final = r"^[A-Z_][A-Z0-9_]*$"
# The built-in providers whose servers require keys.
_KEYED: Final = BUILT_IN[:-1]
# Their models refuse calls of tools that come back without the reasoning before them.
_REASONING_HOSTS: Final = frozenset({"api.deepseek.com", "api.moonshot.ai", "api.moonshot.cn"})
KeyVariables: TypeAlias = tuple[Annotated[str, Field(pattern=_VARIABLE)], ...]


def _is_a_plain_url(value: str | None) -> str | None:
    if value is None:
        return None
    try:
        parts = urlsplit(value)
        is_server = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # the error's text may repeat a key
        is_server = False
    if not is_server:
        raise ValueError("base_url must begin with http:// or https:// and name a server")
    if parts.username is not None or parts.query or parts.fragment:
        raise ValueError("base_url must hold no user, query or fragment; a key belongs into api_key_env")
    return value


class ProviderSpec(BaseModel):
    """A provider of the operator's own: a server that speaks one of the known wires."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    wire: Literal["anthropic", "openai", "openai-responses"]
    # None: the server of the SDK. On the OpenAI wires it ends in /v1, on Anthropic's it does not.
    base_url: Annotated[str | None, AfterValidator(_is_a_plain_url)] = None
    # The variable that holds the key, not the key. None: a server with a base URL gets no key, the SDK's server the key
    # of the SDK's variable. Capitals alone, so that a key that was put here by mistake is refused and not logged.
    api_key_env: str | None = Field(None, pattern=_VARIABLE)
    # The same for several keys, of one account or of several: calls are spread over them.
    api_key_envs: KeyVariables = ()
    # The field of an assistant's message in which the server takes the reasoning back. None: it takes none, unless it
    # is known to require it.
    reasoning_field: Literal["reasoning_content", "reasoning"] | None = None

    @model_validator(mode="after")
    def _has_a_place_for_reasoning(self) -> ProviderSpec:
        if self.reasoning_field is not None and not self.takes_own_parameters:
            raise ValueError("reasoning_field is for a server of your own with the wire openai and a base_url")
        return self

    @property
    def key_variables(self) -> tuple[str, ...]:
        """The variables of all its keys, each once."""
        first = () if self.api_key_env is None else (self.api_key_env,)
        return tuple(dict.fromkeys((*first, *self.api_key_envs)))

    @property
    def takes_own_parameters(self) -> bool:
        """Whether it is a server of the operator's own on the wire of chat completions: not OpenAI, nor Azure."""
        return self.wire == "openai" and self._host is not None and not is_openai_host(self._host)

    @property
    def takes_reasoning_in(self) -> str | None:
        """The field in which it takes reasoning back; None: it takes none."""
        is_known = self.takes_own_parameters and self._host in _REASONING_HOSTS
        return self.reasoning_field or ("reasoning_content" if is_known else None)

    @property
    def _host(self) -> str | None:
        return urlsplit(self.base_url).hostname if self.base_url is not None else None


def _names_are_free(value: dict[str, ProviderSpec]) -> dict[str, ProviderSpec]:
    if taken := sorted(value.keys() & set(BUILT_IN)):
        raise ValueError(f"PROVIDERS must not name a provider that exists already: {', '.join(taken)}")
    if any("/" in name or not name for name in value):
        raise ValueError("the name of a provider holds no `/`: in a route it parts provider and model")
    return value


def _scheme_is_served(value: str | None) -> str | None:
    if not value:
        return None
    try:
        RedisAddress.read(value)
    except SetupError as error:  # its text does not repeat the URL, which may hold a password
        raise ValueError(error.detail) from None
    return value


def _keys_have_a_provider(value: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    if unknown := sorted(value.keys() - set(_KEYED)):
        raise ValueError(
            f"it is for {', '.join(_KEYED)}, not for {', '.join(unknown)}; "
            "a provider of PROVIDERS has api_key_envs of its own"
        )
    if any(not variables or len(set(variables)) < len(variables) for variables in value.values()):
        raise ValueError("a provider needs at least one variable, and none twice")
    return value


def _split_names(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        return json.loads(value)
    return [name for each in value.split(",") if (name := each.strip())]


def _hosts_are_some(value: tuple[str, ...]) -> tuple[str, ...]:
    WebhookHosts(value)
    return value


def _origins_are_of_browsers(value: tuple[str, ...]) -> tuple[str, ...]:
    for origin in value:
        check_origin(origin)
    return value


def _secret_is_long_enough(value: SecretStr | None) -> SecretStr | None:
    return value if value is not None and read_secrets(value.get_secret_value()) else None


def _keys_are_some(value: SecretStr | None) -> SecretStr | None:
    if value is None or not value.get_secret_value():
        return None
    Keyring.read(value.get_secret_value())
    return value


def _key_is_given(value: str | None) -> str | None:
    return value or None


def _token_keys_are_some(value: SecretStr | None) -> SecretStr | None:
    if value is None or not value.get_secret_value():
        return None
    read_token_keys(value.get_secret_value())
    return value


def _issuers_are_some(value: str | None) -> str | None:
    return value if value and read_issuers(value) else None


_Names: TypeAlias = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split_names)]
RedisUrl: TypeAlias = Annotated[str | None, AfterValidator(_scheme_is_served)]
Providers: TypeAlias = Annotated[dict[str, ProviderSpec], AfterValidator(_names_are_free)]
KeysOfProviders: TypeAlias = Annotated[dict[str, KeyVariables], AfterValidator(_keys_have_a_provider)]
Hosts: TypeAlias = Annotated[_Names, AfterValidator(_hosts_are_some)]
Origins: TypeAlias = Annotated[_Names, AfterValidator(_origins_are_of_browsers)]
WebhookSecret: TypeAlias = Annotated[SecretStr | None, AfterValidator(_secret_is_long_enough)]
ApiKeys: TypeAlias = Annotated[SecretStr | None, AfterValidator(_keys_are_some)]
CallersKey: TypeAlias = Annotated[str | None, AfterValidator(_key_is_given)]
TokenKeys: TypeAlias = Annotated[SecretStr | None, AfterValidator(_token_keys_are_some)]
TokenIssuers: TypeAlias = Annotated[str | None, AfterValidator(_issuers_are_some)]
