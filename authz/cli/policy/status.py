"""`authz policy status`: which policy each of some processes uses, and whether they agree.

It reads `/readyz` of their admin listeners. What the other commands say about files is `text.py`.
"""

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import typer

from authz.cli.admin_listeners import AdminListeners, described_error
from authz.cli.failures import EXIT_FAILED
from authz.cli.output import note, show

ADDRESSES_MAX = 256
_BYTES_MAX = 65_536
_TIMEOUT_S = 5.0
_COLUMNS = ("address", "digest", "version", "routes", "loaded", "last_reload", "error")


@dataclass(frozen=True, slots=True)
class PolicyStatus:
    """The policy of one process, or why it is not known.

    `version` is that of the grammar of its file, `routes` its number of rows, `loaded` when it was loaded (RFC 3339),
    and `last_reload` the outcome of the last reload. An older process does not report all of them.
    """

    address: str
    digest: str = ""
    version: int | None = None
    routes: int | None = None
    loaded: str = ""
    last_reload: str = ""
    error: str = ""


def show_status(listeners: AdminListeners, addresses: Sequence[str], *, as_json: bool) -> None:
    """Print the policy of each process; exits with 1 if they differ, or one is not known."""
    with ThreadPoolExecutor(max_workers=min(16, len(addresses))) as pool:
        found = list(pool.map(partial(_status, listeners), addresses))
    show(found, _COLUMNS, as_json=as_json)
    digests = {it.digest for it in found if not it.error}
    unknown = sum(bool(it.error) for it in found)
    if len(digests) > 1:
        note(f"{len(digests)} different policies are in force")
    if unknown:
        note(f"unknown: {unknown} of {len(found)}")
    if len(digests) > 1 or unknown:
        raise typer.Exit(EXIT_FAILED)


def _status(listeners: AdminListeners, address: str) -> PolicyStatus:
    try:
        # A process that is not ready has a policy all the same.
        _, body = listeners.read(listeners.url(address, "/readyz"), _BYTES_MAX, _TIMEOUT_S)
        policy = json.loads(body)["policy"]
        return PolicyStatus(
            address,
            str(policy["digest"]),
            _number(policy, "version"),
            _number(policy, "routes"),
            str(policy.get("loaded", "")),
            str(policy.get("last_reload", "")),
        )
    except (KeyError, TypeError, AttributeError):
        return PolicyStatus(address, error="it does not report its policy")
    except (OSError, ValueError) as error:
        return PolicyStatus(address, error=described_error(error))


def _number(policy: Mapping[str, object], name: str) -> int | None:
    found = policy.get(name)
    return found if isinstance(found, int) else None
