"""Every spelling of a host is one name, and what another reader could take for another host is none."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.core.hosts.names import host_name, pattern_fault

labels = st.from_regex(r"[a-z_]([a-z0-9_]{0,8}[a-z0-9])?", fullmatch=True)
names = st.lists(labels, min_size=1, max_size=4).map(".".join)


@given(
    name=names, port=st.sampled_from(["", ":", ":0", ":443", ":65535"]), dot=st.sampled_from(["", "."]), data=st.data()
)
def test_case_ports_and_one_trailing_dot_do_not_matter(name: str, port: str, dot: str, data: st.DataObject) -> None:
    flips = data.draw(st.lists(st.booleans(), min_size=len(name), max_size=len(name)))
    mixed = "".join(char.upper() if flip else char for char, flip in zip(name, flips, strict=True))
    assert host_name(f"{mixed}{dot}{port}") == name


@given(st.text(max_size=40) | st.text(string.ascii_letters + ".:-[]@,% *0123456789", max_size=40))
def test_a_name_is_its_own_only_spelling(text: str) -> None:
    name = host_name(text)
    assert host_name(name) == name
    assert name == "" or pattern_fault(name) is None or name == "*"
    assert not set(name) & set(" ,@%*/?#")
    assert name == name.lower()


@pytest.mark.parametrize(
    "authority",
    [
        "",
        ".",
        ":443",
        "a..b",
        "a.b..",
        ".a",
        "a.b,c.d",
        "a.b, a.b",
        "user@a.b",
        "a.b/",
        "a.b\\",
        "a.b:x",
        "a.b:123456",
        "a.b:1:2",
        "http://a.b",
        "a%2eb",
        "%61.b",
        " a.b",
        "a.b\t",
        "a.b\0",
        "a-.b",
        "-a.b",
        "b\u00fccher.example",
        "\uff41.example",
        "a\u3002example",
        "xn--a-.example",
        "xn--.example",
        "xn--admin-.example",
        "ab--c.example",
        "127.1",
        "0x7f.0.0.1",
        "0177.0.0.1",
        "2130706433",
        "1.2.3.4.5",
        "256.1.1.1",
        "a.0x10",
        "[::1",
        "[::1%25eth0]",
        "[::1]x",
        "[1.2.3.4]",
        "::1",
        "x" * 64,
        ".".join(["a" * 60] * 5),
        "a" * 100_000,
    ],
)
def test_what_has_another_reading_is_no_host(authority: str) -> None:
    assert host_name(authority) == ""


@pytest.mark.parametrize(
    ("authority", "name"),
    [
        ("XN--BCHER-KVA.Example.:8443", "xn--bcher-kva.example"),
        ("[2001:DB8:0::1]:443", "[2001:db8::1]"),
        ("[::ffff:1.2.3.4]", "[::ffff:1.2.3.4]"),
        ("[::FFFF:102:304]:80", "[::ffff:1.2.3.4]"),
        ("192.0.2.1:80", "192.0.2.1"),
        ("192.0.2.1.", "192.0.2.1"),
        ("my_host", "my_host"),
    ],
)
def test_other_spellings_become_one(authority: str, name: str) -> None:
    assert host_name(authority) == name


@pytest.mark.parametrize("pattern", ["*", "*.example.com", "a.example", "[::1]", "10.0.0.1", "*.local"])
def test_a_pattern_is_a_host_or_all_below_it(pattern: str) -> None:
    assert pattern_fault(pattern) is None


@pytest.mark.parametrize(
    "pattern",
    [
        "",
        "A.example",
        "a.example:80",
        "a.example.",
        "*.",
        "**",
        "a.*",
        "*a.b",
        "*.10.0.0.1",
        "*.[::1]",
        "*.*.a",
        "\u00fc.b",
    ],
)
def test_anything_else_is_no_pattern(pattern: str) -> None:
    assert pattern_fault(pattern)
