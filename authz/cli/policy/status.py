"""`authz policy status`: which policy each of some processes uses, and whether they agree.

It reads `/readyz` of their admin listeners. What the other commands say about files is `text.py`.
"""

import json
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from urllib.error import HTTPError

import typer

from authz.cli.failures import EXIT_FAILED
from authz.cli.output import note, show
from authz.cli.top_figures import address_of

_ADDRESSES_MAX = 256
_BYTES_MAX = 65_536
_TIMEOUT_S = 5.0
_COLUMNS = ("address", "digest", "last_reload", "error")


@dataclass(frozen=True, slots=True)
class PolicyStatus:
    """The policy of one process: its digest and the outcome of the last reload; or why it is not known."""

    address: str
    digest: str = ""
    last_reload: str = ""
    error: str = ""


def show_status(addresses: Sequence[str], *, as_json: bool) -> None:
    """Print the policy of each process; exits with 1 if they differ, or one is not known."""
    if len(addresses) > _ADDRESSES_MAX:
        raise typer.BadParameter(f"at most {_ADDRESSES_MAX} addresses")
    try:
        urls = [address_of(address).removesuffix("metrics") + "readyz" for address in addresses]
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    with ThreadPoolExecutor(max_workers=min(16, len(urls))) as pool:
        found = list(pool.map(_status, addresses, urls))
    show(found, _COLUMNS, as_json=as_json)
    digests = {it.digest for it in found if not it.error}
    unknown = sum(bool(it.error) for it in found)
    if len(digests) > 1:
        note(f"{len(digests)} different policies are in force")
    if unknown:
        note(f"unknown: {unknown} of {len(found)}")
    if len(digests) > 1 or unknown:
        raise typer.Exit(EXIT_FAILED)


def _status(address: str, url: str) -> PolicyStatus:
    try:
        policy = json.loads(_body(url))["policy"]
        return PolicyStatus(address, str(policy["digest"]), str(policy.get("last_reload", "")))
    except (KeyError, TypeError, AttributeError):
        return PolicyStatus(address, error="it does not report its policy")
    except (OSError, ValueError) as error:
        return PolicyStatus(address, error=str(getattr(error, "reason", "") or error) or type(error).__name__)


def _body(url: str) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as response:  # noqa: S310 -- http only
            return bytes(response.read(_BYTES_MAX))
    except HTTPError as error:  # a process that is not ready has a policy all the same
        return error.read(_BYTES_MAX)
