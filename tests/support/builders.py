"""Small values that many tests need: a policy, a key, a request, a take."""

from authz.core.check import BodyForm, Bucket, KeyRecord, KeyState, RequestAttributes, Take, TakeOutcome
from authz.core.keys import KeyFormat
from authz.core.limits import Limit
from authz.core.policy.overrides import Override
from authz.core.policy.policy import KeyRules, Policy, RateHeaders, Scope
from authz.core.policy.route import Access, AccountBinding, BindingLocation, ErrorFormat, Route
from authz.core.policy.router import Router
from authz.core.streams import StreamClass

FORMAT = KeyFormat("ttk_")
KEY = FORMAT.mint(bytes(range(32)))
KEYS = KeyRules(header="x-api-key", format=FORMAT, active_max=25)
JSON = BodyForm("application/json")
LIMIT = Limit(capacity=120, refill_per_s=2)
LOGS = StreamClass("logs", per_key=3, per_account=10, ttl_s=60, title="log streams")

ROUTES = (
    Route("GET", "/v1/whoami", Access.ANY),
    Route("GET", "/v1/servers/{id}", Access.SCOPE, "servers:read"),
    Route(
        "GET",
        "/v1/servers",
        Access.SCOPE,
        "servers:read",
        accounts=(
            AccountBinding(BindingLocation.QUERY, "account_id"),
            AccountBinding(BindingLocation.QUERY, "accountId"),
        ),
    ),
    Route(
        "POST",
        "/v1/servers",
        Access.SCOPE,
        "servers:write",
        accounts=(
            AccountBinding(BindingLocation.BODY, "accountId"),
            AccountBinding(BindingLocation.BODY, "account_id"),
        ),
    ),
    Route("POST", "/v1/servers/{id}:start", Access.SCOPE, "servers:write"),
    Route("GET", "/v1/servers/{id}/logs/stream", Access.SCOPE, "servers:read", errors=ErrorFormat.TEXT, stream="logs"),
    Route(
        "GET",
        "/v1/accounts/{account_id}/wallet",
        Access.SCOPE,
        "billing:read",
        accounts=(AccountBinding(BindingLocation.PATH, "account_id"),),
    ),
    Route(
        "GET",
        "/v1/reports",
        Access.ANY,
        accounts=(AccountBinding(BindingLocation.QUERY, "account_id"),),
        account_required=True,
        cost=5,
    ),
    Route("GET", "/v1/shadowed", Access.SCOPE, "servers:read", shadow=True),
    Route("POST", "/v1/public/login", Access.PUBLIC),
    Route("*", "/dashboard/**", Access.SESSION),
    Route("*", "/v1/admin/**", Access.BARRED),
)


def policy(*routes: Route, limit: Limit = LIMIT, rate_headers: RateHeaders | None = None) -> Policy:
    table = routes or ROUTES
    names = {route.scope for route in table if route.scope}
    return Policy(
        api="truetick",
        domain="api.truetick.example",
        keys=KEYS,
        limit=limit,
        rate_headers=rate_headers or RateHeaders(),
        methods=frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}),
        scopes={name: Scope(name, name) for name in names},
        streams={LOGS.name: LOGS},
        routes=table,
        router=Router(table),
    )


def request(
    method: str = "GET",
    target: str = "/v1/servers/s1",
    *api_keys: str,
    body: bytes = b"",
    has_body: bool = False,
    is_grpc: bool = False,
    reserved_headers: tuple[str, ...] = (),
    overrides: Override | None = None,
    body_form: BodyForm = JSON,
) -> RequestAttributes:
    return RequestAttributes(
        request_id="1",
        method=method,
        target=target,
        api_keys=tuple(key.encode() for key in api_keys),
        is_grpc=is_grpc,
        overrides=overrides,
        body_form=body_form,
        has_body=has_body,
        body=body,
        source_address=lambda: "203.0.113.9",
        reserved_headers=reserved_headers,
    )


def record(*scopes: str, state: KeyState = KeyState.ACTIVE, revision: int = 1) -> KeyRecord:
    return KeyRecord(
        state=state,
        revision=revision,
        key_id="key_1",
        account_id="acct_1",
        scopes=frozenset(scopes or {"servers:read"}),
    )


def take(
    *scopes: str, outcome: TakeOutcome = TakeOutcome.GRANTED, remaining: float = 119, limit: Limit = LIMIT
) -> Take:
    return Take(outcome, record(*scopes), Bucket.of(limit, remaining))
