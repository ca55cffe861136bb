"""Opens a page in the person's browser, where there is a desktop to open it on.

Which page, and what is said about it, is `command.py`.
"""

import subprocess
import sys

from authz.client.address import is_for_browsers
from authz.client.choices import has_desktop


def open_page(url: str) -> bool:
    """Open a page; returns False where there is no desktop, or the address is not a web page's."""
    if not has_desktop() or not is_for_browsers(url):
        return False
    # In a process of its own: a browser may write to its terminal, and Ctrl-C is not meant for it. Isolated: no module
    # is taken from the folder that the person happens to be in.
    command = [sys.executable, "-I", "-m", "webbrowser", url]
    silent = subprocess.DEVNULL
    try:
        subprocess.Popen(command, stdin=silent, stdout=silent, stderr=silent, start_new_session=True)  # noqa: S603 -- ours
    except OSError:
        return False
    return True
