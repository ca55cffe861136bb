"""The polling interval of a device, and the failures that do not stop it."""

from dataclasses import dataclass, field

import pytest

from authz.client.api import Grant
from authz.client.device import await_approval
from authz.client.faults import ApiRefused, Fault, NotApproved

GRANT = Grant("code", "ABCD-1234", "https://x/device", "https://x/device", expires_in_s=300, interval_s=2)
PENDING, APPROVED, EXPIRED = ("pending", ""), ("approved", "ttk_1"), ("expired", "")


@dataclass
class FakeApi:
    """Answers polls from a list, the last one for ever; and is the clock too."""

    answers: list[tuple[str, str] | Fault]
    now_s: float = 0.0
    polled_s: list[float] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)

    def poll_device(self, _grant: Grant) -> tuple[str, str]:
        self.polled_s.append(self.now_s)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Fault):
            raise answer
        return answer

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds

    def await_approval(self, grant: Grant = GRANT) -> str:
        return await_approval(
            grant, self.poll_device, now_s=lambda: self.now_s, sleep=self.sleep, report=self.messages.append
        )


def test_it_asks_every_interval_until_it_has_its_key() -> None:
    api = FakeApi([PENDING, PENDING, APPROVED])
    assert api.await_approval() == "ttk_1"
    assert api.polled_s == [2, 4, 6]


@pytest.mark.parametrize(
    "fault",
    [
        Fault("out of reach"),
        ApiRefused("not found", status=404),
        ApiRefused("too many requests", status=429),
        Fault("internal error", status=500),
        Fault("unavailable", status=503),
    ],
)
def test_what_passes_does_not_stop_it(fault: Fault) -> None:
    api = FakeApi([fault, fault, APPROVED])
    assert api.await_approval() == "ttk_1"
    assert api.polled_s == [2, 4, 6]
    assert api.messages == [str(fault)] * 2


def test_it_waits_once_for_the_requested_time() -> None:
    slow = ApiRefused("slow down", status=429, retry_after_s=5)
    api = FakeApi([slow, PENDING, Fault("unavailable", status=503, retry_after_s=1), APPROVED])
    api.await_approval()
    assert api.polled_s == [2, 7, 9, 11]


@pytest.mark.parametrize("status", [400, 401, 403, 409, 413])
def test_a_refusal_that_asking_again_cannot_change_ends_it(status: int) -> None:
    api = FakeApi([ApiRefused("bad request", status=status)])
    with pytest.raises(ApiRefused, match="bad request"):
        api.await_approval()
    assert api.polled_s == [2]


def test_a_code_that_has_expired_ends_it() -> None:
    api = FakeApi([PENDING, EXPIRED])
    with pytest.raises(NotApproved, match="has expired or was refused"):
        api.await_approval()


def test_it_never_asks_after_the_code_has_run_out() -> None:
    api = FakeApi([PENDING])
    with pytest.raises(NotApproved, match=r"^nobody approved the code in time: run truetick login"):
        api.await_approval()
    assert api.polled_s[-1] == 298
    assert len(api.polled_s) == 149


def test_it_does_not_wait_for_what_cannot_come_any_more() -> None:
    api = FakeApi([ApiRefused("slow down", status=429, retry_after_s=3600)])
    with pytest.raises(NotApproved, match=r"in time \(slow down\)"):
        api.await_approval()
    assert api.now_s == 2
