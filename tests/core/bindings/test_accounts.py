"""Account ids in requests are read in one way only, or not at all."""

import json

import pytest
from support.builders import KEY, policy, request, take

from authz.core.bindings.accounts import Unreadable, named_accounts
from authz.core.bindings.json_body import BODY_BYTES_MAX, MEMBERS_MAX, VALUES_MAX
from authz.core.bindings.query import PAIRS_MAX, QUERY_BYTES_MAX
from authz.core.check import Allow, BodyForm, Decision, Deny, Lookup, RequestAttributes
from authz.core.decision import conclude, plan
from authz.core.errors import DenyReason

POLICY = policy()
SCOPES = ("servers:read", "servers:write", "billing:read")


def lookup(attributes: RequestAttributes) -> Lookup:
    planned = plan(POLICY, attributes)
    assert isinstance(planned, Lookup)
    return planned


def named(attributes: RequestAttributes) -> tuple[list[str], DenyReason | None]:
    planned = lookup(attributes)
    assert planned.route is not None
    assert planned.named is not None
    try:
        return named_accounts(planned.route, planned.named), None
    except Unreadable as error:
        return [], error.reason


def listing(query: str) -> RequestAttributes:
    return request("GET", f"/v1/servers?{query}", KEY)


def create(
    body: bytes, *, has_body: bool = True, content_type: str = "application/json", is_partial: bool = False
) -> RequestAttributes:
    form = BodyForm(content_type, is_partial)
    return request("POST", "/v1/servers", KEY, body=body, has_body=has_body, body_form=form)


def decided(attributes: RequestAttributes) -> Decision:
    return conclude(lookup(attributes), take(*SCOPES))


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/v1/servers", []),
        ("/v1/servers?limit=1", []),
        ("/v1/servers?account_id=a", ["a"]),
        ("/v1/servers?account%5Fid=a%62", ["ab"]),
        ("/v1/servers?accountId=a&limit=2", ["a"]),
        ("/v1/servers?account_id=", []),
        ("/v1/servers?account_id", []),
        ("/v1/servers?q=account_id", []),
        ("/v1/servers?my_account_ids=b&account_id=a", ["a"]),
        ("/v1/servers?q=100%&account_id=a", ["a"]),
        ("/v1/accounts/a%3Ab/wallet", ["a:b"]),
    ],
)
def test_an_account_is_found_where_the_route_says(target: str, expected: list[str]) -> None:
    assert named(request("GET", target, KEY)) == (expected, None)


def test_a_repeated_parameter_is_refused_in_either_spelling() -> None:
    for query in ("account_id=a&account_id=a", "account_id=a&accountId=a", "account_id=&account_id=a"):
        assert named(listing(query)) == ([], DenyReason.ACCOUNT_REPEATED)


@pytest.mark.parametrize(
    "query",
    [
        "ACCOUNT_ID=b", "Account-Id=b", "account.id=b", "account%20id=b", "account+id=b", "account%09id=b",
        "account_id[]=b", "account_id%5B%5D=b", "account_id[0]=b", "account_id[$ne]=b", "account[id]=b",
        "account_id[=b", "[account_id]=b", "filter[account_id]=b", "__proto__[account_id]=b", "account_id.0=b",
        "account_id%00=b", "account_id%00x=b", "%00account_id=b", "+account_id=b", "account_id+=b", "%0aaccount_id=b",
        "account_id%0d=b", "accountid=b", "account__id=b", "%EF%BD%81ccount_id=b", "account_%C4%B1d=b",
        "%E2%84%81ccount_id=b&accountid", "acco%C3%BAnt_id=b", "account_id%E2%80%8B=b", "account%2525_id=b",
        "account%255Fid=b", "account_id%=b", "%u0061ccount_id=b", "%C1%A1ccount_id=b", "%ffaccount_id=b",
        "x=1;account_id=b", "account_id=a;x=1", "account_id=a&x=1;account_id=b", "x=1%26account_id=b",
        "x=1%2526account_id=b", "amp;account_id=b", "account_id=a&ACCOUNT_ID=b", "account_id%3Db",
        "x%3D1%3Baccount_id=b",
    ],
)  # fmt: skip
def test_another_spelling_of_a_bound_parameter_is_refused(query: str) -> None:
    _, reason = named(listing(query))
    assert reason in {DenyReason.ACCOUNT_AMBIGUOUS, DenyReason.ACCOUNT_REPEATED}
    assert isinstance(decided(listing(f"{query}&account_id=acct_1")), Deny)


