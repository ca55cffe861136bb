"""Requests of callers: every row of the policy with random ids, from clients of many kinds, some to be refused.

Requests are values that know the expected answer. Callers are in `callers.py`, the HTTP client is in `http.py`.
"""

import json
import random
import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from bench.load.callers import EMPTY, SCOPES, TIRELESS, Caller

from authz.core.errors import DENIALS, DenyReason
from authz.core.keys import ENTROPY_BYTES
from authz.core.policy.policy import Policy
from authz.core.policy.route import Access, BindingLocation, Route

ALLOWED = 0
STATUSES = {ALLOWED: 200} | {int(denial.code): denial.http for denial in DENIALS.values()}
"""HTTP statuses by gRPC code."""

_SEGMENT = re.compile(r"\{(\w+)\}|\*\*")
_CLIENTS: tuple[dict[str, str], ...] = (
    {"user-agent": "curl/8.5.0", "accept": "*/*"},
    {"user-agent": "python-requests/2.32.3", "accept": "*/*", "accept-encoding": "gzip, deflate"},
    {"user-agent": "Go-http-client/1.1", "accept-encoding": "gzip"},
    {"user-agent": "node", "accept": "*/*", "accept-language": "*", "sec-fetch-mode": "cors"},
    {"user-agent": "okhttp/4.12.0", "accept-encoding": "gzip", "content-type": "text/plain"},
    {"user-agent": "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0", "accept": "*/*",
     "accept-language": "de,en;q=0.7", "dnt": "1", "content-type": "application/json"},
    {"user-agent": "truetick/1.4.2", "accept": "application/json", "content-type": "application/json; charset=utf-8"},
    {"user-agent": "Java-http-client/21.0.4", "content-type": "application/json", "tracestate": "vendor=1"},
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One request of a client's. `codes` are the gRPC codes that authz may answer it with, 0 for an allow.

    `has_known_key` is all that a proxy can tell that knows the keys and nothing more.
    """

    method: str
    target: str
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    body: bytes
    codes: frozenset[int]
    has_known_key: bool

    def as_bytes(self) -> bytes:
        """Write the request as HTTP/1.1."""
        lines = [f"{self.method} {self.target} HTTP/1.1", *(f"{name}: {value}" for name, value in self.headers)]
        return "\r\n".join([*lines, "", ""]).encode() + self.body


class Traffic:
    """Draws requests by their shares in traffic: the same from the same `chance`."""

    def __init__(self, policy: Policy, callers: Sequence[Caller], chance: random.Random) -> None:
        self._policy = policy
        self._chance = chance
        self._empty = [caller for caller in callers if caller.limit is EMPTY]
        self._with: dict[str, list[Caller]] = defaultdict(list)
        self._without: dict[str, list[Caller]] = defaultdict(list)
        for caller in callers:
            for scope in () if caller.limit is EMPTY else SCOPES:
                (self._with if scope in caller.scopes else self._without)[scope].append(caller)
        self._rows: dict[Access, list[Route]] = defaultdict(list)
        for route in policy.routes:
            self._rows[route.access].append(route)
        # Out of a thousand requests; whatever is left is allowed.
        self._kinds: tuple[tuple[int, Callable[[], HttpRequest]], ...] = (
            (10, self._unknown),
            (50, self._limited),
            (20, self._scope_missing),
            (5, self._barred),
            (5, self._unrouted),
            (10, self._keyless),
            (900, self._allowed),
        )

    def draw(self, count: int) -> list[HttpRequest]:
        """Draw `count` requests."""
        weights, kinds = zip(*self._kinds, strict=True)
        return [kind() for kind in self._chance.choices(kinds, weights, k=count)]

    def _allowed(self) -> HttpRequest:
        route = self._chance.choice(self._rows[Access.SCOPE] + self._rows[Access.ANY])
        caller = self._chance.choice(self._with[route.scope or self._chance.choice(SCOPES)])
        # Streams are counted, and nobody ends those that a load opens.
        return self._request(route, caller, *((DenyReason.RATE_LIMITED,) if route.stream else ()), may_pass=True)

    def _unknown(self) -> HttpRequest:
        secret = self._policy.keys.format.mint(self._chance.randbytes(ENTROPY_BYTES))
        stranger = Caller(secret, "acct_none", frozenset(), TIRELESS)
        # One address sends all of them, which is a flood.
        reasons = (DenyReason.KEY_UNKNOWN, DenyReason.ADDRESS_THROTTLED)
        return self._request(self._chance.choice(self._rows[Access.SCOPE]), stranger, *reasons)

    def _limited(self) -> HttpRequest:
        route = self._chance.choice(self._rows[Access.SCOPE])
        return self._request(route, self._chance.choice(self._empty), DenyReason.RATE_LIMITED)

    def _scope_missing(self) -> HttpRequest:
        route = self._chance.choice([row for row in self._rows[Access.SCOPE] if self._without[row.scope]])
        return self._request(route, self._chance.choice(self._without[route.scope]), DenyReason.SCOPE_MISSING)

    def _barred(self) -> HttpRequest:
        caller = self._chance.choice(self._with[self._chance.choice(SCOPES)])
        return self._request(self._chance.choice(self._rows[Access.BARRED]), caller, DenyReason.BARRED)

    def _unrouted(self) -> HttpRequest:
        caller = self._chance.choice(self._with[self._chance.choice(SCOPES)])
        return self._request(Route("GET", "/v2/{id}/none", Access.ANY), caller, DenyReason.ROUTE_UNKNOWN)

    def _keyless(self) -> HttpRequest:
        rows = self._rows[Access.PUBLIC] + self._rows[Access.SESSION]
        return self._request(self._chance.choice(rows), None, may_pass=True)

    def _request(
        self, route: Route, caller: Caller | None, *reasons: DenyReason, may_pass: bool = False
    ) -> HttpRequest:
        method = "GET" if route.method == "*" else route.method
        target, body = self._target(route, caller), self._body(route, caller)
        headers = {"host": "api.truetick.example", **self._chance.choice(_CLIENTS)}
        if self._chance.random() < 0.25:
            headers["traceparent"] = f"00-{self._chance.randbytes(16).hex()}-{self._chance.randbytes(8).hex()}-01"
        if method in {"GET", "DELETE"}:
            headers.pop("content-type", None)
        else:
            headers["content-length"] = str(len(body))
        if body:
            headers["content-type"] = "application/json"
        if caller is not None:
            headers[self._policy.keys.header] = caller.secret
        codes = {int(DENIALS[reason].code) for reason in reasons} | ({ALLOWED} if may_pass else set())
        known = caller is not None and DenyReason.KEY_UNKNOWN not in reasons
        return HttpRequest(method, target, tuple(headers.items()), body, frozenset(codes), known)

    def _target(self, route: Route, caller: Caller | None) -> str:
        """Fill a template in: the caller's own account, ids at random, and on some a query."""
        account_id = "" if caller is None else caller.account_id
        template = route.template.replace(".**", ".Service/Method")
        path = _SEGMENT.sub(lambda found: account_id if found[1] == "account_id" else self._id(), template)
        names = [binding.name for binding in route.accounts if binding.location is BindingLocation.QUERY]
        query = [f"{names[0]}={account_id}"] if names else []
        if route.method == "GET" and self._chance.random() < 0.3:
            query.append(self._chance.choice(("limit=50", "tail=200", f"cursor={self._id()}")))
        return f"{path}?{'&'.join(query)}" if query else path

    def _body(self, route: Route, caller: Caller | None) -> bytes:
        if route.method != "POST":
            return b""
        names = [binding.name for binding in route.accounts if binding.location is BindingLocation.BODY]
        return json.dumps({"name": self._id()} | ({names[0]: caller.account_id} if names and caller else {})).encode()

    def _id(self) -> str:
        return f"{self._chance.choice(('srv', 's', 'bk'))}-{self._chance.getrandbits(40):x}"
