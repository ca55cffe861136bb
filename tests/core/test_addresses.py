"""What counts as one source address."""

import pytest

from authz.core.addresses import network


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:DB8:1:2::", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("203.0.113.9, 6.6.6.6", ""),
        ("x" * 100, ""),
    ],
)
def test_an_address_is_counted_by_what_one_caller_holds(address: str, counted: str) -> None:
    assert network(address) == counted
