"""The figures of `authz top`: what two scrapes of some processes say about the time between them.

What is shown of them is `top.py`.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from math import inf, isfinite

from prometheus_client.parser import text_string_to_metric_families

from authz.cli.admin_listeners import AdminListeners, described_error

SCRAPE_BYTES_MAX = 16_777_216
_TIMEOUT_S = 2.0
_TOP = 10

Labels = frozenset[tuple[str, str]]
Scrape = Mapping[tuple[str, Labels], float]


@dataclass(frozen=True)
class Latency:
    """Upper bounds of the median and the 99th percentile in milliseconds; None without observations."""

    p50_ms: float | None
    p99_ms: float | None


@dataclass(frozen=True)
class Process:
    """A process at an address; `error` says why it was not read."""

    address: str
    error: str = ""
    version: str = ""
    policy: str = ""
    stores: dict[str, bool] = field(default_factory=dict)


@dataclass(frozen=True)
class Snapshot:
    """The sum over all processes that were read, over `seconds`. Rates are per second, the highest first."""

    seconds: float
    processes: list[Process]
    checks: dict[str, float]
    check: Latency
    stores: dict[str, Latency]
    refusals: dict[str, float]
    routes: dict[str, float]
    streams: dict[str, int]
    in_flight: int
    pending_changes: int
    oldest_change_s: float


def snapshot(
    listeners: AdminListeners, addresses: Sequence[str], seconds: float, sleep: Callable[[float], None] = time.sleep
) -> Snapshot:
    """Scrape all addresses twice, `seconds` apart."""
    scrape = partial(scraped, listeners)
    with ThreadPoolExecutor(max_workers=min(16, len(addresses))) as pool:
        before = list(pool.map(scrape, addresses))
        started_s = time.monotonic()
        sleep(seconds)
        after = list(pool.map(scrape, addresses))
    return compared(addresses, before, after, max(time.monotonic() - started_s, seconds))


def compared(
    addresses: Sequence[str], before: Sequence[Scrape | str], after: Sequence[Scrape | str], seconds: float
) -> Snapshot:
    """Compare two scrapes of each address; a text is the reason why there is none."""
    grown: Counter[tuple[str, Labels]] = Counter()
    present: Counter[tuple[str, Labels]] = Counter()
    oldest_s = 0.0
    for first, second in zip(before, after, strict=True):
        if isinstance(first, str) or isinstance(second, str):
            continue
        for key, value in second.items():
            present[key] += value  # type: ignore[assignment]  # counts of numbers
            earlier = first.get(key, 0.0)
            grown[key] += value - earlier if value >= earlier else value  # type: ignore[assignment]  # after a restart
        oldest_s = max(
            [oldest_s, *(value for (name, _), value in second.items() if name == "authz_outbox_oldest_seconds")]
        )
    checks = "authz_checks_total"
    denied = {key: value for key, value in grown.items() if dict(key[1]).get("outcome") != "allow"}
    duration = "authz_store_duration_seconds"
    stores = sorted({dict(labels)["store"] for name, labels in present if name == f"{duration}_count"})
    return Snapshot(
        seconds=round(seconds, 3),
        processes=[_process(address, second) for address, second in zip(addresses, after, strict=True)],
        checks=_rates(grown, checks, "outcome", seconds),
        check=_latency(grown, "authz_check_duration_seconds"),
        stores={store: _latency(grown, duration, ("store", store)) for store in stores},
        refusals=_rates(denied, checks, "reason", seconds),
        routes=_rates(grown, checks, "route", seconds),
        streams={name: int(value) for name, value in _sums(present, "authz_streams_open", "stream").items()},
        in_flight=int(sum(value for (name, _), value in present.items() if name == "authz_checks_in_flight")),
        # Every sidecar counts the same outbox.
        pending_changes=int(max([0, *_values(after, "authz_outbox_entries")])),
        oldest_change_s=round(oldest_s, 1),
    )


def scraped(listeners: AdminListeners, address: str) -> Scrape | str:
    """Return the samples of authz at an admin address, or why there are none."""
    try:
        status, body = listeners.read(listeners.url(address, "/metrics"), SCRAPE_BYTES_MAX, _TIMEOUT_S)
        if status != HTTPStatus.OK:
            return f"/metrics has status {status}"
        families = text_string_to_metric_families(body.decode(errors="replace"))
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in families
            for sample in family.samples
            if sample.name.startswith("authz_")
        }
    except (OSError, ValueError) as error:
        return described_error(error)


def _process(address: str, scrape: Scrape | str) -> Process:
    if isinstance(scrape, str):
        return Process(address, scrape)
    texts = {name: dict(labels) for (name, labels) in scrape}
    stores = {dict(labels)["store"]: value == 1 for (name, labels), value in scrape.items() if name == "authz_store_up"}
    version = texts.get("authz_build_info", {}).get("version", "")
    return Process(address, "", version, texts.get("authz_policy_info", {}).get("digest", ""), stores)


def _values(scrapes: Iterable[Scrape | str], name: str) -> list[float]:
    return [value for one in scrapes if not isinstance(one, str) for (key, _), value in one.items() if key == name]


def _sums(samples: Mapping[tuple[str, Labels], float], name: str, label: str) -> dict[str, float]:
    sums: Counter[str] = Counter()
    for (found, labels), value in samples.items():
        if found == name:
            sums[dict(labels)[label]] += value  # type: ignore[assignment]  # as above
    return dict(sums)


def _rates(grown: Mapping[tuple[str, Labels], float], name: str, label: str, seconds: float) -> dict[str, float]:
    rates = {value: round(count / seconds, 2) for value, count in _sums(grown, name, label).items() if count > 0}
    return dict(sorted(rates.items(), key=lambda item: -item[1])[:_TOP])


def _latency(grown: Mapping[tuple[str, Labels], float], name: str, only: tuple[str, str] | None = None) -> Latency:
    buckets: Counter[float] = Counter()
    for (found, labels), value in grown.items():
        if found == f"{name}_bucket" and (only is None or only in labels):
            buckets[float(dict(labels)["le"])] += value  # type: ignore[assignment]  # as above
    return Latency(_bound(buckets, 0.5), _bound(buckets, 0.99))


def _bound(buckets: Mapping[float, float], share: float) -> float | None:
    """Return the lowest bound that the share of observations does not exceed; the highest finite one beyond that."""
    total = buckets.get(inf, 0.0)
    if not total:
        return None
    bounds = sorted(buckets)
    reached = next(bound for bound in bounds if buckets[bound] >= share * total)
    return 1000 * (reached if isfinite(reached) else bounds[-2])
