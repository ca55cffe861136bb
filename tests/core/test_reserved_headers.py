"""The reserved headers: every spelling that a backend may fold to one is found, and no other header is."""

import time

import pytest

from authz.core import reserved_headers
from authz.core.reserved_headers import COUNT_MAX, is_refused, may_be_reserved

PLAIN = ["x-authz-account-id", "x-authz-scopes", "x-authz-9", "x-authz-"]
ALIASES = [
    "x_authz_account_id",
    "x-authz_account-id",
    "x_authz-scopes",
    "X-AUTHZ-ACCOUNT-ID",
    "X_Authz_Key_Id",
    "x.authz.scopes",
    "x-authz-account.id",
    "x-authz-account~id",
    "x!authz'scopes",
    "x_api_key",
    "X-API-KEY",
    "x-api_key",
    "x.api.key",
]
OTHERS = ["x-api-key", "x-authz", "x-authzz-a", "x--authz-a", "authz-account-id", "x-api-kez", "xauthz-a", "", "x-"]


def reserved(names: list[str], key_header: str) -> tuple[str, ...]:
    return reserved_headers.reserved([name for name in names if may_be_reserved(name, key_header)], key_header)


@pytest.mark.parametrize("name", PLAIN)
def test_an_identity_header_is_reserved_and_removed(name: str) -> None:
    assert reserved(["host", name], "x-api-key") == (name,)
    assert not is_refused((name,))


@pytest.mark.parametrize("name", ALIASES)
def test_an_alias_is_reserved_and_refused(name: str) -> None:
    found = reserved([name, "x-authz-account-id", "accept"], "x-api-key")
    assert found == (name, "x-authz-account-id")
    assert is_refused(found)


@pytest.mark.parametrize("name", OTHERS)
def test_other_headers_are_not_reserved(name: str) -> None:
    assert reserved([name], "x-api-key") == ()


def test_the_key_header_is_the_policys() -> None:
    assert reserved(["x_api_key", "x-api-key", "Authorization"], "authorization") == ("Authorization",)


@pytest.mark.parametrize("tail", ["!" * 60_000, "a" * 60_000, "_" * 60_000, "-" * 60_000])
def test_a_long_name_is_refused_at_little_cost(tail: str) -> None:
    started_s = time.process_time()
    for _ in range(10):
        assert is_refused(reserved([f"x-authz-{tail}"], "x-api-key"))
    assert time.process_time() - started_s < 0.01


def test_the_number_of_reserved_headers_is_bounded() -> None:
    names = [f"x-authz-{number}" for number in range(1000)]
    assert not is_refused(reserved(names[:COUNT_MAX] * 2, "x-api-key"))
    found = reserved(names, "x-api-key")
    assert len(found) == COUNT_MAX + 1
    assert is_refused(found)
