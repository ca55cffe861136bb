"""Debian's Chromium driven by Playwright: pages in light, dark and narrow windows."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, TypeAlias

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Error, Page, expect, sync_playwright
from support.clients.loopback import random_address, relay
from support.servers.programs import program

SHOTS = Path(__file__).parents[3] / "build" / "screenshots"
WIDE, NARROW = {"width": 1200, "height": 850}, {"width": 360, "height": 740}

_PATIENCE_MS = 30_000
_GLANCE_MS = 1_000
_ATTEMPTS = 3
# A page that is unavailable for a moment shows it, and what a test expects of it is missing.
_REFUSALS = tuple(f"Failed to load resource: the server responded with a status of {status}" for status in ("4", "503"))

Scheme: TypeAlias = Literal["light", "dark"]


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start the system's Chromium; without one, tests are skipped, except where CI has to have it."""
    path = program("chromium")
    expect.set_options(timeout=_PATIENCE_MS)
    with sync_playwright() as playwright:
        # Its sandbox needs rights that containers do not have; it sees no pages but our own.
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def visit(
    browser: Browser, url: str, *, scheme: Scheme = "light", narrow: bool = False, scripts: bool = True
) -> Iterator[Page]:
    """Open a window with an empty profile, at an address of its own, as no throttle has met it before.

    Any console error, including a CSP violation, fails the test. A failure says what the window shows.
    """
    with relay(random_address()) as proxy:
        context = browser.new_context(
            base_url=url,
            color_scheme=scheme,
            java_script_enabled=scripts,
            permissions=["clipboard-read", "clipboard-write"],
            proxy={"server": proxy},
            viewport=NARROW if narrow else WIDE,  # type: ignore[arg-type]  # a plain dict is what it takes
        )
        context.set_default_timeout(_PATIENCE_MS)
        page = context.new_page()
        complaints: list[str] = []
        page.on("console", lambda line: complaints.append(line.text) if line.type in {"error", "warning"} else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        try:
            yield page
        except BaseException as error:
            error.add_note(shown(page))
            raise
        finally:
            context.close()
        assert [complaint for complaint in complaints if not complaint.startswith(_REFUSALS)] == []


def shown(page: Page) -> str:
    """Return the URL and the text of a page."""
    try:
        return f"{page.url} shows:\n{page.inner_text('body', timeout=_GLANCE_MS)}"
    except Error as error:
        return f"{page.url} shows nothing: {error.message}"


def sign_up(page: Page, email: str, password: str) -> None:
    _enter(page, "/dashboard/signup", "Sign up", email, password)


def log_in(page: Page, email: str, password: str) -> None:
    _enter(page, "/dashboard/login", "Log in", email, password)


def log_out(page: Page) -> None:
    page.get_by_role("button", name="Log out").click()
    page.get_by_role("heading", name="Log in").wait_for()


def _enter(page: Page, path: str, button: str, email: str, password: str) -> None:
    """Fill in a form until it opens a session; where it is unavailable for a moment, again, as a person does."""
    keys, unavailable = page.get_by_role("heading", name="Keys", exact=True), page.get_by_text("unavailable")
    for _ in range(_ATTEMPTS):
        page.goto(path)
        page.get_by_label("E-mail address").fill(email)
        page.get_by_label("Password").fill(password)
        page.get_by_role("button", name=button).click()
        keys.or_(unavailable).wait_for()
        if keys.is_visible():
            return
    pytest.fail(f"{path} is unavailable")


def make_key(page: Page, name: str, *scopes: str) -> str:
    """Make a key and return its secret."""
    page.goto("/dashboard/keys/new")
    page.get_by_label("Name").fill(name)
    for scope in scopes:
        page.get_by_label(scope).check()
    page.get_by_role("button", name="Create the key").click()
    return page.get_by_label(f"Key “{name}”").input_value()


def check_appearance(page: Page, name: str, scheme: Scheme, *, narrow: bool) -> None:
    """Save a screenshot of the page, and check it against WCAG 2.2, levels A and AA."""
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SHOTS / f"{name}-{'narrow' if narrow else scheme}.png", full_page=True)
    rules = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
    found = Axe().run(page, options={"runOnly": {"type": "tag", "values": rules}, "resultTypes": ["violations"]})
    assert found.violations_count == 0, found.generate_report()
    assert not is_too_wide(page), "the page is wider than the window"


def is_too_wide(page: Page) -> bool:
    """Return whether the page must be scrolled sideways."""
    scrolls = page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")
    return bool(scrolls)
