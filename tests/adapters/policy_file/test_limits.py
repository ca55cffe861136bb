"""Named limits, plans and limits of rows: what a policy file makes of them, and what it costs a file without them."""

from pathlib import Path

import pytest

from authz.adapters.policy_file.loader import load_policy
from authz.core.limits import Limit, NamedLimit
from authz.core.policy.diff import compare
from authz.core.policy.policy import Policy

TEXT = """
version: 2
api: {name: shop, domain: shop.example}
keys: {header: x-api-key, prefix: shp_, active_max: 5}
limit: {capacity: 10, refill_per_s: 0.5}
limits:
  daily: {capacity: 43200, window_s: 86400}
  search: [{capacity: 5, refill_per_s: 1}, {capacity: 50, window_s: 100}]
KEYS
scopes:
  orders:read: {description: See orders.}
routes:
  - scope: orders:read
    match: "GET /v1/orders/{id}"
  - scope: orders:read
    match: [GET /v1/orders, GET /v1/search]
ROWS
"""
DAILY = NamedLimit("daily", Limit(43_200, 0.5))
SEARCH = (NamedLimit("search", Limit(5, 1)), NamedLimit("search-2", Limit(50, 0.5)))
USUAL = NamedLimit("default", Limit(10, 0.5))


def policy(folder: Path, keys: str = "", rows: str = "") -> Policy:
    path = folder / "policy.yaml"
    path.write_text(TEXT.replace("KEYS", keys).replace("ROWS", rows))
    return load_policy(path)


def test_limits_that_nothing_names_leave_every_check_as_it_is(tmp_path: Path) -> None:
    assert policy(tmp_path).key_limits is None


def test_rows_share_the_buckets_of_the_limit_that_they_name(tmp_path: Path) -> None:
    found = policy(tmp_path, rows="    limits: search")
    assert [route.limits for route in found.routes] == [(), SEARCH, SEARCH]
    assert found.key_limits is not None
    assert found.key_limits.is_single
    assert found.key_limits.of("", None, SEARCH) == (USUAL, *SEARCH)


def test_plans_replace_the_limits_of_a_key(tmp_path: Path) -> None:
    found = policy(tmp_path, "key_limits: daily\nplans: {gold: [search, daily], slow: daily}").key_limits
    assert found is not None
    assert not found.is_single
    assert found.of("", None, ()) == (USUAL, DAILY)
    assert found.of("gold", None, SEARCH) == (*SEARCH, DAILY)
    assert found.of("gone", None, ()) == (USUAL, DAILY)
    own = NamedLimit("default", Limit(7, 7))
    assert found.of("gold", Limit(7, 7), ()) == (own, SEARCH[1], DAILY)
    assert found.of("slow", Limit(7, 7), (DAILY,)) == (own, DAILY)
    assert found.longest_s == 86_400


@pytest.mark.parametrize(
    ("keys", "rows", "lines"),
    [
        ("key_limits: daily", "", ["key_limits: none → daily (43200 tokens, 0.5 per s)"]),
        ("plans: {gold: daily}", "", ["plan gold: none → daily (43200 tokens, 0.5 per s)"]),
    ],
)
def test_a_diff_names_the_limits_that_change(tmp_path: Path, keys: str, rows: str, lines: list[str]) -> None:
    found = compare(policy(tmp_path), policy(tmp_path, keys, rows))
    assert found.surroundings[1:] == lines  # after the digest
    assert not found.is_opening


def test_a_diff_names_the_limits_of_a_row(tmp_path: Path) -> None:
    (change,) = compare(policy(tmp_path), policy(tmp_path, rows="    limits: [daily]")).changes[:1]
    assert change.alters == ("limits: none → daily (43200 tokens, 0.5 per s)",)
    assert not change.is_opening


def test_the_digest_of_a_file_without_limits_is_as_before(tmp_path: Path) -> None:
    with_empty = policy(tmp_path, "plans: {}").digest
    assert with_empty == policy(tmp_path).digest
    assert policy(tmp_path, "plans: {gold: daily}").digest != with_empty
