"""Firefox and WebKit at the demo, over plain HTTP as in `make demo`, driven by WebDriver: `make browsers`.

Chromium has the whole of the dashboard in `tests/e2e/portal/`. Here is what differs between engines: cookies without
`Secure` on plain HTTP, forms and their origin, a second tab without a cookie, and a page that copies a key.
"""

import argparse
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from selenium import webdriver
from selenium.common.exceptions import ElementNotInteractableException
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support import expected_conditions as when
from selenium.webdriver.support.ui import WebDriverWait

from authz.demo.stack import DemoOwner, Stack

_GECKODRIVER = Path(__file__).parents[2] / "build" / "browsers" / "bin" / "geckodriver"
_SHOTS = Path(__file__).parents[2] / "build" / "screenshots"
_MINI_BROWSER = "*-linux-gnu/webkit2gtk-4.1/MiniBrowser"
_WAIT_S = 30


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=sorted(_BROWSERS))
    only = parser.parse_args().only
    stack = Stack(portal=True)
    with ExitStack() as ends:
        ends.callback(stack.stop)
        stack.start()
        ends.enter_context(_screen())
        failed = [name for name in _BROWSERS if only in {None, name} and not _passes(name, stack)]
    return len(failed)


def _passes(name: str, stack: Stack) -> bool:
    began_s = time.monotonic()
    browser = _BROWSERS[name]()
    try:
        version = browser.capabilities.get("browserVersion", "")
        _visit(_Tab(browser, stack.url), name, stack)
    except Exception as error:  # noqa: BLE001 -- one browser's failure must not hide another's result
        print(f"{name}: FAILED at {browser.current_url}: {type(error).__name__}: {error}")  # noqa: T201
        return False
    finally:
        browser.quit()
    print(f"{name} {version}: login, key, sessions, second tab, logout: {time.monotonic() - began_s:.1f} s")  # noqa: T201
    return True


def _visit(tab: "_Tab", name: str, stack: Stack) -> None:
    """Log in as the owner of the demo, use the dashboard, and log out."""
    owner = stack.owner
    if owner is None:
        raise RuntimeError("the stack has no portal")
    tab.open("/dashboard")
    tab.log_in(owner)
    _require(tab.cookies() == {"session", "browser"}, f"cookies: {tab.cookies()}")
    api_key = tab.make_key(f"of {name}")
    _require(_status(stack.url, api_key) == 200, "the new key does not work")
    tab.browser.save_screenshot(str(_SHOTS / f"{name}-key.png"))
    tab.open("/dashboard/sessions")
    _require("this one" in tab.text(), "the session is not listed")
    tab.press("Log out")
    tab.shows("Log in")

    # Two tabs without a cookie: the second one's replaces the first one's, whose form works all the same.
    tab.browser.delete_all_cookies()
    tab.open("/dashboard/login")
    first = tab.browser.current_window_handle
    tab.browser.switch_to.new_window("tab")
    tab.browser.delete_all_cookies()
    tab.open("/dashboard/login")
    tab.browser.switch_to.window(first)
    tab.log_in(owner)


class _Tab:
    """A tab of a browser at the demo."""

    def __init__(self, browser: WebDriver, url: str) -> None:
        self.browser = browser
        self._url = url

    def open(self, path: str) -> None:
        self.browser.get(self._url + path)

    def log_in(self, owner: DemoOwner) -> None:
        self.fill("email", owner.email)
        self.fill("password", owner.password)
        self.press("Log in")
        self.shows("Keys")

    def make_key(self, name: str) -> str:
        self.open("/dashboard/keys/new")
        self.fill("name", name)
        self.browser.find_element(By.XPATH, '//label[.//code="servers:read"]').click()
        self.press("Create the key")
        shown = WebDriverWait(self.browser, _WAIT_S).until(when.presence_of_element_located((By.ID, "api-key")))
        return str(shown.get_attribute("value"))

    def fill(self, field: str, text: str) -> None:
        element = WebDriverWait(self.browser, _WAIT_S).until(when.element_to_be_clickable((By.ID, field)))
        element.clear()
        element.send_keys(text)

    def press(self, button: str) -> None:
        element = self.browser.find_element(By.XPATH, f'//button[normalize-space()="{button}"]')
        self.browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
        # WebKit's driver refuses a click while the page still scrolls.
        wait = WebDriverWait(self.browser, _WAIT_S, ignored_exceptions=[ElementNotInteractableException])
        wait.until(lambda _: _clicked(element))

    def shows(self, heading: str) -> None:
        WebDriverWait(self.browser, _WAIT_S).until(when.text_to_be_present_in_element((By.TAG_NAME, "h1"), heading))

    def text(self) -> str:
        return self.browser.find_element(By.TAG_NAME, "main").text

    def cookies(self) -> set[str]:
        return {str(cookie["name"]) for cookie in self.browser.get_cookies()}


def _clicked(element: WebElement) -> bool:
    element.click()
    return True


def _firefox() -> WebDriver:
    options = webdriver.FirefoxOptions()
    options.binary_location = _program("firefox-esr", "firefox")
    options.add_argument("-headless")
    return webdriver.Firefox(options=options, service=webdriver.FirefoxService(str(_GECKODRIVER)))


def _webkit() -> WebDriver:
    from selenium.webdriver.webkitgtk.options import Options  # noqa: PLC0415 -- the package does not offer it by name
    from selenium.webdriver.webkitgtk.service import Service  # noqa: PLC0415

    options = Options()
    options.binary_location = str(next(Path("/usr/lib").glob(_MINI_BROWSER)))
    options.add_argument("--automation")
    return webdriver.WebKitGTK(options=options, service=Service(_program("WebKitWebDriver")))


_BROWSERS: dict[str, Callable[[], WebDriver]] = {"firefox": _firefox, "webkit": _webkit}


@contextmanager
def _screen() -> Iterator[None]:
    """Run an X server without a screen for MiniBrowser, which has no mode without a window."""
    read, write = os.pipe()
    command = [_program("Xvfb"), "-displayfd", str(write), "-screen", "0", "1280x900x24", "-nolisten", "tcp"]
    with subprocess.Popen(command, pass_fds=[write], stderr=subprocess.DEVNULL) as server:
        os.close(write)
        with closing(os.fdopen(read)) as number:
            os.environ["DISPLAY"] = f":{number.readline().strip()}"
        # The sandbox of WebKit needs rights that containers do not have; it sees no pages but our own.
        os.environ["WEBKIT_DISABLE_SANDBOX_THIS_IS_DANGEROUS"] = "1"
        yield
        server.terminate()


def _program(*names: str) -> str:
    path = next(filter(None, map(shutil.which, names)), None)
    if path is None:
        raise SystemExit(f"there is no {names[0]}: make browsers installs it")
    return path


def _status(url: str, api_key: str) -> int:
    request = urllib.request.Request(f"{url}/v1/servers", headers={"x-api-key": api_key})  # noqa: S310 -- our demo's
    with urllib.request.urlopen(request) as answer:  # noqa: S310
        return int(answer.status)


def _require(is_met: bool, otherwise: str) -> None:  # noqa: FBT001 -- an assertion with words
    if not is_met:
        raise AssertionError(otherwise)


if __name__ == "__main__":
    sys.exit(main())
