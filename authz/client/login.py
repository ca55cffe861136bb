"""The ways to get a key; each saves the key and reports its account.

The options are `command.py`; the file is `config_file.py`.
"""

import time

from authz.client import prompts
from authz.client.api import Api, LoggedIn, Person
from authz.client.browser import open_page
from authz.client.choices import Choices, environment_has_key
from authz.client.config_file import Saved, is_key
from authz.client.device import await_approval
from authz.client.faults import Fault, WrongUsage
from authz.client.names import KEY_VARIABLE
from authz.client.screen import Screen, hint


class Login:
    """One login to one API; raises a `Fault` at once if a key could not be saved."""

    def __init__(self, choices: Choices, screen: Screen) -> None:
        self._url = choices.url()
        self._config = choices.config()
        self._before = self._config.load()
        self._config.prepare()
        self._screen = screen

    def with_key(self, key: str, *, check: bool) -> None:
        """Save an existing key; with `check`, only if the API accepts it."""
        given = prompts.secret(key, "Key").strip()
        if not is_key(given):
            raise WrongUsage("this is not a key: a key has 1 to 512 printable characters without blanks")
        person = None
        if check:
            with Api(self._url) as api:
                person = api.who_am_i(given)
        self._save(given)
        if person is None:
            self._screen.note("the key has not been checked: truetick whoami checks it")
        self._report(person)

    def with_password(self, email: str, password: str) -> None:
        """Log in with an e-mail address and its password."""
        given = prompts.secret(password, "Password")
        with Api(self._url) as api:
            self._keep(api.log_in(email, given))

    def by_signing_up(self, email: str, password: str) -> None:
        """Create an account and save its first key."""
        address = email or prompts.email()
        given = prompts.secret(password, "Password", twice=True)
        with Api(self._url) as api:
            self._keep(api.sign_up(address, given))

    def with_device(self, *, browser: bool) -> None:
        """Wait until this device is approved in the dashboard, on any machine."""
        with Api(self._url) as api:
            grant = api.start_device()
            is_opened = browser and open_page(grant.verify_url_complete)
            self._screen.show_code(grant, is_opened=is_opened)
            with self._screen.waiting(grant.expires_in_s) as waiting:
                key = await_approval(
                    grant, api.poll_device, now_s=time.monotonic, sleep=time.sleep, report=waiting.report
                )
            self._save(key)  # at once: the API returns it only once
            try:
                person = api.who_am_i(key)
            except Fault as fault:
                self._screen.note(f"the key is saved, but its account is unknown: {fault}")
                person = None
        self._report(person)

    def _keep(self, logged_in: LoggedIn) -> None:
        self._save(logged_in.api_key)
        self._report(logged_in.person)

    def _save(self, api_key: str) -> None:
        self._config.save(Saved(self._url, api_key))
        self._screen.note(f"key {hint(api_key)} saved in {self._config.path}")
        if self._before.api_key not in {"", api_key}:
            self._screen.note(f"it replaces {hint(self._before.api_key)}, which works until it is revoked")
        if environment_has_key():
            self._screen.note(f"{KEY_VARIABLE} is set and overrides the saved key")

    def _report(self, person: Person | None) -> None:
        fields = {"url": self._url, "config": str(self._config.path)} | (person.fields() if person else {})
        self._screen.result(f"logged in as {person.email} ({person.account_id})" if person else "logged in", fields)
