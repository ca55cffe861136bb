"""Requests that Schemathesis generates from the portal's OpenAPI description, sent through Envoy as a logged-in owner.

Half of the requests fit the description, and half do not; ids in paths are often real ones. Which checks a response
must pass is listed here; how many requests are sent is the caller's choice.
"""

import contextlib
import secrets
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import httpx
import hypothesis
import requests
import schemathesis
from hypothesis import strategies as st
from requests.adapters import HTTPAdapter
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.core.result import Ok
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi.checks import (
    allow_header_conformance,
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)
from support.clients.portal_client import PortalClient
from support.servers.stack import ALL_SCOPES

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    allow_header_conformance,
]
_NEW_CALLER_AFTER = 20
"""How many requests come from one address: throttles refuse more of some."""
_CREDENTIALS = ["", "", "", "", "session", "token", "sense"]
_CONFIG = schemathesis.Config.from_dict({"generation": {"with-security-parameters": False}})
_READS_ANYTHING = "/v1/public/device/start"
_ENDS_SESSIONS = "/v1/dashboard/session"
_WHO_AM_I = "/v1/whoami"


class FromAddress(HTTPAdapter):
    """Connects from one of loopback's addresses."""

    def __init__(self, address: str) -> None:
        self._address = address
        super().__init__()

    def init_poolmanager(self, *given: Any, **named: Any) -> None:  # noqa: ANN401 -- as requests has it
        super().init_poolmanager(*given, source_address=(self._address, 0), **named)


@dataclass
class Outcomes:
    """How many responses of each status each operation gave, and what failed."""

    statuses: dict[str, Counter[int]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    @property
    def count(self) -> int:
        return sum(counter.total() for counter in self.statuses.values())


class OpenApiFuzzer:
    """Sends generated requests. The owner has a session, a key and a device that waits for approval."""

    def __init__(self, url: str, seed: int) -> None:
        self._url = url
        self._seed = seed
        self._sent = 0
        self._may_have_ended = False
        description = httpx.get(f"{url}/dashboard/openapi.json", trust_env=False).json()
        self.operations: list[APIOperation[Any, Any, Any, Any]] = [
            found.ok()
            for found in schemathesis.openapi.from_dict(description, config=_CONFIG).get_all_operations()
            if isinstance(found, Ok)
        ]
        self.outcomes = Outcomes()
        self._log_in()

    def run(self, operation: APIOperation[Any, Any, Any, Any], examples: int) -> None:
        """Send the requests of one operation, half of them against the description."""
        for mode in GenerationMode:
            case_of = operation.as_strategy(generation_mode=mode)

            @hypothesis.seed(self._seed)
            @hypothesis.settings(
                max_examples=max(1, examples // 2),
                database=None,
                deadline=None,
                phases=[hypothesis.Phase.generate],
                suppress_health_check=list(hypothesis.HealthCheck),
            )
            @hypothesis.given(case=case_of, is_real=st.booleans(), lacks=st.sampled_from(_CREDENTIALS))
            def send(case: Case[Any], is_real: bool, lacks: str) -> None:  # noqa: FBT001 -- Hypothesis passes by name
                self._send(case, is_real=is_real, lacks=lacks)

            with contextlib.suppress(
                hypothesis.errors.Unsatisfiable
            ):  # nothing is wrong for an operation without input
                send()

    def _send(self, case: Case[Any], *, is_real: bool, lacks: str) -> None:
        self._sent += 1
        if self._sent % _NEW_CALLER_AFTER == 0 or (self._may_have_ended and not self._has_session()):
            self._log_in()
        if is_real:
            self._put_real_values(case)
        response = case.call(
            base_url=self._url,
            session=self._stranger if lacks == "session" else self._session,
            headers=self._headers(case.path, lacks),
            timeout=20,
        )
        self._may_have_ended = case.path.startswith(_ENDS_SESSIONS)
        label = case.operation.label
        self.outcomes.statuses.setdefault(label, Counter())[response.status_code] += 1
        is_faithful = not is_real and case.path != _READS_ANYTHING
        try:
            case.validate_response(response, checks=CHECKS + [negative_data_rejection] * is_faithful)
        except FailureGroup as error:
            self.outcomes.failures.append(f"{label}: {response.status_code} {error}\n{case.as_curl_command()}")

    def _put_real_values(self, case: Case[Any]) -> None:
        """Replace what no generator guesses, in the path and in a body that is an object."""
        for values in (case.path_parameters, case.body):
            if isinstance(values, dict):
                values.update({name: value for name, value in self._real.items() if name in values})
        if case.path == "/v1/public/signup" and isinstance(case.body, dict):
            case.body["email"] = f"{secrets.token_hex(6)}@example.com"

    def _headers(self, path: str, lacks: str) -> dict[str, str]:
        """Return the credentials of a request: a route of the dashboard refuses a request with a key."""
        if path == _WHO_AM_I:
            return {} if lacks else {"x-api-key": self._api_key}
        sent = {"origin": self._url} | ({} if lacks == "token" else {"x-csrf-token": self._token})
        return sent | ({"x-api-key": self._api_key} if lacks == "sense" else {})

    def _has_session(self) -> bool:
        return self._session.get(f"{self._url}/v1/dashboard/keys", timeout=20).ok

    def _log_in(self) -> None:
        """Start anew: another owner, at another address, with a key, a second session and a waiting device."""
        owner = PortalClient(self._url)
        self._api_key = owner.sign_up()["api_key"]
        owner.log_in()
        session_id = owner.session("GET", "/sessions").json()[0]["id"]
        owner.log_in()
        made = owner.session("POST", "/keys", {"name": "fuzzed", "scopes": list(ALL_SCOPES)}).json()
        device = owner.public("device/start", {}).json()
        self._real: dict[str, Any] = {
            **owner.credentials(),
            "key_id": made["key"]["id"],
            "session_id": session_id,
            "user_code": device["user_code"],
            "device_code": device["device_code"],
            "scopes": list(ALL_SCOPES[:3]),
            "expires_at": None,
            "overlap_s": 60,
        }
        owner.client.close()
        self._token = owner.token
        self._session, self._stranger = _session(owner.address), _session(owner.address)
        self._session.cookies.set("session", owner.cookie)


def _session(address: str) -> requests.Session:
    session = requests.Session()
    session.trust_env = False
    session.mount("http://", FromAddress(address))
    return session
