"""A diff reports everything that a policy change opens, whichever row causes it."""

from dataclasses import replace

import pytest
from support.builders import LIMIT, policy

from authz.core.limits import Limit
from authz.core.policy.diff import Change, compare
from authz.core.policy.route import Access, AccountBinding, BindingLocation, ErrorFormat, Route

READ = Route("GET", "/v1/servers/{id}", Access.SCOPE, "servers:read")
WRITE = Route("POST", "/v1/servers/{id}", Access.SCOPE, "servers:write")
WALLET = Route(
    "GET", "/v1/wallets/{id}", Access.SCOPE, "billing", accounts=(AccountBinding(BindingLocation.PATH, "id"),)
)
QUERY = AccountBinding(BindingLocation.QUERY, "account")
BODY = AccountBinding(BindingLocation.BODY, "account")
TABLE = (READ, WRITE, WALLET, Route("*", "/v1/admin/**", Access.BARRED), Route("*", "/web/**", Access.SESSION))
EVERY_KEY = ("any key", "billing", "servers:read", "servers:write")


def changes(*new: Route, old: tuple[Route, ...] = TABLE) -> list[Change]:
    return compare(policy(*old), policy(*new)).changes


def only(*new: Route, old: tuple[Route, ...] = TABLE) -> Change:
    (change,) = changes(*new, old=old)
    return change


def swapped(route: Route, **fields: object) -> tuple[Route, ...]:
    return tuple(replace(route, **fields) if row is route else row for row in TABLE)  # type: ignore[arg-type]  # fields of Route


def test_the_same_table_in_another_order_and_with_other_names_is_no_change() -> None:
    reordered = tuple(reversed(TABLE))
    assert changes(*reordered) == []


def test_a_new_row_opens_its_path_to_keys_with_its_scope() -> None:
    change = only(*TABLE, Route("GET", "/v1/servers/{id}/logs", Access.SCOPE, "servers:read"))
    assert (change.opens, change.closes, change.old) == (("servers:read",), (), None)
    assert change.requests == {"/v1/servers/*/logs": ["GET"]}
    assert (change.is_opening, change.is_grave) == (True, False)


def test_a_row_that_is_gone_closes_its_path() -> None:
    change = only(*(row for row in TABLE if row is not READ))
    assert (change.opens, change.closes, change.new) == ((), ("servers:read",), None)
    assert not change.is_opening


@pytest.mark.parametrize(
    ("fields", "opens", "closes", "is_grave"),
    [
        ({"scope": "billing"}, ("billing",), ("servers:read",), False),
        ({"access": Access.ANY, "scope": ""}, ("any key", "billing", "servers:write"), (), False),
        ({"access": Access.PUBLIC, "scope": ""}, ("no key", "any key", "billing", "servers:write"), (), True),
        ({"access": Access.SESSION, "scope": ""}, ("no key",), ("servers:read",), True),
        ({"shadow": True}, ("no key", "any key", "billing", "servers:write"), (), True),
    ],
)
def test_another_need_tells_who_passes_now_and_who_no_longer(
    fields: dict[str, object], opens: tuple[str, ...], closes: tuple[str, ...], *, is_grave: bool
) -> None:
    change = only(*swapped(READ, **fields))
    assert (change.opens, change.closes, change.is_grave) == (opens, closes, is_grave)


def test_a_scope_that_both_sides_of_a_change_know_is_told_apart_from_others() -> None:
    change = only(replace(READ, scope="other"), old=(READ,))
    assert (change.opens, change.closes) == (("other",), ("servers:read",))


def test_what_was_barred_and_opens_is_marked() -> None:
    opened = [row for row in TABLE if row.access is not Access.BARRED]
    found = changes(*opened, Route("GET", "/v1/admin/{x}", Access.SCOPE, "servers:read"))
    grave = [change for change in found if change.is_grave]
    assert [(change.opens, change.alters) for change in grave] == [(("servers:read",), ("no longer barred",))]
    assert found[0] is grave[0]
    rest = found[1]
    assert (rest.opens, rest.new, rest.alters) == ((), None, ("no longer barred",))


