"""Every attempt has a throttle, and a caller that waits as required is not throttled."""

from authz.core.throttles import DEFAULT_THROTTLES, Attempt


def test_every_attempt_has_a_throttle_and_words() -> None:
    assert set(DEFAULT_THROTTLES) == set(Attempt)
    assert all(throttle.message for throttle in DEFAULT_THROTTLES.values())


def test_a_command_that_polls_every_two_seconds_never_gets_slow_down() -> None:
    poll = DEFAULT_THROTTLES[Attempt.DEVICE_POLL]
    assert poll.per_subject * 2 > 2 * poll.wait_s
