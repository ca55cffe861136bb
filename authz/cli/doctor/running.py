"""What the doctor finds in a running sidecar, over its admin listener: readiness, faults, version and policy.

The other findings are of the doctor's own process, which may have other settings.
"""

import json
import urllib.request
from http import HTTPStatus
from typing import Any
from urllib.error import HTTPError

from authz import __version__
from authz.cli.doctor.findings import Finding, State, judged
from authz.cli.doctor.stores import outbox
from authz.cli.top_figures import address_of, scraped

_TIMEOUT_S = 3.0
_BODY_BYTES_MAX = 1_048_576


def running_findings(address: str, policy_digest: str) -> list[Finding]:
    """Return what `/readyz` and `/metrics` of an admin address say. Raises `ValueError` for what is no address."""
    metrics_url = address_of(address)
    name, ready_url = f"sidecar {address}", metrics_url.removesuffix("/metrics") + "/readyz"
    try:
        status, body = _read(ready_url)
    except (OSError, ValueError) as error:
        return [Finding(name, State.WRONG, f"/readyz does not answer: {type(error).__name__}")]
    found = [_readiness(name, status, body)]
    samples = scraped(metrics_url)
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


def _read(url: str) -> tuple[int, dict[str, Any]]:
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as answer:  # noqa: S310 -- http only, as checked
            status, text = int(answer.status), answer.read(_BODY_BYTES_MAX)
    except HTTPError as error:
        status, text = error.code, error.read(_BODY_BYTES_MAX)
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
