"""Keys in the messages of operators' commands are masked wherever they stand."""

import pytest

from authz.cli.output import masked

SECRET = "0" * 49


@pytest.mark.parametrize(
    "around",
    [
        "{}",
        "there is no key {}",
        "a={}&b",
        "/v1/{}/x",
        "_{}",
        "{}_",
        "3{}",
        "\u65e5{}",
        "{}\u0301",
        "{0}{0}",
        "{0}_{0}",
    ],
)
@pytest.mark.parametrize("prefix", ["ttk_", "TTK_", "ttk_live_", "ttk%5F", "%74tk_"])
def test_a_key_is_masked_whatever_stands_beside_it(around: str, prefix: str) -> None:
    shown = masked(around.format(prefix + SECRET))
    assert "0" * 12 not in shown
    assert "\u20260000" in shown


@pytest.mark.parametrize(
    "text", ["acct_unknown000000000", "key_markup0000000000", "AUTHZ_BREACHED_PASSWORDS_FILE", "ls_abcdefghij234567"]
)
def test_ids_and_variables_are_shown(text: str) -> None:
    assert masked(text) == text
