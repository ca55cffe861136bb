"""The dashboard in a real browser, through Envoy: an owner's tasks, accessible pages, and screenshots."""

import json
import re
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect
from support.clients.browser import Scheme, check_appearance, is_too_wide, log_in, log_out, make_key, sign_up, visit
from support.clients.portal_client import PASSWORD, PortalClient
from support.clients.terminal import running

from authz.demo.stack import DemoOwner, Stack


@pytest.fixture
def device(portal_stack: Stack) -> Iterator[PortalClient]:
    """A command on another machine."""
    caller = PortalClient(portal_stack.url)
    yield caller
    caller.client.close()


def random_email() -> str:
    return f"{secrets.token_hex(6)}@example.com"


def status(device: PortalClient, api_key: str) -> int:
    return device.client.get("/v1/servers", headers={"x-api-key": api_key}).status_code


def link_of(command: subprocess.Popen[str]) -> str:
    """Wait until a command has shown where its device is approved."""
    shown = ""
    while (found := re.search(r"http\S+/device\?code=[A-Z]{4}-[0-9]{4}", shown)) is None:
        assert command.stderr
        shown += command.stderr.readline()
    return found[0]


def test_a_key_from_its_making_to_its_end(browser: Browser, portal_stack: Stack, device: PortalClient) -> None:
    with visit(browser, portal_stack.url) as page:
        sign_up(page, random_email(), PASSWORD)
        api_key = make_key(page, "deploy", "servers:read", "billing:read")
        page.get_by_role("button", name="Copy").click()
        expect(page.get_by_text("Copied.")).to_be_visible()
        assert page.evaluate("navigator.clipboard.readText()") == api_key
        assert status(device, api_key) == 200

        page.get_by_role("link", name="I have copied it").click()
        row = page.get_by_role("row").filter(has_text="deploy")
        while "less than a minute ago" not in row.inner_text():
            page.reload()
        row.get_by_text("2 of 7 scopes").click()
        expect(row.get_by_text("See the wallet and open a checkout.")).to_be_visible()

        row.get_by_role("link", name="Disable").click()
        page.get_by_role("button", name="Disable the key").click()
        expect(page.get_by_text("Nothing accepts it until you enable it again")).to_be_visible()
        assert status(device, api_key) == 401
        row.get_by_role("button", name="Enable").click()
        expect(page.get_by_text("works again")).to_be_visible()
        assert status(device, api_key) == 200

        row.get_by_role("link", name="Rotate").click()
        page.get_by_label("The old key stops working").select_option("in an hour")
        page.get_by_role("button", name="Create the new key").click()
        successor = page.get_by_label("Key “deploy”").input_value()
        assert (status(device, api_key), status(device, successor)) == (200, 200)

        page.goto("/dashboard/keys")
        page.get_by_role("row").filter(has_text=successor[-4:]).get_by_role("link", name="Revoke").click()
        page.get_by_role("button", name="Revoke the key").click()
        expect(page.get_by_text("Nothing accepts it any more")).to_be_visible()
        assert (status(device, api_key), status(device, successor)) == (200, 401)
        assert not page.get_by_text(successor[-4:]).is_visible()


def test_one_command_is_approved_and_another_refused(
    browser: Browser, portal_stack: Stack, device: PortalClient, folder: Path
) -> None:
    with visit(browser, portal_stack.url) as page:
        sign_up(page, email := random_email(), PASSWORD)
        with running(folder, "login", "--json", "--url", portal_stack.url) as command:
            link = link_of(command)
            page.goto("/device")
            page.get_by_label("Code").fill(link[-9:].lower().replace("-", " "))
            page.get_by_role("button", name="Continue").click()
            expect(page.get_by_text("truetick/")).to_be_visible()
            page.get_by_label("servers:write").uncheck()
            page.get_by_role("button", name="Approve").click()
            expect(page.get_by_text("Approve this device?")).to_be_visible()  # the browser asks for the confirmation
            page.get_by_label("The device in front of me").check()
            page.get_by_role("button", name="Approve").click()
            expect(page.get_by_role("heading", name="Device approved")).to_be_visible()
            out, _ = command.communicate(timeout=60)
            assert (command.returncode, json.loads(out)["email"]) == (0, email)
        api_key = json.loads((folder / ".truetick" / "config.json").read_text())["apiKey"]
        assert status(device, api_key) == 200
        assert device.client.post("/v1/servers/s1:start", headers={"x-api-key": api_key}).status_code == 403

        with running(folder, "login", "--json", "--url", portal_stack.url) as command:
            link = link_of(command)
            page.goto(link)
            assert page.get_by_label("Code").input_value() == link[-9:]
            page.get_by_role("button", name="Continue").click()
            page.get_by_role("button", name="Refuse").click()
            expect(page.get_by_role("heading", name="Refused")).to_be_visible()
            command.communicate(timeout=60)
            assert command.returncode == 5


def test_the_keyboard_alone_is_enough(browser: Browser, portal_stack: Stack, owner: DemoOwner) -> None:
    with visit(browser, portal_stack.url) as page:
        page.goto("/dashboard/keys")
        page.locator("input[name=email]:focus").wait_for()
        page.keyboard.type(owner.email)
        page.keyboard.press("Tab")
        page.keyboard.type(owner.password)
        page.keyboard.press("Enter")
        page.get_by_role("heading", name="Keys").wait_for()
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
        page.keyboard.press("Enter")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "New key"
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_scripts_are_not_needed(browser: Browser, portal_stack: Stack, device: PortalClient, owner: DemoOwner) -> None:
    with visit(browser, portal_stack.url, scripts=False) as page:
        log_in(page, owner.email, owner.password)
        api_key = make_key(page, "plain", "servers:read")
        assert not page.get_by_role("button", name="Copy").is_visible()
        assert status(device, api_key) == 200
        log_out(page)


