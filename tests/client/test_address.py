"""Where secrets may be sent: over https, or to this machine."""

import pytest

from authz.client.address import checked, is_for_browsers
from authz.client.faults import WrongUsage


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("https://api.example", "https://api.example"),
        (" https://api.example/ ", "https://api.example"),
        ("https://API.example:8443/v0/", "https://api.example:8443/v0"),
        ("HTTPS://api.example", "https://api.example"),
        ("http://localhost:8000", "http://localhost:8000"),
        ("http://127.0.0.1:8000/", "http://127.0.0.1:8000"),
        ("http://127.8.9.1", "http://127.8.9.1"),
        ("http://[::1]:8000", "http://[::1]:8000"),
    ],
)
def test_https_and_this_machine_are_fine(given: str, expected: str) -> None:
    assert checked(given, insecure_http=False) == expected


@pytest.mark.parametrize(
    "given",
    [
        "http://api.example",
        "http://10.0.0.1",
        "http://localhost.evil.example",
        "http://127.0.0.1.evil.example",
        "http://localhost\\@evil.example",
        "http://0.0.0.0",
        "http://127.1",
        "http://2130706433",
        "http://[::ffff:10.0.0.1]",
        "http://[fe80::1]",
    ],
)
def test_plain_http_to_anywhere_else_needs_the_option(given: str) -> None:
    with pytest.raises(WrongUsage):
        checked(given, insecure_http=False)


def test_the_option_allows_plain_http() -> None:
    assert checked("http://10.0.0.1:8000", insecure_http=True) == "http://10.0.0.1:8000"


@pytest.mark.parametrize(
    "given",
    [
        "",
        "api.example",
        "https://",
        "ftp://api.example",
        "file:///etc/passwd",
        "https://api.example?x=1",
        "https://api.example#x",
        "https://api.example:port",
        "https://[::1",
        "https://a b",
        "https://\x00",
        "https://ada:hunter2@api.example",
        "https://localhost@api.example",
    ],
)
def test_what_is_not_an_apis_address_is_refused_without_being_repeated(given: str) -> None:
    with pytest.raises(WrongUsage) as raised:
        checked(given, insecure_http=True)
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://portal.example/device?code=ABCD-1234", True),
        ("http://localhost:8000/device", True),
        ("http://portal.example/device", False),
        ("file:///etc/passwd", False),
        ("javascript:alert(1)", False),
        ("--help", False),
        ("https://ada:hunter2@portal.example", False),
        ("https://[", False),
    ],
)
def test_a_browser_gets_web_pages_only(url: str, *, expected: bool) -> None:
    assert is_for_browsers(url) is expected
