"""A browser, and the owner of the demo's account."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser
from support.clients.browser import chromium

from authz.demo.stack import DemoOwner, Stack


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def owner(portal_stack: Stack) -> DemoOwner:
    assert portal_stack.owner
    return portal_stack.owner