def test_a_query_is_read_within_bounds() -> None:
    pairs = "&".join(["a=1"] * (PAIRS_MAX - 1))
    assert named(listing(f"{pairs}&account_id=a")) == (["a"], None)
    for query in (f"{pairs}&a=1&account_id=a", "a" * QUERY_BYTES_MAX + "&account_id=a"):
        assert named(listing(query)) == ([], DenyReason.ACCOUNT_AMBIGUOUS)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"accountId": "a", "name": "x"}', ["a"]),
        (b'{"account_id": "a"}', ["a"]),
        (b'{"\\u0061ccountId": "a"}', ["a"]),
        (b'{"name": "x"}', []),
        (b'{"accountId": null}', []),
        (b'{"accountId": ""}', []),
        (b'{"nested": {"accountId": "b"}, "accountId": "a"}', ["a"]),
        (b'{"n": 1e999999, "m": ' + b"9" * 10_000 + b', "accountId": "a"}', ["a"]),
        (b' \t\r\n{"accountId": "a"}\n', ["a"]),
    ],
)
def test_an_account_in_the_body_is_found(body: bytes, expected: list[str]) -> None:
    assert named(create(body)) == (expected, None)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"accountId": "a", "accountId": "b"}', DenyReason.ACCOUNT_REPEATED),
        (b'{"accountId": "a", "account_id": "a"}', DenyReason.ACCOUNT_REPEATED),
        (b'{"accountId": "", "accountId": "a"}', DenyReason.ACCOUNT_REPEATED),
        *(
            (body, DenyReason.BODY_UNREADABLE)
            for body in (
                b'{"ACCOUNTID": "a"}', b'{"Account-Id": "a"}', b'{"account.id": "a"}', b'{"account id": "a"}',
                b'{"accountId[]": "a"}', b'{"accountId\\u0000": "a"}', b'{"accountId\\ud800": "a"}',
                b'{"accountId!": "a"}', b'{"\\uff41ccountId": "a"}', b'{"accountId\xff": "a"}',
                b'{"account": {"id": "a"}}', b'{"account": {"Id": "a"}, "accountId": "b"}',
                b'{"__proto__": {"accountId": "a"}}', b'{"filter.accountId": "a"}', b'{"_method": "DELETE"}',
                b'{"accountId": 7}', b'{"accountId": true}', b'{"accountId": ["a"]}', b'{"accountId": {"a": "b"}}',
                b'["accountId"]', b"accountId=a", b'{"accountId": "a"', b'{"accountId": "a"}{}', b"{'accountId': 'a'}",
                b'{"accountId": "a",}', b'{"a": NaN}', b'{"a": Infinity}', b'{"a": 01}', b'/**/{"accountId": "a"}',
                b"\xff\xfe{\x00}\x00", '{"accountId": "a"}'.encode("utf-16"), b'\xef\xbb\xbf{"accountId": "a"}',
                b'{"x":' * 10_000, b"", b"  ", b"null", b'"a"',
                b'{"a": [' + b"0," * VALUES_MAX + b"0]}",
                b"{" + b",".join(b'"%d": 0' % number for number in range(MEMBERS_MAX + 1)) + b"}",
            )
        ),
    ],
)  # fmt: skip
def test_a_body_that_can_be_read_in_two_ways_is_refused(body: bytes, expected: DenyReason) -> None:
    assert named(create(body)) == ([], expected)


