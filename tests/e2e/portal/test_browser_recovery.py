"""Forgotten passwords, other e-mail addresses and sessions in a real browser: without scripts, and for everyone."""

import json
import re
import secrets
import time

import pytest
from playwright.sync_api import Browser, Page, expect
from support.clients.browser import Scheme, check_appearance, log_in, log_out, sign_up, visit
from support.clients.portal_client import PASSWORD

from authz.demo.stack import DemoOwner, Stack

NEW = "another horse battery"
FORMS: list[tuple[Scheme, bool]] = [("light", False), ("dark", False), ("light", True)]


def random_email() -> str:
    return f"{secrets.token_hex(6)}@example.com"


def mailed_link(stack: Stack, recipient: str, page: str, wait_s: float = 30) -> str:
    """Wait for the latest mail with a link to a page in the log of the demo's portal; return the link."""
    ends_at_s = time.monotonic() + wait_s
    while time.monotonic() < ends_at_s:
        for line in reversed((stack.folder / "portal.log").read_text().splitlines()):
            if recipient in line and line.startswith("{"):
                found = re.search(rf"\S+/dashboard/{page}\?code=\S+", str(json.loads(line).get("text", "")))
                if found:
                    return found[0]
        time.sleep(0.05)
    pytest.fail(f"no mail with a link to {page} for {recipient}")


def check_in_every_form(page: Page, name: str) -> None:
    for scheme, narrow in FORMS:
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": 360, "height": 740} if narrow else {"width": 1200, "height": 850})
        check_appearance(page, name, scheme, narrow=narrow)


def request_link(page: Page, email: str) -> None:
    page.goto("/dashboard/login")
    page.get_by_role("link", name="Forgotten password?").click()
    page.get_by_label("E-mail address").fill(email)
    page.get_by_role("button", name="Send the link").click()
    expect(page.get_by_role("status")).to_contain_text("If the address has an account")


def test_a_forgotten_password_is_replaced_and_ends_the_other_sessions(browser: Browser, portal_stack: Stack) -> None:
    email = random_email()
    with (
        visit(browser, portal_stack.url, scripts=False) as elsewhere,
        visit(browser, portal_stack.url) as page,
    ):
        sign_up(elsewhere, email, PASSWORD)
        page.goto("/dashboard/forgotten")
        check_in_every_form(page, "17-forgotten")
        request_link(page, email)
        check_in_every_form(page, "18-forgotten-sent")
        page.goto(mailed_link(portal_stack, email, "reset"))
        expect(page.get_by_text(email)).to_be_visible()
        check_in_every_form(page, "19-reset")
        page.get_by_label("New password").fill(NEW)
        page.get_by_role("button", name="Change the password").click()
        expect(page.get_by_role("status")).to_contain_text("every session of before has ended")
        elsewhere.goto("/dashboard/keys")
        expect(elsewhere.get_by_role("heading", name="Log in")).to_be_visible()
        log_in(elsewhere, email, NEW)


def test_a_reset_needs_no_scripts_and_a_link_works_once(browser: Browser, portal_stack: Stack) -> None:
    email = random_email()
    with visit(browser, portal_stack.url, scripts=False) as page:
        sign_up(page, email, PASSWORD)
        page.goto(mailed_link(portal_stack, email, "verify"))
        expect(page.get_by_text(email)).to_be_visible()
        expect(page.get_by_text("acct_")).to_be_visible()
        page.get_by_role("button", name="Yes, it is mine").click()
        expect(page.get_by_role("status")).to_contain_text(email)
        log_out(page)
        request_link(page, email)
        page.goto(link := mailed_link(portal_stack, email, "reset"))
        page.get_by_label("New password").fill(NEW)
        page.get_by_role("button", name="Change the password").click()
        expect(page.get_by_role("status")).to_contain_text("has been changed")
        page.goto(link)
        expect(page.get_by_text("this link has been used or has expired")).to_be_visible()


def test_an_address_changes_with_both_mailboxes(browser: Browser, portal_stack: Stack) -> None:
    old, new = random_email(), random_email()
    with visit(browser, portal_stack.url) as page:
        sign_up(page, old, PASSWORD)
        page.goto(mailed_link(portal_stack, old, "verify"))
        check_in_every_form(page, "03-verify")
        page.goto("/dashboard/account")
        page.get_by_label("New e-mail address").fill(new)
        page.get_by_label("Password", exact=True).fill(PASSWORD)
        page.get_by_role("button", name="Send the links").click()
        expect(page.get_by_role("status")).to_contain_text("both addresses")
        check_in_every_form(page, "20-email-sent")
        page.goto(mailed_link(portal_stack, old, "email"))
        check_in_every_form(page, "21-email")
        page.get_by_role("button", name="Yes, change it").click()
        expect(page.get_by_role("status")).to_contain_text(new)
        check_in_every_form(page, "22-email-half")
        page.goto(mailed_link(portal_stack, new, "email"))
        page.get_by_role("button", name="Yes, change it").click()
        expect(page.get_by_role("heading", name="has changed")).to_be_visible()
        check_in_every_form(page, "23-email-done")
        log_out(page)
        log_in(page, new, PASSWORD)


def test_an_owner_ends_the_session_of_another_browser(browser: Browser, portal_stack: Stack, owner: DemoOwner) -> None:
    with (
        visit(browser, portal_stack.url, scripts=False) as elsewhere,
        visit(browser, portal_stack.url) as page,
    ):
        log_in(elsewhere, owner.email, owner.password)
        log_in(page, owner.email, owner.password)
        page.goto("/dashboard/account")
        page.get_by_role("link", name="Sessions").click()
        check_in_every_form(page, "24-sessions")
        page.get_by_role("row").filter(has_not_text="this one").get_by_role("button", name="End").first.click()
        expect(page.get_by_role("status")).to_contain_text("The session has ended")
        elsewhere.goto("/dashboard/keys")
        expect(elsewhere.get_by_role("heading", name="Log in")).to_be_visible()
