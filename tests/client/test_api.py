"""What is made of the API's answers: its own words where it refuses, and nothing taken on trust."""

import re
from pathlib import Path

import httpx
import pytest
from support.servers.truetick_api import Answer, ContractApi

from authz.client.api import Api, Grant
from authz.client.faults import ApiRefused, Fault, NotLoggedIn
from authz.client.screen import duration_text, hint

LOGIN, START, POLL, WHOAMI = (
    "/v1/public/login",
    "/v1/public/device/start",
    "/v1/public/device/poll",
    "/v1/whoami",
)
OWNER = {"account_id": "acct_1", "email": "ada@example.com", "email_verified": True}
STARTED = {"device_code": "d", "user_code": "ABCD-1234", "verify_url": "https://portal.example/device"}
GRANT = Grant("d", "ABCD-1234", "https://x", "https://x", 60, 1)


def refusal(api: ContractApi, answer: Answer) -> Fault:
    api.planned[LOGIN] = [answer]
    with Api(api.url) as client, pytest.raises(Fault) as raised:
        client.log_in("ada@example.com", "hunter2")
    assert "hunter2" not in str(raised.value)
    return raised.value


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Answer(409, {"error": "email already registered"}), "email already registered"),
        (Answer(403, {"code": 7, "message": "account mismatch", "details": []}), "account mismatch"),
        (Answer(401, b"unauthorized\n", {"content-type": "text/plain"}), "unauthorized"),
        (Answer(400, {"error": 7}), "unexpected response: 400 Bad Request"),
        (Answer(418, b"<html>", {"content-type": "text/html"}), "unexpected response: 418 I'm a Teapot"),
        (Answer(502, b"", {"content-type": "text/plain"}), "the API has failed: 502 Bad Gateway"),
        (
            Answer(503, b"upstream connect error, reset reason: x", {"content-type": "text/plain"}),
            "the API has failed: 503 Service Unavailable",
        ),
        (Answer(400, b"[" * 100_000), "unexpected response: 400 Bad Request"),
        (Answer(400, {"error": "\x1b]0;title\x07" + "x" * 1000}), "�]0;title�" + "x" * 290),
    ],
)
def test_a_refusal_keeps_the_apis_words(api: ContractApi, answer: Answer, words: str) -> None:
    fault = refusal(api, answer)
    assert (str(fault), fault.status) == (words, answer.status)
    assert isinstance(fault, ApiRefused) == (answer.status < 500)


@pytest.mark.parametrize(
    ("header", "expected"), [("60", 60), ("0", 0), ("1.5", None), ("-1", None), ("soon", None), ("9" * 20, None)]
)
def test_a_wait_is_whole_seconds_or_nothing(api: ContractApi, header: str, expected: int | None) -> None:
    assert refusal(api, Answer(429, {"error": "slow down"}, {"retry-after": header})).retry_after_s == expected


@pytest.mark.parametrize(
    "body",
    [
        b"<html>",
        [],
        {},
        OWNER,
        OWNER | {"api_key": ""},
        OWNER | {"api_key": 1},
        OWNER | {"api_key": "a\r\nb: c"},
        {"api_key": "ttk_x", "account_id": "acct_1"},
    ],
)
def test_an_answer_that_holds_no_key_is_unexpected(api: ContractApi, body: object) -> None:
    assert str(refusal(api, Answer(200, body))).startswith("unexpected response: ")


def test_a_key_is_taken_as_it_is(api: ContractApi) -> None:
    api.planned[LOGIN] = [Answer(200, OWNER | {"api_key": "other_prefix-1"})]
    with Api(api.url) as client:
        logged_in = client.log_in("ada@example.com", "x")
    assert logged_in.api_key == "other_prefix-1"
    assert logged_in.person.email_verified
    assert "other_prefix" not in repr(logged_in)


@pytest.mark.parametrize(
    ("extra", "expires_in_s", "interval_s"),
    [
        ({}, 300, 2),
        ({"expires_in": 600, "interval": 5}, 600, 5),
        ({"expires_in": 0, "interval": -1}, 1, 1),
        ({"expires_in": 10**12, "interval": 10**12}, 1800, 60),
        ({"expires_in": "300", "interval": True}, 300, 2),
        ({"expires_in": 2.5, "interval": None}, 300, 2),
    ],
)
def test_an_older_or_odd_answer_to_a_devices_start_is_understood(
    api: ContractApi, extra: dict[str, object], expires_in_s: int, interval_s: int
) -> None:
    api.planned[START] = [Answer(200, STARTED | extra)]
    with Api(api.url) as client:
        grant = client.start_device()
    assert (grant.expires_in_s, grant.interval_s) == (expires_in_s, interval_s)
    assert grant.verify_url_complete == grant.verify_url == "https://portal.example/device"
    assert "'d'" not in repr(grant)