def test_names_of_any_length_fit_windows_of_any_width(
    browser: Browser, portal_stack: Stack, owner: DemoOwner, device: PortalClient
) -> None:
    name = secrets.token_hex(1) + "W" * 98
    with visit(browser, portal_stack.url) as page:
        log_in(page, owner.email, owner.password)
        made = make_key(page, name, "servers:read")
        row = page.get_by_role("row").filter(has_text=made[-4:])
        for width in (320, 640, 800, 940, 1200):
            page.set_viewport_size({"width": width, "height": 800})
            for path in ("keys", "keys/new", "activity", "account"):
                page.goto(f"/dashboard/{path}")
                assert not is_too_wide(page), (path, width)
            for action in ("Rotate", "Disable", "Revoke"):
                page.goto("/dashboard/keys")
                row.get_by_role("link", name=action).click()
                page.get_by_role("heading", name=action).wait_for()
                assert not is_too_wide(page), (action, width)
    assert status(device, made) == 200


VARIANTS = pytest.mark.parametrize(("scheme", "narrow"), [("light", False), ("dark", False), ("light", True)])


@VARIANTS
def test_everyone_can_use_the_pages_before_a_login(
    browser: Browser, portal_stack: Stack, scheme: Scheme, *, narrow: bool
) -> None:
    with visit(browser, portal_stack.url, scheme=scheme, narrow=narrow) as page:
        for path, name in (("login", "01-login"), ("signup", "02-signup")):
            page.goto(f"/dashboard/{path}")
            check_appearance(page, name, scheme, narrow=narrow)
        page.goto("/dashboard/login")
        page.get_by_label("E-mail address").fill("nobody@example.com")
        page.get_by_label("Password").fill("wrong")
        page.get_by_role("button", name="Log in").click()
        expect(page.get_by_role("alert")).to_contain_text("nvalid email or password")
        check_appearance(page, "04-login-refused", scheme, narrow=narrow)


@VARIANTS
def test_everyone_can_use_the_pages_about_keys(
    browser: Browser, portal_stack: Stack, owner: DemoOwner, scheme: Scheme, *, narrow: bool
) -> None:
    backup, old, paused = (f"{name} {secrets.token_hex(2)}" for name in ("backup", "old", "paused"))
    with visit(browser, portal_stack.url, scheme=scheme, narrow=narrow) as page:
        log_in(page, owner.email, owner.password)
        page.goto("/dashboard/keys/new")
        check_appearance(page, "05-key-new", scheme, narrow=narrow)
        make_key(page, backup, "servers:read", "backups")
        check_appearance(page, "06-key-made", scheme, narrow=narrow)
        make_key(page, old, "files:write")
        page.goto("/dashboard/keys")
        page.get_by_role("row").filter(has_text=old).get_by_role("link", name="Rotate").click()
        page.get_by_role("heading", name="Rotate").wait_for()
        check_appearance(page, "07-key-rotate", scheme, narrow=narrow)
        page.goto("/dashboard/keys")
        page.get_by_role("row").filter(has_text=old).get_by_role("link", name="Revoke").click()
        page.get_by_role("heading", name="Revoke").wait_for()
        check_appearance(page, "08-key-revoke", scheme, narrow=narrow)
        page.get_by_role("button", name="Revoke the key").click()
        expect(page.get_by_role("status")).to_contain_text("has been revoked")
        make_key(page, paused, "console")
        page.goto("/dashboard/keys")
        page.get_by_role("row").filter(has_text=paused).get_by_role("link", name="Disable").click()
        page.get_by_role("heading", name="Disable").wait_for()
        check_appearance(page, "16-key-disable", scheme, narrow=narrow)
        page.get_by_role("button", name="Disable the key").click()
        expect(page.get_by_role("status")).to_contain_text("has been disabled")
        page.get_by_role("row").filter(has_text=backup).get_by_text("2 of 7 scopes").click()
        page.get_by_text("Keys that no longer work").first.click()
        check_appearance(page, "09-keys", scheme, narrow=narrow)


@VARIANTS
def test_everyone_can_use_the_other_pages(
    browser: Browser, portal_stack: Stack, device: PortalClient, owner: DemoOwner, scheme: Scheme, *, narrow: bool
) -> None:
    with visit(browser, portal_stack.url, scheme=scheme, narrow=narrow) as page:
        log_in(page, owner.email, owner.password)
        page.goto("/device")
        page.get_by_label("Code").fill("BCDF-2345")
        page.get_by_role("button", name="Continue").click()
        expect(page.get_by_role("alert")).to_contain_text("this code is not known")
        check_appearance(page, "10-device-code", scheme, narrow=narrow)
        page.get_by_label("Code").fill(device.public("device/start", {}).json()["user_code"])
        page.get_by_role("button", name="Continue").click()
        expect(page.get_by_text("another address than yours")).to_be_visible()
        check_appearance(page, "11-device-grant", scheme, narrow=narrow)
        page.get_by_label("The device in front of me").check()
        page.get_by_role("button", name="Approve").click()
        page.get_by_role("heading", name="Device approved").wait_for()
        check_appearance(page, "12-device-done", scheme, narrow=narrow)
        for path, name in (("activity", "13-activity"), ("account", "14-account"), ("nowhere", "15-failure")):
            page.goto(f"/dashboard/{path}")
            check_appearance(page, name, scheme, narrow=narrow)
