"""Resolves the URL of the API and the key: options before environment variables before the config file.

Only this module reads the environment. The file is `config_file.py`.
"""

import os
import sys
from pathlib import Path

from authz.client.address import checked
from authz.client.config_file import ConfigFile, is_key
from authz.client.faults import Fault, NotLoggedIn, WrongUsage
from authz.client.names import KEY_VARIABLE, URL_VARIABLE

_FOLDER = ".truetick"


class Choices:
    """The effective URL and key. `url` is the option `--url`, or empty."""

    def __init__(self, url: str = "", *, insecure_http: bool = False) -> None:
        self._url = url
        self._insecure_http = insecure_http

    def config(self) -> ConfigFile:
        """Return the config file; raises `Fault` without a home folder."""
        try:
            return ConfigFile(Path.home() / _FOLDER)
        except RuntimeError:
            raise Fault("there is no home folder: set HOME") from None

    def url(self) -> str:
        """Return the URL of the API; raises `WrongUsage` if there is none or it is invalid."""
        url = self._url or os.environ.get(URL_VARIABLE, "") or self.config().load().url
        if not url:
            raise WrongUsage(f"the URL of the API is unknown: give --url or set {URL_VARIABLE}; a login saves it")
        return checked(url, insecure_http=self._insecure_http)

    def key(self, url: str) -> str:
        """Return the key for an API. A saved key is sent only to the API that issued it."""
        if key := os.environ.get(KEY_VARIABLE, "").strip():
            if not is_key(key):
                raise WrongUsage(f"{KEY_VARIABLE} does not contain a key")
            return key
        saved = self.config().load()
        if not saved.api_key:
            raise NotLoggedIn("not logged in: truetick login")
        # The published command saves no URL for its default API: the user has named one for this command.
        if saved.url and saved.url.rstrip("/") != url:
            raise NotLoggedIn(f"not logged in at {url}: the saved key is for {saved.url}")
        return saved.api_key


def environment_has_key() -> bool:
    """Return whether the environment contains a key, which overrides the saved one."""
    return bool(os.environ.get(KEY_VARIABLE, "").strip())


def has_desktop() -> bool:
    """Return whether a browser would open a window, instead of using the terminal that shows the code."""
    return sys.platform == "darwin" or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"))
