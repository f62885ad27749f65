"""Requests that schemathesis makes of the OpenAPI document, sent to a front-end whose answers must fit that document.

    python -m tests.e2e.openapi_contract URL [--examples 1000] [--seed 1] [--only OPERATION] [--key KEY]

Per operation it sends the document's examples, and requests drawn from the schemas, valid and not; most of them to
streams that exist. A finding is one check of one operation, with the first request that failed it.
"""

from __future__ import annotations

import argparse
import secrets
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, cast

import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.core.failures import FailureGroup
from schemathesis.core.result import Ok
from schemathesis.generation import GenerationMode

DEADLINE_S: Final = 20.0
CHECKS: Final = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
)
# Requests that the document allows, and requests that it does not.
MODES: Final = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)


class UnreadStreams(requests.Session):
    """Reads every response but an event stream, of which it reads only the head: it may never end."""

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        """Send one request."""
        response = super().send(request, **{**options, "stream": True, "timeout": DEADLINE_S})
        if response.headers.get("content-type", "").startswith("text/event-stream"):
            response._content = b""
            response.close()
        else:
            _ = response.content
        return response


class Contract:
    """The document of the front-end at ``url``. For one seed it draws the same requests each time."""

    def __init__(self, url: str, *, examples: int, seed_number: int = 1, key: str | None = None) -> None:
        document = requests.get(f"{url}/openapi.json", timeout=DEADLINE_S).json()
        self._schema = schemathesis.openapi.from_dict(document)
        self._checks: list[Any] = [schemathesis.checks.CHECKS.get_one(name) for name in CHECKS]
        self._url = url
        self._examples = examples
        self._seed = seed_number
        self._headers = {} if key is None else {"x-api-key": key}
        self._known = self._create_known()
        self.answers = Counter[str]()
        """How often each operation answered with each status: ``get_stream 200``."""

    def _create_known(self) -> Mapping[str, str]:
        """Path parameter → the id of something that exists: drawn ids would only meet 404."""

        def send_request(method: str, path: str, body: Any) -> requests.Response:
            options: dict[str, Any] = {"headers": self._headers, "timeout": DEADLINE_S}
            answer = requests.request(method, self._url + path, json=body, **options)
            answer.raise_for_status()
            return answer

        feed = f"known-{secrets.token_hex(4)}"  # an earlier run may have closed its own
        send_request("PUT", f"/v1/streams/{feed}", {})
        send_request("POST", f"/v1/streams/{feed}/events", [{"type": "data-note", "data": 1}])
        text = {"type": "text", "text": "hi"}
        send_request("POST", "/api/chat", {"id": "known", "messages": [{"id": "1", "role": "user", "parts": [text]}]})
        return {
            "stream_id": feed,
            "chat_id": "known",
            "generation_id": send_request("POST", "/v1/generations", {"prompt": "hi"}).json()["id"],
            "response_id": send_request("POST", "/v1/responses", {"input": "hi", "background": True}).json()["id"],
            "letter_id": "1-0",  # there is none: no generation of this run fails on every attempt
            "model": "claude-sonnet-5-5",
        }

    def findings(self, only: Sequence[str] = ()) -> Iterator[str]:
        """What does not fit, of all operations or those named."""
        with UnreadStreams() as session:
            for result in self._schema.get_all_operations():
                operation = cast(Ok[Any], result).ok()
                name = operation.definition.raw["operationId"]
                if not only or name in only:
                    found = self._findings_of(operation, session)
                    yield from (f"{name}: {check}: {detail}" for check, detail in found.items())

    def _findings_of(self, operation: Any, session: requests.Session) -> dict[str, str]:
        found: dict[str, str] = {}

        def send(case: schemathesis.Case) -> None:
            if self.answers.total() % 4 and operation.method != "delete":
                case.path_parameters.update({name: self._known[name] for name in case.path_parameters})
            response = case.call(base_url=self._url, session=session, headers=self._headers)
            self.answers[f"{operation.definition.raw['operationId']} {response.status_code}"] += 1
            try:
                case.validate_response(response, checks=self._checks)
            except FailureGroup as group:
                for failure in group.exceptions:
                    found.setdefault(type(failure).__name__, f"{failure}\n{case.as_curl_command()}")

        for examples in operation.get_strategies_from_examples():
            settings(self._settings, max_examples=1)(given(case=examples)(send))()
        for mode in MODES if operation.body or operation.query or operation.headers else MODES[:1]:
            try:
                draw = given(case=operation.as_strategy(generation_mode=mode))(send)
                seed(self._seed)(settings(self._settings)(draw))()
            except Unsatisfiable:
                continue  # the operation takes nothing that could be invalid
            except Exception as error:
                found.setdefault(type(error).__name__, f"{mode.value}: {error}")
        return found

    @property
    def _settings(self) -> settings:
        return settings(
            max_examples=self._examples,
            deadline=None,
            database=None,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--examples", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", nargs="*", default=())
    parser.add_argument("--key")
    chosen = parser.parse_args()
    contract = Contract(chosen.url, examples=chosen.examples, seed_number=chosen.seed, key=chosen.key)
    found = 0
    for finding in contract.findings(chosen.only):
        found += 1
        print(finding, end="\n\n", flush=True)
    print(f"{contract.answers.total()} requests, {found} findings")


if __name__ == "__main__":
    main()
