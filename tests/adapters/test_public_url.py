"""The public origin: one spelling, the one that browsers send, or a refusal."""

import pytest

from authz.adapters.public_url import canonical_origin


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://portal.example", "https://portal.example"),
        ("https://portal.example/", "https://portal.example"),
        (" HTTPS://Portal.EXAMPLE:443/ ", "https://portal.example"),
        ("https://portal.example:8443", "https://portal.example:8443"),
        ("https://b\u00fccher.example", "https://xn--bcher-kva.example"),
        ("https://B\u00dcCHER.example", "https://xn--bcher-kva.example"),
        ("https://[2001:DB8:0::1]:443", "https://[2001:db8::1]"),
        ("http://127.0.0.1:80", "http://127.0.0.1"),
        ("http://[0:0::1]:8000", "http://[::1]:8000"),
        ("http://LOCALHOST:8000", "http://localhost:8000"),
        ("http://demo.localhost", "http://demo.localhost"),
    ],
)
def test_each_spelling_becomes_that_of_browsers(url: str, origin: str) -> None:
    assert canonical_origin(url) == origin
    assert canonical_origin(origin) == origin


@pytest.mark.parametrize(
    "url",
    [
        "",
        "portal.example",
        "ftp://portal.example",
        "http://portal.example",
        "http://10.0.0.1",
        "https://",
        "https://h:x",
        "https://h:0",
        "https://h:99999",
        "https://user@portal.example",
        "https://@portal.example",
        "https://portal.example/path",
        "https://portal.example?x",
        "https://portal.example#x",
        "https://portal..example",
        "https://-portal.example",
        "https://portal.example.",
        "https://127.1",
        "https://0x7f.1",
        "https://[::1",
        "https://[fe80::1%25eth0]",
        "https://a b.example",
        "https://" + "a" * 64 + ".example",
        "https://\u2028.example",
    ],
)
def test_what_cannot_be_an_origin_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="must "):
        canonical_origin(url)
