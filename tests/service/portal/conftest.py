"""One database for these tests: each makes accounts of its own in it, and none counts all accounts."""

import pytest


@pytest.fixture
def database_url(portal_database_url: str) -> str:
    return portal_database_url
