"""Cross-talk and growth, in short (the long runs are `make crosstalk` and `make soak`), and that they are noticed."""

import random

import pytest
import uvloop
from bench.crosstalk import Caller, ExpectedCall, SentCall, Tally, cross
from bench.load.checks import framed
from bench.plan import Plan
from bench.soak import SAMPLES, Soak, soak
from bench.test_bench import call

from authz._pb.check_pb2 import CheckResponse
from authz.edge.h2 import wire

MINE, YOURS = b"acct_aaaaaaaaaaaaaaaa", b"acct_bbbbbbbbbbbbbbbb"
END = wire.HEADERS, wire.END_STREAM | wire.END_HEADERS


def test_every_answer_goes_to_its_own_call() -> None:
    tally = uvloop.run(cross(5_000, random.Random(5)))  # noqa: S311 -- a test's delays
    assert (tally.foreign, tally.unanswered) == (0, 0)
    assert min(tally.right, tally.reset, tally.expired) > 0


@pytest.mark.timed
def test_a_sidecar_with_warm_caches_does_not_grow() -> None:
    soaked = uvloop.run(soak(Plan(keys=100, requests=200), checks=20_000, keys=200))
    assert len(soaked.rss_mib) == SAMPLES
    assert soaked.calls == 20_000
    assert soaked.growth_mib < 1


def test_growth_is_what_comes_after_the_first_half() -> None:
    assert Soak([50, 60, 70, 80, 80, 80, 80, 80], 1, 0).growth_mib == 0
    assert Soak([50, 50, 50, 50, 50, 50, 60, 60], 1, 0).growth_mib == 10


def answer(stream_id: int, account: bytes) -> bytes:
    header = {"header": {"key": "x-authz-account-id", "value": account.decode()}}
    message = CheckResponse(status={}, ok_response={"headers": [header]}).SerializeToString()
    return wire.frame(wire.DATA, 0, stream_id, b"\0" + len(message).to_bytes(4) + message)


@pytest.mark.parametrize(
    ("read", "tally"),
    [
        (answer(1, MINE) + wire.frame(*END, 1), Tally(right=1)),
        (answer(1, YOURS), Tally(foreign=1)),
        (answer(1, MINE) + answer(1, MINE), Tally(right=1, foreign=1)),
        (answer(3, MINE), Tally(foreign=1)),
        (wire.frame(*END, 1), Tally(unanswered=1)),
        (wire.rst_stream(1, wire.ErrorCode.INTERNAL_ERROR), Tally(unanswered=1)),
    ],
    ids=["mine", "another's", "twice", "nobody's", "none", "reset"],
)
async def test_an_answer_that_is_not_ones_own_is_noticed(read: bytes, tally: Tally) -> None:
    kept = Tally()
    caller = Caller(iter(()), kept, random.Random(6))  # noqa: S311 -- not used
    caller.asked[1] = SentCall(ExpectedCall(framed(call()), MINE, 0, is_hurried=False))
    caller.asked[99] = SentCall(ExpectedCall(framed(call()), YOURS, 0, is_hurried=False))  # keeps the connection busy
    caller.data_received(read)
    assert kept == tally
