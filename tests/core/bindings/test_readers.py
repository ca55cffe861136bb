"""No backend reads a foreign account in a request that is allowed, however the account is spelled."""

import json
from itertools import product

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.builders import KEY, policy, request, take
from support.readers import READERS, Reader

from authz.core.check import Allow, BodyForm, Lookup
from authz.core.decision import conclude, plan
from authz.core.policy.route import Access, AccountBinding, BindingLocation, Route

OWN, FOREIGN = "acct_1", "acct_foreign"
NAMES = ("account_id", "accountId")
POLICY = policy(
    Route(
        "POST",
        "/t",
        Access.ANY,
        accounts=tuple(
            AccountBinding(location, name)
            for location in (BindingLocation.QUERY, BindingLocation.BODY)
            for name in NAMES
        ),
    )
)
QUERY_SPELLINGS = (
    "account_id", "accountId", "ACCOUNT_ID", "Account_Id", "AccountId", "accountid", "ACCOUNTID", "account-id",
    "account.id", "account%2Eid", "account+id", "account%20id", "account%09id", "+account_id", "%20account_id",
    "account_id+", "account_id%20", "account_id%0A", "account%5Fid", "%61ccount_id", "%61%63%63%6f%75%6e%74_id",
    "account_id[]", "account_id%5B%5D", "account_id[0]", "account_id[x]", "account_id[$ne]", "account_id[a][b]",
    "account_id[", "account_id]", "[account_id]", "[]account_id", "account[id", "account[id]", "account_id.0",
    "account_id.x", "__proto__[account_id]", "constructor[prototype][account_id]", "__proto__.account_id",
    "account_id%00", "account_id%00x", "account_id%00[]", "%00account_id", "account%00_id", "!accountId", "_accountId",
    "!account_id", "accountId[0]", "accountId.value", "account_%C4%B1d", "%E2%84%80account_id", "%EF%BD%81ccount_id",
    "account_id%E2%80%8B", "account_id%C2%A0", "account_id%FF", "%C1%A1ccount_id", "%u0061ccount_id", "account%u005Fid",
    "account%255Fid", "%2561ccount_id", "x;account_id", "x=1;account_id", "x=1%26account_id", "x=1%3Baccount_id",
    "x=1%2526account_id", "amp;account_id", "account_id%3D", "x%3D1%26account_id", "a%zz%26account_id", "account_id%",
)  # fmt: skip
JSON_SPELLINGS = (
    "account_id", "accountId", "ACCOUNT_ID", "Account_Id", "AccountId", "accountid", "account-id", "account.id",
    "account id", " account_id", "account_id ", "account_id\\t", "\\u0061ccount_id", "account\\u005fid",
    "account_\\u0131d", "account_id\\u0000", "account_id\\u0000x", "account_id[]", "account_id[0]", "[account_id]",
    "account[id]", "account_id\\ud800", "\\uff41ccount_id", "account_id\\u200b", "__proto__", "account_id!",
)  # fmt: skip


def bodies() -> list[tuple[str, bytes]]:
    """Return every spelling of a body as content type and template; `@@` stands for the account id."""
    kept = "application/json"
    found = [(kept, b'{"%b": "@@"}' % name.encode()) for name in JSON_SPELLINGS if name != "__proto__"]
    found += [
        (kept, b'{"x": 1, "account_id": "@@", "y": {}}'), (kept, b'{"__proto__": {"account_id": "@@"}}'),
        (kept, b'{"account_id": ["@@"]}'), (kept, b'{"account_id": {"a": "@@"}}'),
        (kept, b'{"account": {"id": "@@"}}'),
        (kept, b'{"account_id\xff": "@@"}'), (kept, b'{"\xc1\xa1ccount_id": "@@"}'),
        (kept, b'/**/{"account_id": "@@"}'),
        (kept, b"{'account_id': '@@'}"), (kept, b'{account_id: "@@"}'), (kept, b'{"account_id": "@@",}'),
        (kept, b'{"account_id": "@@"}{"account_id": "x"}'), (kept, b'\xef\xbb\xbf{"account_id": "@@"}'),
        (kept, b'{"account_id": "@@"} x'), (kept, b'[{"account_id": "@@"}]'),
        (kept, '{"account_id": "@@"}'.encode("utf-16-le")), (kept, '{"account_id": "@@"}'.encode("utf-16")),
        ("application/json; charset=utf-16", '{"account_id": "@@"}'.encode("utf-16-be")),
        ("text/plain", b'{"account_id": "@@"}'), ("", b'{"account_id": "@@"}'),
        ("application/x-www-form-urlencoded", b"account_id=@@"),
        ("multipart/form-data; boundary=x", b'--x\r\ncontent-disposition: x; name="account_id"\r\n\r\n@@\r\n--x--'),
    ]  # fmt: skip
    return found


BODIES = bodies()


def allowed(query: str, content_type: str, body: bytes) -> bool:
    target, form = f"/t?{query}" if query else "/t", BodyForm(content_type)
    attributes = request("POST", target, KEY, body=body, has_body=bool(body), body_form=form)
    planned = plan(POLICY, attributes)
    return isinstance(planned, Lookup) and isinstance(conclude(planned, take()), Allow)


def misled(query: str, content_type: str, body: bytes) -> list[str]:
    """Name the readers that find the foreign account."""
    return [it.name for it in READERS if any(FOREIGN in value for value in it.read(query, content_type, body))]


