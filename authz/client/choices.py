"""Which API is asked and with which key: options before the environment before what is saved.

The only reader of the environment in this command. What is saved is `config_file.py`.
"""

import os
import sys
from pathlib import Path

from authz.client.address import checked
from authz.client.config_file import ConfigFile, is_key
from authz.client.faults import Fault, NotLoggedIn, WrongUsage

URL_VARIABLE = "TRUETICK_API_URL"
KEY_VARIABLE = "TRUETICK_API_KEY"
_FOLDER = ".truetick"


class Choices:
    """What the command's options, the environment and the saved file say together. `url` is the option, or empty."""

    def __init__(self, url: str = "", *, insecure_http: bool = False) -> None:
        self._url = url
        self._insecure_http = insecure_http

    def config(self) -> ConfigFile:
        """Find the file; raises `Fault` where there is no home."""
        try:
            return ConfigFile(Path.home() / _FOLDER)
        except RuntimeError:
            raise Fault("there is no home folder: set HOME") from None

    def url(self) -> str:
        """Return the API's address; raises `WrongUsage` where nothing names one that may be used."""
        url = self._url or os.environ.get(URL_VARIABLE, "") or self.config().load().url
        if not url:
            raise WrongUsage(f"which API? give --url or set {URL_VARIABLE}; a login remembers it")
        return checked(url, insecure_http=self._insecure_http)

    def key(self, url: str) -> str:
        """Return the key for an API. A saved key goes to the API that gave it and nowhere else."""
        if key := os.environ.get(KEY_VARIABLE, "").strip():
            if not is_key(key):
                raise WrongUsage(f"{KEY_VARIABLE} does not hold a key")
            return key
        saved = self.config().load()
        if not saved.api_key:
            raise NotLoggedIn("not logged in: truetick login")
        if saved.url != url:
            raise NotLoggedIn(f"not logged in at {url}: the saved key is for {saved.url}")
        return saved.api_key


def brings_key() -> bool:
    """Tell whether the environment holds a key, so that a saved one is not used."""
    return bool(os.environ.get(KEY_VARIABLE, "").strip())


def has_desktop() -> bool:
    """Tell whether a browser would get a window of its own, rather than the terminal that shows the code."""
    return sys.platform == "darwin" or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"))
