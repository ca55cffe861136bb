"""What Prometheus reads of streams: every series there from the start, a bounded number of them."""

from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from authz.adapters.prometheus.checks import registry
from authz.adapters.prometheus.streams import StreamMetrics
from authz.core.streams import AcquireOutcome, ReleaseCause


def samples(metrics: StreamMetrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    text = generate_latest(registry(metrics)).decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name.startswith("authz_")
    }


def test_leases_are_counted_by_class_and_by_what_became_of_them() -> None:
    metrics = StreamMetrics({"logs": None}, lambda: {"logs": 2, "gone": 1})
    metrics.acquired("logs", AcquireOutcome.KEY_FULL)
    metrics.retaken("logs", exceeds=True)
    metrics.released("logs", ReleaseCause.END, 59.5)
    metrics.released("logs", ReleaseCause.EXPIRY, None)
    metrics.released("gone", ReleaseCause.END, 1)  # of a class that left the policy
    read = samples(metrics)
    assert read["authz_streams_open", (("stream", "logs"),)] == 2
    assert read["authz_stream_acquisitions_total", (("outcome", "key_full"), ("stream", "logs"))] == 1
    assert read["authz_stream_retakes_total", (("exceeds", "true"), ("stream", "logs"))] == 1
    assert read["authz_stream_releases_total", (("cause", "end"), ("stream", "logs"))] == 1
    assert read["authz_stream_releases_total", (("cause", "expiry"), ("stream", "logs"))] == 1
    assert read["authz_stream_age_seconds_bucket", (("le", "15"), ("stream", "logs"))] == 0
    assert read["authz_stream_age_seconds_bucket", (("le", "60"), ("stream", "logs"))] == 1
    assert read["authz_stream_age_seconds_count", (("stream", "logs"),)] == 1


def test_a_class_has_twenty_two_series_from_the_start() -> None:
    counts = [len(samples(StreamMetrics(dict.fromkeys(names), dict))) for names in (["logs"], ["logs", "events"])]
    assert counts == [22, 44]
