"""The HTTP client for the public routes of the API and `whoami`; refusals keep the texts of the API.

The responses are used in `login.py`, `command.py` and `device.py`.
"""

import json
import platform
import re
from dataclasses import dataclass, field
from typing import Any, Self

import httpx

import authz
from authz.client.address import is_loopback
from authz.client.config_file import is_key
from authz.client.faults import ApiRefused, Fault, NotLoggedIn

_JSON = "application/json"
_TIMEOUT = httpx.Timeout(15, connect=5)
_WORDS_CHARS_MAX = 300
_ERRNO = re.compile(r"^\[Errno -?\d+\] ")
# The statuses of a server that does not have the public routes.
_NOT_AN_API = {httpx.codes.UNAUTHORIZED, httpx.codes.NOT_FOUND, httpx.codes.METHOD_NOT_ALLOWED}
_EXPIRES_IN_S, _EXPIRES_IN_MAX_S = 300, 1800
_INTERVAL_S, _INTERVAL_MAX_S = 2, 60


@dataclass(frozen=True, slots=True)
class Person:
    """The account of a key."""

    account_id: str
    email: str
    email_verified: bool

    def fields(self) -> dict[str, str | bool]:
        """Return the account by the field names of `whoami`."""
        return {"accountId": self.account_id, "email": self.email, "emailVerified": self.email_verified}


@dataclass(frozen=True, slots=True)
class LoggedIn:
    """A new key and its account."""

    api_key: str = field(repr=False)
    person: Person


@dataclass(frozen=True, slots=True)
class Grant:
    """One device grant: the codes, the page for its approval, and how to poll its status."""

    device_code: str = field(repr=False)
    user_code: str
    verify_url: str
    verify_url_complete: str
    expires_in_s: int
    interval_s: int


class Api:
    """A connection to one API. Each method raises a `Fault`: `ApiRefused` for a refusal, `Fault` for a failure."""

    def __init__(self, url: str) -> None:
        try:
            self._client = httpx.Client(
                base_url=url,
                timeout=_TIMEOUT,
                follow_redirects=False,  # a key must not follow a redirect to another host
                trust_env=not is_loopback(httpx.URL(url).host),  # no proxy between this machine and itself
                headers={"user-agent": f"truetick/{authz.__version__} ({platform.system()})", "content-type": _JSON},
            )
        except (OSError, ValueError, ImportError, httpx.InvalidURL):
            raise Fault(
                "the environment's proxy or certificate settings (*_PROXY, SSL_CERT_*) cannot be used"
            ) from None

    def __enter__(self) -> Self:
        """Return the open connection."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connection."""
        self._client.close()

    def sign_up(self, email: str, password: str) -> LoggedIn:
        """Create an account and return its first key."""
        return _logged_in(self._post("signup", {"email": email, "password": password}))

    def log_in(self, email: str, password: str) -> LoggedIn:
        """Return a new key for an e-mail address and its password."""
        return _logged_in(self._post("login", {"email": email, "password": password}))

    def start_device(self) -> Grant:
        """Start a device grant."""
        try:
            answer = self._post("device/start", {})
        except ApiRefused as error:
            if error.status not in _NOT_AN_API:
                raise
            where = str(self._client.base_url).rstrip("/")
            raise ApiRefused(f"{error}: is {where} the URL of the API?", status=error.status) from None
        verify_url = _shown(answer, "verify_url")
        return Grant(
            device_code=_text(answer, "device_code"),
            user_code=_shown(answer, "user_code"),
            verify_url=verify_url,
            verify_url_complete=plain(str(answer.get("verification_uri_complete") or verify_url)),
            expires_in_s=_seconds(answer.get("expires_in"), _EXPIRES_IN_S, _EXPIRES_IN_MAX_S),
            interval_s=_seconds(answer.get("interval"), _INTERVAL_S, _INTERVAL_MAX_S),
        )

    def poll_device(self, grant: Grant) -> tuple[str, str]:
        """Return the status of a grant: `pending`, `expired`, or `approved` and the key, returned only once."""
        answer = self._post("device/poll", {"device_code": grant.device_code})
        status = _text(answer, "status")
        return status, _key(answer) if status == "approved" else ""

    def who_am_i(self, api_key: str) -> Person:
        """Return the account of a key; raises `NotLoggedIn` if the API refuses the key."""
        answer = self._ask("GET", "/v1/whoami", headers={"x-api-key": api_key})
        return Person(_shown(answer, "accountId"), _shown(answer, "email"), answer.get("emailVerified") is True)

    def _post(self, route: str, document: dict[str, str]) -> dict[str, Any]:
        # Escaped to ASCII: the API refuses input that is not UTF-8.
        return self._ask("POST", f"/v1/public/{route}", content=json.dumps(document))

    def _ask(self, method: str, path: str, **content: Any) -> dict[str, Any]:  # noqa: ANN401 -- httpx's arguments
        try:
            response = self._client.request(method, path, **content)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            where = self._client.base_url.netloc.decode("ascii", "replace")
            raise Fault(f"{where} is unavailable: {_reason(error)}") from None
        if response.is_success:
            return _document(response)
        raise _fault(response)