def test_a_bar_closes_what_it_covers() -> None:
    found = changes(*TABLE, Route("*", "/v1/wallets/**", Access.BARRED))
    assert found[0].closes == ("billing",)
    assert found[0].alters == ("barred",)
    assert all(not change.is_opening for change in found)


def test_a_credential_that_opens_is_marked() -> None:
    sftp = Route("POST", "/v1/servers/{id}:sftp", Access.SCOPE, "servers:write", yields_credential=True)
    assert only(*TABLE, sftp).is_grave


def test_a_wide_row_opens_what_no_narrower_row_decides() -> None:
    change = only(*TABLE, Route("GET", "/v1/**", Access.SCOPE, "billing"))
    assert change.opens == ("billing",)
    assert "/v1/*" in change.requests
    assert "/v1/servers/*" not in change.requests
    assert not any(path.startswith(("/v1/admin/", "/web")) for path in change.requests)


def test_a_narrow_row_takes_from_a_wide_one() -> None:
    old = (Route("GET", "/v1/**", Access.ANY),)
    narrowed, slashed = changes(*old, Route("GET", "/v1/secret", Access.SCOPE, "s"), old=old)
    assert (narrowed.opens, narrowed.closes, list(narrowed.requests)) == ((), ("any key",), ["/v1/secret"])
    # With a slash behind it the path has two readings now, and passes for nobody.
    assert (slashed.new, slashed.closes, list(slashed.requests)) == (None, ("any key", "s"), ["/v1/secret/"])


def test_accounts_that_are_no_longer_compared_are_an_opening() -> None:
    change = only(*swapped(WALLET, accounts=()))
    assert (change.frees, change.binds, change.is_grave) == (("path:id",), (), True)
    change = only(*swapped(READ, accounts=(QUERY,)))
    assert (change.frees, change.binds, change.is_opening) == ((), ("query:account",), False)


@pytest.mark.parametrize("binding", [QUERY, BODY])
def test_an_account_that_need_not_be_named_is_an_opening(binding: AccountBinding) -> None:
    strict = replace(READ, accounts=(binding,), account_required=True)
    change = only(replace(strict, account_required=False), old=(strict,))
    assert (change.frees, change.opens, change.is_opening, change.is_grave) == (("absent",), (), True, False)
    assert only(replace(strict, scope="other"), old=(strict,)).opens == ("other",)


def test_the_other_fields_of_a_row_are_reported_too() -> None:
    change = only(*swapped(READ, cost=5, errors=ErrorFormat.TEXT, stream="logs"))
    assert change.alters == ("cost: 1 → 5", "errors: json → text", "stream: none → logs")
    assert (change.opens, change.closes) == ((), ())


def test_a_method_that_may_pass_again_opens_its_rows() -> None:
    new = policy(*TABLE)
    old = replace(new, methods=frozenset({"GET", "HEAD"}))
    found = compare(old, new).changes
    assert {change.opens for change in found} == {("servers:write",), ("no key",)}
    assert all(change.is_opening for change in found)
    assert {change.closes for change in compare(new, old).changes} == {("servers:write",), ("no key",)}


def test_changes_outside_the_routes_are_reported() -> None:
    old, new = policy(*TABLE), policy(READ, limit=Limit(240, 4))
    found = compare(old, replace(new, methods=frozenset({"POST"}), domain="x")).surroundings
    assert "limit: capacity 120, refill_per_s 2 → capacity 240, refill_per_s 4" in found
    assert "scopes: name billing, description billing, write False → none" in found
    assert "domain: api.truetick.example → x" in found
    assert "methods: DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT → POST" in found
    assert compare(old, policy(*TABLE, limit=LIMIT)).surroundings == []


def test_thousands_of_rows_are_compared_in_seconds() -> None:
    rows = tuple(Route("GET", f"/v1/{number}/{{id}}", Access.ANY) for number in range(3000))
    change = only(*rows[:-1], old=rows)
    assert change.closes == ("any key",)
