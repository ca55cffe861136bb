"""What a running process exports, held against its documentation and promtool."""

import re
import subprocess
import urllib.request
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample
from support.servers.programs import UNPACKED

_PAGE = Path(__file__).parents[3] / "docs" / "reference" / "metrics.md"
_PROMTOOL = UNPACKED / "usr" / "bin" / "promtool"
_LIMITS = (
    r"\(rows \+ 1\) \* (\d+) for `authz_checks_total`, rows \* (\d+) for `authz_would_deny_total`, "
    r"(\d+) for each stream class, (\d+) for the rest"
)
_BY_ROW = ("authz_checks_total", "authz_would_deny_total")


def assert_valid(admin_url: str) -> list[Sample]:
    """Return our samples at an admin address, after promtool has found no fault in the text, where it is installed."""
    with urllib.request.urlopen(f"{admin_url}/metrics", timeout=10) as answer:  # noqa: S310 -- our own address
        text = answer.read().decode()
    if _PROMTOOL.exists():
        done = subprocess.run([_PROMTOOL, "check", "metrics"], input=text, text=True, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    ours = [sample for sample in samples if sample.name.startswith("authz_")]
    assert len({(sample.name, *sorted(sample.labels.items())) for sample in ours}) == len(ours)
    return ours


def assert_within_limits(admin_url: str) -> None:
    """Fail if a sidecar has more series than docs/reference/metrics.md says, whatever it was asked before."""
    samples = assert_valid(admin_url)
    page = " ".join(_PAGE.read_text().split())
    (found,) = re.findall(_LIMITS, page)
    of_checks, of_shadow, of_class, rest = map(int, found)
    (rows,) = (int(sample.value) for sample in samples if sample.name == "authz_policy_routes")
    count = {name: sum(sample.name == name for sample in samples) for name in _BY_ROW}
    assert count["authz_checks_total"] <= (rows + 1) * of_checks
    assert count["authz_would_deny_total"] <= rows * of_shadow
    classes = {sample.labels["stream"] for sample in samples if "stream" in sample.labels}
    assert sum("stream" in sample.labels for sample in samples) <= of_class * len(classes)
    others = [sample for sample in samples if "stream" not in sample.labels and sample.name not in _BY_ROW]
    assert len(others) <= rest + 2  # the certificates