def plain(text: str) -> str:
    """Replace the control and blank characters in text from the API, which a terminal would obey or not show."""
    return "".join(char if (char.isprintable() and char not in _BLANK) or char in _JOINERS else "�" for char in text)


_BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0\U00013441\U00013442\U0001d159")
_JOINERS = frozenset("\u200c\u200d")


def _reason(error: Exception) -> str:
    if isinstance(error, httpx.TimeoutException):
        return "no response in time"
    # Only the text of a connection error is sure not to quote the request.
    return plain(_ERRNO.sub("", str(error))) if isinstance(error, httpx.ConnectError) else type(error).__name__


def _fault(response: httpx.Response) -> Fault:
    status, wait = response.status_code, response.headers.get("retry-after", "")
    retry_after_s = int(wait) if wait.isascii() and wait.isdigit() and len(wait) < 10 else None  # noqa: PLR2004 -- no date
    kind = Fault if status >= httpx.codes.INTERNAL_SERVER_ERROR or status < httpx.codes.BAD_REQUEST else ApiRefused
    if status == httpx.codes.UNAUTHORIZED and response.request.method == "GET":
        kind = NotLoggedIn
    return kind(_words(response), status=status, retry_after_s=retry_after_s)


def _words(response: httpx.Response) -> str:
    """Return the text of a refusal: `error` on public routes, `message` on keyed routes, or a line of text.

    The plain text of a 5xx comes from a proxy and is not shown.
    """
    document, words = _parsed(response), ""
    if isinstance(document, dict):
        words = document.get("error") or document.get("message") or ""
    elif response.status_code >= httpx.codes.INTERNAL_SERVER_ERROR:
        words = f"the API has failed: {response.status_code} {response.reason_phrase}"
    elif response.headers.get("content-type", "").startswith("text/plain"):
        words = response.text.strip().partition("\n")[0]
    if not isinstance(words, str) or not words:
        words = f"unexpected response: {response.status_code} {response.reason_phrase}".strip()
    return plain(words)[:_WORDS_CHARS_MAX]


def _document(response: httpx.Response) -> dict[str, Any]:
    document = _parsed(response)
    if not isinstance(document, dict):
        raise Fault("unexpected response: is this the URL of the API?", status=response.status_code)
    return document


def _parsed(response: httpx.Response) -> Any:  # noqa: ANN401 -- any JSON
    try:
        return response.json()
    except (ValueError, RecursionError):
        return None


def _text(answer: dict[str, Any], name: str) -> str:
    value = answer.get(name)
    if not isinstance(value, str) or not value:
        raise Fault(f"unexpected response: it has no {name}")
    return value


def _shown(answer: dict[str, Any], name: str) -> str:
    return plain(_text(answer, name))


def _key(answer: dict[str, Any]) -> str:
    key = _text(answer, "api_key")
    if not is_key(key):
        raise Fault("unexpected response: its api_key is not a key")
    return key


def _seconds(value: object, default: int, most: int) -> int:
    """Return an optional number of seconds, at least 1, so that polling always pauses."""
    if isinstance(value, bool) or not isinstance(value, int):
        return default
    return min(max(value, 1), most)


def _logged_in(answer: dict[str, Any]) -> LoggedIn:
    verified = answer.get("email_verified") is True
    return LoggedIn(_key(answer), Person(_shown(answer, "account_id"), _shown(answer, "email"), verified))
