"""What the doctor finds in a running sidecar, over its admin listener: readiness, faults, version and policy.

The other findings are of the doctor's own process, which may have other settings.
"""

import json
from http import HTTPStatus
from typing import Any

from authz import __version__
from authz.cli.admin_listeners import AdminListeners, described_error
from authz.cli.doctor.findings import Finding, State, judged
from authz.cli.doctor.stores import outbox
from authz.cli.top_figures import scraped

_TIMEOUT_S = 3.0
_BODY_BYTES_MAX = 1_048_576


def running_findings(listeners: AdminListeners, address: str, policy_digest: str) -> list[Finding]:
    """Return what `/readyz` and `/metrics` of an admin address say."""
    name = f"sidecar {address}"
    try:
        status, body = _readyz(listeners, address)
    except (OSError, ValueError) as error:
        return [Finding(name, State.WRONG, f"/readyz does not answer: {described_error(error)}")]
    found = [_readiness(name, status, body)]
    samples = scraped(listeners, address)
    if isinstance(samples, str):
        return [*found, Finding(name, State.WRONG, f"/metrics does not answer: {samples}")]
    texts = {metric: dict(labels) for metric, labels in samples}
    version = texts.get("authz_build_info", {}).get("version", "unknown")
    digest = texts.get("authz_policy_info", {}).get("digest", "unknown")
    differences = []
    if version != __version__:
        differences.append(f"runs version {version}, this is {__version__}")
    if digest != policy_digest:
        differences.append(f"has policy {digest}, the file is {policy_digest or 'invalid'}")
    state = State.WARNING if differences else State.OK
    facts = {"version": version, "policy": digest}
    found.append(Finding(name, state, "; ".join(differences) or f"version {version}, policy {digest}", facts))
    values = {metric: value for (metric, _), value in samples.items()}
    entries, oldest_s = values.get("authz_outbox_entries", 0.0), values.get("authz_outbox_oldest_seconds", 0.0)
    reported = outbox(int(entries), oldest_s)
    return [*found, Finding(f"{name} outbox", reported.state, reported.detail, reported.facts)]


def _readyz(listeners: AdminListeners, address: str) -> tuple[int, dict[str, Any]]:
    status, text = listeners.read(listeners.url(address, "/readyz"), _BODY_BYTES_MAX, _TIMEOUT_S)
    body = json.loads(text)
    if not isinstance(body, dict):
        raise ValueError("no object")  # noqa: TRY004 -- a text that is no answer, as any other
    return status, body


def _readiness(name: str, status: int, body: dict[str, Any]) -> Finding:
    faults = [condition for condition, is_true in body.items() if is_true is False]
    stores, failing = body.get("stores", {}), body.get("faults", {})
    faults += [f"{store}: {text}" for store, text in stores.items() if text != "available"]
    faults += [f"{loop}: {text}" for loop, text in failing.items()]
    if status != HTTPStatus.OK and not faults:
        faults.append(f"/readyz has status {status}")
    return judged(name, ", ".join(faults), f"/readyz {status}", {"status": status, "readyz": body})