@pytest.mark.parametrize(
    "content_type",
    ["application/json", "Application/JSON", "application/json; charset=utf-8", 'application/json;charset="UTF-8"'],
)
def test_json_in_utf_8_is_read(content_type: str) -> None:
    assert named(create(b'{"accountId": "a"}', content_type=content_type)) == (["a"], None)


@pytest.mark.parametrize(
    "content_type",
    [
        "", "text/plain", "text/json", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x",
        "application/json; charset=utf-16", "application/json; charset=latin1", "application/json; x=1",
        "application/json; charset=utf-8; charset=utf-16", "application/json,text/plain", "application/json;",
        "application/vnd.api+json", "application/merge-patch+json", "application/jsonx", "application/grpc",
        "application/json\x00",
    ],
)  # fmt: skip
def test_a_body_of_another_content_type_is_refused(content_type: str) -> None:
    body = b'{"accountId": "a"}'
    assert named(create(body, content_type=content_type)) == ([], DenyReason.BODY_NOT_JSON)
    empty = DenyReason.BODY_NOT_JSON if content_type else DenyReason.BODY_UNREADABLE
    assert named(create(b"", content_type=content_type)) == ([], empty)


def test_a_body_that_a_backend_would_decompress_is_refused() -> None:
    form = BodyForm("application/json", is_encoded=True)
    body = b'{"accountId": "acct_1"}'
    assert named(request("POST", "/v1/servers", KEY, body=body, body_form=form)) == ([], DenyReason.BODY_NOT_JSON)


def test_a_body_that_is_not_whole_is_refused() -> None:
    whole = b'{"accountId": "a"}'
    assert named(create(whole, is_partial=True)) == ([], DenyReason.BODY_TOO_LARGE)
    assert named(create(whole + b" " * BODY_BYTES_MAX)) == ([], DenyReason.BODY_TOO_LARGE)


def test_a_request_without_a_body_names_no_account() -> None:
    assert named(create(b"", has_body=False, content_type="")) == ([], None)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("target", ["/v1/servers", "/v1/servers?account_id=acct_1", "/v1/accounts/acct_1/wallet"])
def test_a_row_that_can_bind_no_body_refuses_one(method: str, target: str) -> None:
    """Rails, Laravel and Express read a JSON body of a GET, too, and Laravel prefers it to the query."""
    assert isinstance(decided(request(method, target, KEY)), Allow)
    for body in (b"", b'{"account_id": "acct_2"}', b"{}"):
        denied = decided(request(method, target, KEY, body=body, has_body=not body))
        assert isinstance(denied, Deny)
        assert denied.reason is DenyReason.BODY_UNREADABLE


def test_few_names_may_resemble_a_bound_one() -> None:
    """Each of them costs more to look at than others."""
    like = ['"my_account_id_x%d": 1', '"a%d": {"ccountId": 1}', '"account.%d": {"b.c": 1}']
    for text in like:
        others = [text % number for number in range(8)]
        assert named(create(b'{"accountId": "a", %b}' % ", ".join(others).encode())) == (["a"], None)
    for text in (like[0], '"account_": {"%d": 1}', '"ACCOUNT": {"x%d": 1}'):
        others = [text % number for number in range(9)]
        body = b'{"accountId": "a", %b}' % ", ".join(others).encode()
        assert named(create(body)) == ([], DenyReason.BODY_UNREADABLE)


def test_a_member_of_a_bound_name_in_two_parts_has_no_nul() -> None:
    for member in ("i\\u0000d", "\\u0000", "x\\u0000id", "i_d", "\uff49d"):
        body = f'{{"account": {{"a": 1, "{member}": "b"}}, "accountId": "a"}}'.encode()
        assert named(create(body)) == ([], DenyReason.BODY_UNREADABLE)


