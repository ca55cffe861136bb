"""For every spelling of a path, the backend receives the path that was decided on: the whole table, through Envoy."""

from functools import cache

import pytest
from support.clients.raw_http import Answer, send_settled
from support.path_table import leniently_read, spellings
from support.servers.stack import Keys

from authz.demo.stack import Stack

ROWS = spellings()


def test_the_table_is_large() -> None:
    assert len(ROWS) >= 150


@pytest.fixture(scope="module")
def fetch(stack: Stack, keys: Keys):  # type: ignore[no-untyped-def]  # noqa: ANN201 -- a cached function
    @cache
    def fetch_once(method: str, target: str) -> Answer:
        return send_settled(stack.url, method, target, ("x-api-key", keys.reader))

    return fetch_once


@pytest.mark.parametrize(("method", "spelling", "canonical"), ROWS, ids=[f"{row[0]} {row[1]}" for row in ROWS])
def test_a_spelling_is_decided_like_its_canonical_path_or_refused(fetch, method, spelling, canonical) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    seen, expected = fetch(method, spelling), fetch(method, canonical)
    assert seen.status in {400, expected.status}
    if seen.reached_backend:
        # In the loosest way of reading it, what the backend got must be allowed as well, or be nothing at all.
        assert fetch(method, leniently_read(seen.document["target"])).status in {200, 404}
