"""What counts as one address, and that every attempt has its words."""

import pytest

from authz.core.throttles import DEFAULT_THROTTLES, MESSAGES, Attempt, network


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("2001:db8:1:2:aaaa::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:bbbb::2", "2001:db8:1:2::/64"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("", ""),
        ("unknown", "unknown"),
    ],
)
def test_one_customer_is_one_address(address: str, counted: str) -> None:
    assert network(address) == counted


def test_every_attempt_has_a_throttle_and_words() -> None:
    assert set(DEFAULT_THROTTLES) == set(MESSAGES) == set(Attempt)


def test_a_command_that_polls_every_two_seconds_is_never_told_to_slow_down() -> None:
    poll = DEFAULT_THROTTLES[Attempt.DEVICE_POLL]
    assert poll.per_subject * 2 > 2 * poll.wait_s