def queries(spelling: str, whose: str) -> list[str]:
    if whose == "own":
        return [f"{spelling}={OWN}"]
    if whose == "foreign":
        return [f"{spelling}={FOREIGN}", f"limit=5&{spelling}={FOREIGN}&x"]
    return [f"account_id={OWN}&{spelling}={FOREIGN}", f"{spelling}={FOREIGN}&accountId={OWN}"]


def filled(template: bytes, whose: str) -> list[bytes]:
    encoding = "utf-16-le" if b"@\x00" in template else "utf-16-be" if b"\x00@" in template else "ascii"
    mark = "@@".encode(encoding)
    ids = {"own": OWN, "foreign": FOREIGN}
    if whose in ids:
        return [template.replace(mark, ids[whose].encode(encoding))]
    foreign = template.replace(mark, FOREIGN.encode(encoding))
    own = b'"accountId": "%b"' % OWN.encode()
    return [foreign.replace(b"}", b", %b}" % own, 1), foreign.replace(b"{", b"{%b, " % own, 1)]


WHOSE = ("own", "foreign", "both")


@pytest.mark.parametrize("whose", WHOSE)
@pytest.mark.parametrize("spelling", QUERY_SPELLINGS)
def test_no_reader_finds_a_foreign_account_in_an_allowed_query(spelling: str, whose: str) -> None:
    for query, body in product(queries(spelling, whose), (b"", b"{}", json.dumps({"accountId": OWN}).encode())):
        if allowed(query, "application/json" if body else "", body):
            assert misled(query, "application/json", body) == []


@pytest.mark.parametrize("whose", WHOSE)
@pytest.mark.parametrize(("content_type", "template"), BODIES)
def test_no_reader_finds_a_foreign_account_in_an_allowed_body(content_type: str, template: bytes, whose: str) -> None:
    for body, query in product(filled(template, whose), ("", f"account_id={OWN}")):
        if allowed(query, content_type, body):
            assert misled(query, content_type, body) == []


@pytest.mark.parametrize(("query_whose", "body_whose"), list(product(WHOSE, WHOSE)))
@pytest.mark.parametrize("spelling", QUERY_SPELLINGS)
def test_no_reader_finds_a_foreign_account_in_query_or_body(spelling: str, query_whose: str, body_whose: str) -> None:
    for content_type, template in BODIES:
        for query, body in product(queries(spelling, query_whose), filled(template, body_whose)):
            if allowed(query, content_type, body):
                assert misled(query, content_type, body) == []


def test_the_own_account_is_allowed_in_the_spellings_that_the_row_binds() -> None:
    for name, body_name in product(NAMES, NAMES):
        body = json.dumps({body_name: OWN, "name": "x"}).encode()
        assert allowed(f"{name}={OWN}", "application/json", body)
        assert allowed("", "application/json", body)
        assert allowed(f"{name}={OWN}&limit=5", "", b"")
    assert len(QUERY_SPELLINGS) >= 60


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)
def test_each_model_is_misled_by_spellings_of_its_own(reader: Reader) -> None:
    """Without this, a model that reads nothing would prove everything."""
    by_query = [it for it in QUERY_SPELLINGS if FOREIGN in reader.read(f"{it}={FOREIGN}", "", b"")]
    by_body = [it for kind, it in BODIES if FOREIGN in reader.read("", kind, filled(it, "foreign")[0])]
    assert len(by_query) > len(NAMES)
    assert len(by_body) > len(NAMES)


ATOMS = st.sampled_from(
    (
        "account _ id Id ID account_id accountId = & ; %26 %3d %5b [ ] [] . %2e + %20 %00 % %u0061 %61 %2561 %5f "
        "%C1%A1 %C4%B1 %EF%BD%81 x 1 __proto__ ! - %0a %E2%80%8B amp; %2526 \\ "
        f"{OWN} {FOREIGN} ={FOREIGN} ={OWN}"
    ).split()
)


@settings(max_examples=400)
@given(st.lists(ATOMS, max_size=12).map("".join))
@example(f"account_id={OWN}&account%00_id={FOREIGN}")
@example(f"a;account_id={FOREIGN}")
@example(f"x%26account_id={FOREIGN}")
def test_no_random_query_misleads_a_reader(query: str) -> None:
    if allowed(query, "", b""):
        assert misled(query, "", b"") == []


JSON_TEXTS = (
    r"""{ } " : , [ ] account _ id Id "account_id" "accountId" \u0061 \u0000 \ ' /* */ null "" 1 "__proto__" """
)
MEMBERS = f'"{OWN}" "{FOREIGN}" "account_id":"{FOREIGN}" "accountId":"{OWN}" "Account_Id":"{FOREIGN}"'
JSON_ATOMS = st.sampled_from([*JSON_TEXTS.split(), *MEMBERS.split()]).map(str.encode) | st.sampled_from(
    [b"\xff", b"\xc1\xa1", b"\xef\xbb\xbf", b"\x00", b" "]
)


@settings(max_examples=400)
@given(st.lists(JSON_ATOMS, max_size=12).map(b"".join))
def test_no_random_body_misleads_a_reader(inner: bytes) -> None:
    for body in (inner, b"{" + inner + b"}"):
        if body and allowed("", "application/json", body):
            assert misled("", "application/json", body) == []
