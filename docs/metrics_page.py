"""The page of the metrics, from what the sidecar and the portal register."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from prometheus_client.metrics_core import Metric
from pydantic import SecretStr

from authz.core.errors import DenyReason
from authz.portal_app import Portal
from authz.settings import Settings
from authz.sidecar import Sidecar
from docs.page_text import code, head, paragraph, table

# What a label holds where its values depend on the policy or on requests.
_OPEN_LABELS = {
    "reason": "a [reason](statuses.md)",
    "route": "a route template, or `unmatched`",
    "stream": "a stream class of the policy",
    "version": "the version of authz; of a policy, that of its grammar",
    "method": "an HTTP method; of checks only where several routes have the template",
    "status": "an HTTP status",
    "digest": "the digest of the policy",
}
# Values that appear with the first check only.
_LATER_VALUES = {("authz_checks", "outcome"): ("allow", "deny", "error")}


async def metrics_page(policy: Path) -> list[str]:
    """Return the page of the metrics that the sidecar and the portal register; they need an event loop."""
    nowhere = "127.0.0.1:0"
    settings = Settings(
        policy_file=policy,
        admin_listen=nowhere,
        portal_admin_listen=nowhere,
        portal_proxy_secret=SecretStr("-" * 32),
    )
    sidecar, portal = _ours(Sidecar(settings).registry.collect()), _ours(Portal(settings).registry.collect())
    text = (
        "The sidecar serves `/metrics`, `/healthz` and `/readyz` at `AUTHZ_ADMIN_LISTEN`, the portal at "
        "`AUTHZ_PORTAL_ADMIN_LISTEN`. Both also have `process_…` and `python_…` metrics of the process."
    )
    return [
        *head("Metrics", text),
        *["## The sidecar", "", *_metric_table(sidecar), "", *_series(sidecar), ""],
        *["## The portal", "", *_metric_table(portal), ""],
        *paragraph(
            "The route is the portal's own template. The histogram has a series for each bucket, the sum and the count "
            "of every route, method and status that has occurred."
        ),
    ]


def _ours(families: Iterable[Metric]) -> list[Metric]:
    return [family for family in families if family.name.startswith("authz_")]


def _metric_table(families: Iterable[Metric]) -> list[str]:
    rows = [(code(_full_name(it)), it.type, _labels(it), it.documentation) for it in families]
    return table(("metric", "type", "labels", "meaning"), rows)


def _full_name(family: Metric) -> str:
    return f"{family.name}_total" if family.type == "counter" else family.name


def _labels(family: Metric) -> str:
    seen: dict[str, dict[str, None]] = {}
    for name in getattr(family, "_labelnames", ()):  # a family without samples has no other place for them
        seen[name] = {}
    for sample in family.samples:
        for name, value in sample.labels.items():
            if name != "le":
                seen.setdefault(name, {})[value] = None
    return "; ".join(_label(family.name, name, list(values)) for name, values in seen.items())


def _label(family: str, name: str, values: Sequence[str]) -> str:
    if name in _OPEN_LABELS:
        return f"`{name}`: {_OPEN_LABELS[name]}"
    known = _LATER_VALUES.get((family, name), values)
    return f"`{name}`: {', '.join(map(code, known))}" if known else f"`{name}`"


def _series(families: Sequence[Metric]) -> list[str]:
    """Say how many series there can be."""
    reasons = len(DenyReason)
    samples = [sample for family in families for sample in family.samples]
    classes = {sample.labels["stream"] for sample in samples if "stream" in sample.labels}
    of_a_class = sum("stream" in sample.labels for sample in samples) // max(1, len(classes))
    rest = sum("stream" not in sample.labels for sample in samples)
    return paragraph(
        "A method and a route are those of a row of the policy, never of a request, so the number of series is "
        f"bounded: at most (rows + 1) * {reasons + 1} for `authz_checks_total`, rows * {reasons} for "
        f"`authz_would_deny_total`, {of_a_class} for each stream class, {rest} for the rest, and one "
        "more for each listener with TLS."
    )
