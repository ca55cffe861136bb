"""`authz demo --tour`: each kind of response through Envoy, with the expected and the actual values.

The servers are `stack.py`.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import httpx
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from authz.core.accounts import AuditEvent
from authz.core.keys import ENTROPY_BYTES, KeyFormat
from authz.core.limits import Limit
from authz.demo.portal_tour import Outcome, PortalTour
from authz.demo.stack import Stack

_FILE_WIDTH = 140
_FORMAT = KeyFormat("ttk_")
_ECHO = {"x-demo-echo": "1"}
_STREAM = "/v1/servers/s1/logs/stream?tail=2"

Facts = Mapping[str, Any]
"""A response: the status, the headers, and the fields of the body that a step may expect."""


@dataclass(frozen=True, slots=True)
class Step:
    """One request and the expected response.

    `key` names one of the tour's keys, "" sends none. `expected` maps "status", header names, and "message" (of a JSON
    refusal), "text" (the whole body) or "backend:NAME" (a header that the backend received) to the expected value; None
    means absent and "*" any value. `held` is the number of log streams that the key has open meanwhile.
    """

    title: str
    method: str
    target: str
    key: str
    expected: Mapping[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)
    times: int = 1
    held: int = 0


def _steps(account_id: str) -> tuple[Step, ...]:
    bad_key = {"status": 401, "message": "invalid or missing api key", "www-authenticate": "*"}
    identity = {"backend:x-authz-account-id": account_id, "backend:x-authz-scopes": "servers:read"}
    limits = {
        "ratelimit-policy": '"default";q=120;w=60, "account";q=3003;w=59',
        "x-ratelimit-limit": "120",
        "x-ratelimit-remaining": "*",
    }
    forged = {"x-authz-account-id": "acct_forged"}
    empty = {"retry-after": "1", "x-ratelimit-remaining": "0", "message": "rate limit exceeded"}
    preflight = {"origin": "https://app.example", "access-control-request-method": "GET"}
    return (
        Step("allow", "GET", "/v1/servers", "reader", {"status": 200, **limits}),
        Step("allow: the backend knows the caller, not the key", "GET", "/v1/servers/s1", "reader",
             {"status": 200, **identity, "backend:x-api-key": None}, _ECHO),
        Step("allow: a forged identity is replaced", "GET", "/v1/servers/s1", "reader",
             {"status": 200, **identity}, _ECHO | forged),
        Step("allow: a public route needs no key", "POST", "/v1/public/device/start", "",
             {"status": 200, "backend:x-authz-account-id": None}, _ECHO | forged),
        Step("allow: a log stream", "GET", _STREAM, "reader",
             {"status": 200, "content-type": "text/event-stream; charset=utf-8"}),
        Step("400 an ambiguous path", "POST", "/v1/servers/s1%3Astart", "writer",
             {"status": 400, "message": "bad request"}),
        Step("401 no key", "GET", "/v1/servers", "", bad_key),
        Step("401 a malformed key", "GET", "/v1/servers", "malformed", bad_key),
        Step("401 a key that does not exist", "GET", "/v1/servers", "unknown", bad_key),
        Step("401 a revoked key", "GET", "/v1/servers", "revoked", bad_key),
        Step("401 as text, on the log stream", "GET", "/v1/servers/s1/logs/stream", "",
             {"status": 401, "text": "unauthorized\n"}),
        Step("403 a scope the key lacks", "POST", "/v1/servers/s1:start", "reader",
             {"status": 403, "message": "missing scope servers:write"}),
        Step("403 barred for every key", "GET", "/v1/admin/users", "writer",
             {"status": 403, "message": "forbidden"}),
        Step("403 another account", "GET", "/v1/servers?account_id=acct_other", "reader",
             {"status": 403, "message": "account mismatch"}),
        Step("403 a key on the dashboard", "GET", "/dashboard/keys", "reader",
             {"status": 403, "message": "forbidden"}),
        Step("404 no such route", "GET", "/v1/nowhere", "reader", {"status": 404, "message": "not found"}),
        Step("405 another method", "PUT", "/v1/servers", "reader", {"status": 405, "allow": "GET, HEAD, POST"}),
        Step("429 an empty bucket", "GET", "/v1/servers", "small", {"status": 429, **empty}, times=4),
        Step("allow: a third log stream beside two others", "GET", _STREAM, "writer",
             {"status": 200, "ratelimit": "*", "content-type": "text/event-stream; charset=utf-8"}, held=2),
        Step("429 a fourth log stream", "GET", _STREAM, "reader",
             {"status": 429, "text": "too many concurrent log streams for this key\n", "retry-after": None}, held=3),
        Step("a preflight needs no key", "OPTIONS", "/v1/servers", "",
             {"status": 200, "access-control-allow-origin": "https://app.example"}, preflight),
    )  # fmt: skip


def walk(stack: Stack, console: Console) -> int:
    """Run all steps and print the outcome; returns 0 if all are as expected, else 1."""
    keys = _keys(stack)
    table = Table("", "step", "expected", "seen", title="authz, through Envoy")
    failures = 0
    with httpx.Client(base_url=stack.url, trust_env=False, timeout=5) as client:
        for title, expected, seen in _outcomes(client, stack, keys):
            differing = {name for name, value in expected.items() if not _fits(value, seen.get(name))}
            failures += bool(differing)
            mark = "[red]✗[/red]" if differing else "[green]✓[/green]"
            table.add_row(mark, title, *_columns(expected, seen, differing))
    console.print(table, width=None if console.is_terminal else _FILE_WIDTH, crop=False)
    console.print(f"{failures} of the steps differ" if failures else "everything as expected")
    return 1 if failures else 0


def _outcomes(client: httpx.Client, stack: Stack, keys: Mapping[str, str]) -> Iterator[Outcome]:
    for step in _steps(stack.account_id):
        yield step.title, step.expected, _take(client, step, keys)
    if stack.portal is not None:
        yield from PortalTour(client, stack).outcomes()


def _keys(stack: Stack) -> dict[str, str]:
    revoked = stack.create_key("revoked", "servers:read")
    stack.change_key(revoked.key.id, AuditEvent.KEY_REVOKED)
    return {
        "reader": stack.create_key("reader", "servers:read").secret,
        "writer": stack.create_key("writer", "servers:read", "servers:write").secret,
        "small": stack.create_key("small", "servers:read", limit=Limit(capacity=3, refill_per_s=1)).secret,
        "revoked": revoked.secret,
        "unknown": _FORMAT.mint(bytes(ENTROPY_BYTES)),
        "malformed": "ttk_not-a-key",
    }


def _take(client: httpx.Client, step: Step, keys: Mapping[str, str]) -> Facts:
    headers = dict(step.headers) | ({"x-api-key": keys[step.key]} if step.key else {})
    with ExitStack() as held:
        for _ in range(step.held):
            held.enter_context(client.stream("GET", _STREAM, headers=headers))
        for _ in range(step.times):
            with client.stream(step.method, step.target, headers=headers) as answer:
                is_stream = answer.headers.get("content-type", "").startswith("text/event-stream")
                body = next(answer.iter_text(), "") if is_stream else answer.read().decode()
    facts: dict[str, Any] = {"status": answer.status_code, "text": body, **answer.headers}
    if answer.headers.get("content-type") == "application/json":
        document = answer.json()
        facts["message"] = document.get("message")
        facts |= {f"backend:{name}": value for name, value in document.get("headers", [])}
    return facts


def _fits(expected: Any, seen: Any) -> bool:  # noqa: ANN401 -- statuses and texts
    return seen is not None if expected == "*" else bool(expected == seen)


def _columns(expects: Mapping[str, Any], seen: Facts, differing: set[str]) -> tuple[str, str]:
    def line(name: str, value: Any) -> str:  # noqa: ANN401 -- statuses and texts
        text = f"{name}: {str(value).strip() if value is not None else '-'}"
        return f"[red]{escape(text)}[/red]" if name in differing else escape(text)

    expected = "\n".join(line(name, value) for name, value in expects.items())
    shown = {**seen, "api_key": "*"} if seen.get("api_key") else seen
    return expected, "\n".join(line(name, shown.get(name)) for name in expects)
