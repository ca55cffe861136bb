"""Opens a page in the browser of the user, if there is a desktop.

The page is chosen in `login.py`.
"""

import subprocess
import sys

from authz.client.address import is_for_browsers
from authz.client.choices import has_desktop


def open_page(url: str) -> bool:
    """Open a page; returns False without a desktop, or if the URL is not a web page."""
    if not has_desktop() or not is_for_browsers(url):
        return False
    # A separate process and session: the browser may write to its terminal, and Ctrl-C must not end it.
    # Isolated (-I): no module is imported from the current folder.
    command = [sys.executable, "-I", "-m", "webbrowser", url]
    silent = subprocess.DEVNULL
    try:
        subprocess.Popen(command, stdin=silent, stdout=silent, stderr=silent, start_new_session=True)  # noqa: S603 -- ours
    except OSError:
        return False
    return True
