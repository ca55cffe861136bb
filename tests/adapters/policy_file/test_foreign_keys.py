"""`keys.foreign` of a policy file."""

from pathlib import Path

import pytest

from authz.adapters.policy_file.loader import load_policy
from authz.core.errors import PolicyError
from authz.core.keys import ForeignFormat
from authz.demo.servers import shipped


def changed(folder: Path, foreign: str) -> Path:
    path = folder / "policy.yaml"
    text = shipped("policies/truetick.yaml").read_text()
    path.write_text(text.replace("active_max: 25}", f"active_max: 25, foreign: [{foreign}]}}"))
    return path


def test_foreign_formats_are_read(tmp_path: Path) -> None:
    policy = load_policy(changed(tmp_path, "{prefix: sk_live_, alphabet: base62, chars_min: 24, chars_max: 99}"))
    assert policy.keys.foreign == (ForeignFormat("sk_live_", 24, 99, "base62"),)
    assert load_policy(shipped("policies/truetick.yaml")).keys.foreign == ()


@pytest.mark.parametrize(
    ("foreign", "message"),
    [
        ("{prefix: sk_, alphabet: base62, chars_min: 9, chars_max: 99}", "which can be guessed"),
        ("{alphabet: hex, chars_min: 19, chars_max: 99}", "which can be guessed"),
        ("{alphabet: hex, chars_min: 40, chars_max: 32}", "chars_min is more than chars_max"),
        ("{prefix: ttk_, alphabet: base62, chars_min: 24, chars_max: 24}", "the policy's own keys"),
        ("{prefix: ttk_x, alphabet: base62, chars_min: 24, chars_max: 24}", "the policy's own keys"),
        ("{alphabet: any, chars_min: 24, chars_max: 24}", "must be"),
        ("{alphabet: hex, chars_min: 32, chars_max: 5000}", "must be at most 512"),
        ("{prefix: 'a b', alphabet: hex, chars_min: 32, chars_max: 32}", "must match"),
        ("{alphabet: hex, chars_min: 32, chars_max: 32, regex: x}", "unknown field regex"),
    ],
)
def test_a_faulty_format_is_refused(foreign: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match=message):
        load_policy(changed(tmp_path, foreign))
