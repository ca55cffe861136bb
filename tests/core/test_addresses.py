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
        ("2001:db8:1:2::9%eth0", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::1"),
        ("fe80::2", "fe80::2"),
        ("203.0.113.9:5678", "203.0.113.9"),
        ("[2001:db8:1:2::9]:5678", "2001:db8:1:2::/64"),
        ("[2001:db8:1:2::9]", "2001:db8:1:2::/64"),
        ("[::ffff:203.0.113.9]:5678", "203.0.113.9"),
        ("64:ff9b::203.0.113.9", "203.0.113.9"),
        ("64:ff9b:1::203.0.113.9", "64:ff9b:1::cb00:7109"),
        ("64:ff9b:1:fffe::203.0.113.9", "64:ff9b:1:fffe::cb00:7109"),
        ("::ffff:0:203.0.113.9", "203.0.113.9"),
        ("::203.0.113.9", "203.0.113.9"),
        ("2002:cb00:7109:1::1", "203.0.113.9"),
        ("2002:cb00:7109:2::1", "203.0.113.9"),
        ("2001:0:4136:e378:8000:63bf:34ff:8ef6", "203.0.113.9"),
        ("::1", "::1"),
        ("::", "::"),
        ("203.0.113.9:", ""),
        ("203.0.113.9:x", ""),
        ("203.0.113.9:5678:1", ""),
        ("[203.0.113.9]:1", ""),
        ("[2001:db8::9", ""),
        ("[2001:db8::9]x", ""),
        ("2001:db8::9]:1", ""),
        ("203.0.113", ""),
        ("example.com:80", ""),
        ("", ""),
        ("203.0.113.9, 6.6.6.6", ""),
        ("x" * 100, ""),
    ],
)
def test_an_address_is_counted_by_what_one_caller_holds(address: str, counted: str) -> None:
    assert network(address) == counted


TRANSLATED = ["64:ff9b::{4}", "64:ff9b:1::{4}", "::ffff:{4}", "::ffff:0:{4}", "::{4}", "2002:{6}::1", "fe80::{4}"]


@pytest.mark.parametrize("form", [*TRANSLATED, "2001:0:4136:e378:8000:63bf:39cc:{x}"])
def test_unrelated_clients_behind_one_translator_are_counted_apart(form: str) -> None:
    units = set()
    for number in range(1, 200):
        parts = {"{4}": f"198.51.100.{number}", "{6}": f"c633:64{number:02x}", "{x}": f"{0x9BFF ^ number:x}"}
        address = form
        for name, text in parts.items():
            address = address.replace(name, text)
        units.add(network(address))
    assert len(units) == 199
    assert "" not in units
