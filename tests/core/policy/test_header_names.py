"""Names of headers that cannot carry a key, and names that can."""

import pytest

from authz.core.policy.header_names import key_header_fault


@pytest.mark.parametrize(
    "name", ["x-api-key", "api-key", "x-shop-token", "x-auth-token", "apikey", "x-cf-key", "clientip"]
)
def test_a_name_of_the_apis_own_may_carry_a_key(name: str) -> None:
    assert key_header_fault(name) is None


@pytest.mark.parametrize(
    "name",
    [
        "true-client-ip", "cf-connecting-ip", "cf-ray", "fastly-client-ip", "x-client-ip", "x-cluster-client-ip",
        "x-azure-clientip", "x-real-ip", "x-original-forwarded-for", "x-host", "x-original-host", "uber-trace-id",
        "x-http-host-override", "x-amzn-trace-id", "x-csrf-token", "idempotency-key", "upgrade-insecure-requests",
        "true_client_ip", "cf_ray",
    ],
)  # fmt: skip
def test_a_name_that_others_own_carries_none(name: str) -> None:
    assert key_header_fault(name) is not None
