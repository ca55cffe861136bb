"""Responses built from fragments are byte for byte what protobuf writes for the same values."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from support.builders import KEY, LIMIT, LOGS, ROUTES, policy, request

from authz.core.buckets.bucket_set import BucketSet
from authz.core.check import Allow, Bucket, Decision, Deny, Principal
from authz.core.errors import DenyReason
from authz.core.limits import Limit, NamedLimit
from authz.core.policy.policy import RateHeaders
from authz.core.streams import StreamClass, StreamUse
from authz.edge.check import responses as answers_module
from authz.edge.check.codec import encode
from authz.edge.check.responses import ResponseWriter

POLICIES = [
    policy(rate_headers=RateHeaders(ietf=ietf, legacy=legacy)) for ietf in (True, False) for legacy in (True, False)
]
ANSWERS = [ResponseWriter(each) for each in POLICIES]

NAMES = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=200)
PRINCIPALS = st.builds(Principal, NAMES, NAMES, st.frozensets(NAMES, max_size=9))
LIMITS = st.builds(Limit, st.integers(1, 10**6), st.floats(0.001, 10**4))


def _several(limits: list[Limit], account: Limit | None, shown: int) -> Bucket:
    items = tuple(NamedLimit(f"limit-{number}", limit) for number, limit in enumerate(limits))
    buckets = BucketSet(items, account)
    index = shown % len(buckets.listed)
    return buckets.bucket(index, shown % buckets.listed[index].limit.capacity)


BUCKETS = (
    st.builds(Bucket.of, LIMITS, st.floats(0, 10**6))
    | st.builds(Bucket.of, st.just(LIMIT), st.floats(0, 120))
    | st.builds(Bucket.of, LIMITS, st.floats(0, 10**6), LIMITS, is_account=st.booleans())
    | st.builds(_several, st.lists(LIMITS, min_size=1, max_size=5), st.none() | LIMITS, st.integers(0, 9))
)
REASONS = st.sampled_from(DenyReason)
CLASSES = st.sampled_from([LOGS, StreamClass("events", 1, 2, 30)])
USES = st.none() | st.builds(StreamUse, CLASSES, st.integers(0, 12), st.integers(0, 12), NAMES)
ALLOWS = st.builds(
    Allow, st.sampled_from(ROUTES), st.none() | PRINCIPALS, st.none() | BUCKETS, st.none() | REASONS, USES
)
DENIES = st.builds(
    Deny,
    REASONS,
    st.none() | st.sampled_from(ROUTES),
    st.none() | PRINCIPALS,
    st.none() | BUCKETS,
    st.sampled_from([(), ("GET",), ("GET", "POST")]),
    st.none() | st.integers(1, 99),
    st.sampled_from(["", "detail"]),
    USES,
)


RESERVED = st.lists(st.sampled_from(["x-authz-account-id", "x-authz-scopes", "x-authz-other", "x-authz-"]), max_size=4)


@given(st.integers(0, 3), ALLOWS | DENIES, st.booleans(), RESERVED.map(tuple))
def test_every_answer_is_what_protobuf_writes(
    which: int,
    decision: Decision,
    is_grpc: bool,  # noqa: FBT001
    reserved: tuple[str, ...],
) -> None:
    attributes = request("GET", "/v1/servers", KEY, is_grpc=is_grpc, reserved_headers=reserved)
    expected = encode(POLICIES[which], attributes, decision).SerializeToString(deterministic=True)
    for _ in range(2):  # the second time from the pieces kept
        assert ANSWERS[which].write(attributes, decision) == expected


def test_what_is_kept_of_a_caller_is_that_of_the_policy_and_no_part_of_who_calls() -> None:
    principal = Principal("acct_1", "key_1", frozenset({"servers:read"}))
    other = replace(POLICIES[0], keys=replace(POLICIES[0].keys, header="x-other-key"))
    for each in (POLICIES[0], other, POLICIES[0]):
        decision, attributes = Allow(ROUTES[0], principal), request()
        expected = encode(each, attributes, decision).SerializeToString(deterministic=True)
        assert ResponseWriter(each).write(attributes, decision) == expected
    assert principal.fragments is not None
    untouched = Principal("acct_1", "key_1", frozenset({"servers:read"}))
    assert principal == untouched
    assert hash(principal) == hash(untouched)
    assert principal != Principal("acct_1", "key_2", frozenset({"servers:read"}))


@given(st.lists(st.tuples(st.none() | BUCKETS, RESERVED.map(tuple)), max_size=6))
def test_the_responses_of_one_caller_follow_its_limits(checks: list[tuple[Bucket | None, tuple[str, ...]]]) -> None:
    principal = Principal("acct_1", "key_1", frozenset({"servers:read"}))
    for bucket, reserved in checks * 2:
        attributes, decision = request(reserved_headers=reserved), Allow(ROUTES[0], principal, bucket)
        expected = encode(POLICIES[0], attributes, decision).SerializeToString(deterministic=True)
        assert ANSWERS[0].write(attributes, decision) == expected


def test_what_is_kept_is_bounded() -> None:
    before, answers_module.FRAGMENTS_MAX = answers_module.FRAGMENTS_MAX, 10
    try:
        answers = ResponseWriter(POLICIES[0])
        for number in range(50):
            principal = Principal(f"acct_{number}", f"key_{number}", frozenset())
            answers.write(request(), Allow(ROUTES[0], principal, Bucket.of(Limit(number + 1, 1.0), 1)))
            answers.write(request(), Deny(DenyReason.KEY_MISSING, retry_after_s=number))
        assert all(len(pieces) <= 10 for pieces in (answers._waits, answers._rates._limits, answers._refusals))  # noqa: SLF001 -- what is bounded
    finally:
        answers_module.FRAGMENTS_MAX = before


def test_every_bucket_is_listed_and_the_one_that_refused_says_what_is_left() -> None:
    items = (NamedLimit("burst", Limit(10, 2)), NamedLimit("daily", Limit(1000, 0.5)))
    bucket = BucketSet(items, Limit(50, 5)).bucket(1, 0.25)
    deny = Deny(DenyReason.RATE_LIMITED, ROUTES[0], None, bucket, retry_after_s=2)
    headers = {it.header.key: it.header.value for it in encode(POLICIES[0], request(), deny).denied_response.headers}
    assert headers["ratelimit-policy"] == '"burst";q=10;w=5, "daily";q=1000;w=2000, "account";q=50;w=10'
    assert headers["ratelimit"] == '"daily";r=0;t=2000'
    assert (headers["x-ratelimit-limit"], headers["retry-after"]) == ("1000", "2")