def test_a_required_account_must_be_named() -> None:
    for query in ("", "?account_id="):
        assert named(request("GET", f"/v1/reports{query}", KEY)) == ([], DenyReason.ACCOUNT_ABSENT)
    assert named(request("GET", "/v1/reports?account_id=a", KEY)) == (["a"], None)


def test_a_route_without_bindings_reads_nothing() -> None:
    assert lookup(request("GET", "/v1/whoami?account_id=a", KEY)).named is None


def test_the_own_account_passes_and_a_foreign_one_does_not() -> None:
    for own, foreign in (
        (listing("account_id=acct_1"), listing("account_id=acct_2")),
        (create(b'{"accountId": "acct_1"}'), create(b'{"accountId": "acct_2"}')),
        (request("GET", "/v1/accounts/acct_1/wallet", KEY), request("GET", "/v1/accounts/acct_2/wallet", KEY)),
    ):
        assert isinstance(decided(own), Allow)
        denied = decided(foreign)
        assert isinstance(denied, Deny)
        assert denied.reason is DenyReason.ACCOUNT_MISMATCH


def test_the_log_says_what_could_not_be_read() -> None:
    denied = decided(listing("ACCOUNT_ID=acct_1"))
    assert isinstance(denied, Deny)
    assert denied.detail == "another spelling of a bound name"


@pytest.mark.parametrize(
    "query",
    ["_method=DELETE", "a=1&_method=DELETE", "%5Fmethod=PUT", "_METHOD=PUT", "_method[]=PUT", "_method", ".method=PUT",
     "+_method=PUT", "x-http-method-override=PUT", "X_HTTP_Method=PUT", "a=1;_method=PUT", "_method%00=PUT",
     "a=" + "b" * 60_000 + "&_method=PUT", "%" * 20_000],
)  # fmt: skip
def test_a_parameter_that_names_another_method_is_refused_once_the_key_proved_valid(query: str) -> None:
    denied = decided(request("POST", f"/v1/servers/s1:start?{query}", KEY))
    assert isinstance(denied, Deny)
    assert denied.reason in {DenyReason.METHOD_OVERRIDDEN, DenyReason.ACCOUNT_AMBIGUOUS}


@pytest.mark.parametrize(
    "query", ["payment_method=card", "method=x", "a=%5Fmethodical", "_methods=1", "my_method=1", "%zz"]
)
def test_other_parameters_about_methods_pass(query: str) -> None:
    assert isinstance(decided(request("POST", f"/v1/servers/s1:start?{query}", KEY)), Allow)


@pytest.mark.parametrize(
    "query",
    [
        "%61ccount_idx=1" + "%26a" * PAIRS_MAX,
        "&".join(["%C3%A9=1"] * 9) + "&account_idx=1",
        "%C3%A9" * 65 + "=1&x=account_id",
        "account_idx" + "." * 1100 + "=1",
        "account_id=a&q=%26x%26account_id",
    ],
)
def test_a_query_that_would_cost_much_to_read_is_refused(query: str) -> None:
    assert named(listing(query)) == ([], DenyReason.ACCOUNT_AMBIGUOUS)


@pytest.mark.parametrize(
    "body",
    [
        {"é" * 60 + str(number): 0 for number in range(40)},
        {"account": {str(number): 0 for number in range(MEMBERS_MAX + 1)}},
        {"é" * 70: 0},
        {"accountid." * 200: 0},
    ],
)
def test_a_body_that_would_cost_much_to_read_is_refused(body: dict[str, object]) -> None:
    text = json.dumps({**body, "accountId": "a"}, ensure_ascii=False).encode()
    assert named(create(text)) == ([], DenyReason.BODY_UNREADABLE)


def test_other_names_outside_ascii_are_no_spelling_of_a_bound_one() -> None:
    assert named(create('{"größe": 1, "accountId": "a"}'.encode())) == (["a"], None)
    assert named(listing("gr%C3%B6%C3%9Fe=1&account_id=a")) == (["a"], None)