def test_an_approval_without_a_key_is_unexpected(api: ContractApi) -> None:
    api.planned[POLL] = [Answer(200, {"status": "approved"}), Answer(200, {})]
    with Api(api.url) as client:
        for _ in range(2):
            with pytest.raises(Fault, match="unexpected response"):
                client.poll_device(GRANT)


def test_a_key_that_is_not_taken_is_no_login(api: ContractApi) -> None:
    with Api(api.url) as client, pytest.raises(NotLoggedIn, match=r"^invalid or missing api key$"):
        client.who_am_i("ttk_x")
    api.planned[WHOAMI] = [Answer(429, {"code": 8, "message": "rate limit exceeded", "details": []})]
    with Api(api.url) as client, pytest.raises(ApiRefused, match=r"^rate limit exceeded$"):
        client.who_am_i("ttk_x")


def test_every_request_is_what_the_api_expects(api: ContractApi) -> None:
    with Api(f"{api.url}/base") as client:
        for call in (client.start_device, lambda: client.who_am_i("ttk_x"), lambda: client.sign_up("a", "\udcff")):
            with pytest.raises(Fault):
                call()
    assert [(request.method, request.path) for request in api.requests] == [
        ("POST", "/base/v1/public/device/start"),
        ("GET", "/base/v1/whoami"),
        ("POST", "/base/v1/public/signup"),
    ]
    for request in api.requests:
        assert request.headers["content-type"] == "application/json"
        assert re.fullmatch(r"truetick/\d+\.\d+\.\d+ \(\w+\)", request.headers["user-agent"])
    assert [request.headers.get("x-api-key") for request in api.requests] == [None, "ttk_x", None]


@pytest.mark.parametrize(("status", "is_doubted"), [(401, True), (404, True), (405, True), (403, False), (429, False)])
def test_an_address_that_may_be_wrong_is_named(api: ContractApi, status: int, *, is_doubted: bool) -> None:
    api.planned[START] = [Answer(status, {"error": "no"})]
    with Api(api.url) as client, pytest.raises(ApiRefused) as raised:
        client.start_device()
    assert str(raised.value) == (f"no: is {api.url} the URL of the API?" if is_doubted else "no")
    assert raised.value.status == status


def test_an_unavailable_store_gives_its_reason() -> None:
    with (
        Api("http://127.0.0.1:1") as client,
        pytest.raises(Fault, match=r"^127\.0\.0\.1:1 is unavailable: Connection refused$"),
    ):
        client.start_device()


@pytest.mark.parametrize("error", [httpx.ReadTimeout("x"), httpx.RemoteProtocolError("quotes ttk_x")])
def test_a_failed_request_is_not_quoted(
    api: ContractApi, monkeypatch: pytest.MonkeyPatch, error: httpx.HTTPError
) -> None:
    def failing(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(httpx.Client, "request", failing)
    with Api(api.url) as client, pytest.raises(Fault) as raised:
        client.who_am_i("ttk_x")
    where = api.url.removeprefix("http://")
    assert str(raised.value) in {
        f"{where} is unavailable: no response in time",
        f"{where} is unavailable: RemoteProtocolError",
    }


def test_no_proxy_stands_between_a_machine_and_itself(api: ContractApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    with Api(api.url) as client:
        assert client.start_device().user_code.endswith("-1234")


@pytest.mark.parametrize(("name", "text"), [("HTTPS_PROXY", "nonsense://x"), ("SSL_CERT_FILE", "{folder}/none.pem")])
def test_settings_of_the_environment_that_cannot_be_used_are_a_fault(
    monkeypatch: pytest.MonkeyPatch, folder: Path, name: str, text: str
) -> None:
    monkeypatch.setenv(name, text.format(folder=folder))
    with pytest.raises(Fault, match="proxy or certificate settings"):
        Api("https://api.example")


@pytest.mark.parametrize(
    ("key", "shown"), [("ttk_" + "a" * 45 + "1234", "ttk_…1234"), ("short", "…"), ("a_bcd", "…"), ("x" * 60, "…")]
)
def test_a_hint_tells_a_key_apart_and_nothing_more(key: str, shown: str) -> None:
    assert hint(key) == shown


def test_waits_are_spoken() -> None:
    assert [duration_text(seconds) for seconds in (1, 60, 119, 120, 600, 3600)] == [
        "1 s",
        "60 s",
        "119 s",
        "2 minutes",
        "10 minutes",
        "60 minutes",
    ]
