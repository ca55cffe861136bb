"""What `truetick` shows at a terminal, in a pipe and without a terminal, held against files in `tests/data/terminal/`.

See `tests/cli/test_golden_output.py`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from support.clients.golden_terminal import FEW, Goldens, Programs, every_way, programs
from support.servers.truetick_api import Answer, ContractApi, contract_api

from authz.client.names import KEY_VARIABLE, URL_VARIABLE

HOSTILE = "[bold]x[/nope] :on: \x1b[2J\x07 \u202eevil \U0001f468\u200d\U0001f680 \u65e5 \u05e9\u05dc \u3164."
WHO_AM_I, LOGIN = "/v1/whoami", "/v1/public/login"
START, POLL = "/v1/public/device/start", "/v1/public/device/poll"
PAGE = "https://portal.example/device"
STARTED = {
    "device_code": "d",
    "user_code": "BCDF-1234",
    "verify_url": PAGE,
    "verification_uri_complete": f"{PAGE}?code=BCDF-1234",
    "expires_in": 60,
    "interval": 1,
}
KEY = "ttk_" + "0" * 49


@dataclass(frozen=True)
class Case:
    """Arguments, and what the API answers by path; `has_key` if a key is in the environment."""

    arguments: tuple[str, ...]
    answers: dict[str, Answer] = field(default_factory=dict)
    has_key: bool = True


def person(email: str, account_id: str = "acct_1") -> Answer:
    return Answer(body={"accountId": account_id, "email": email, "emailVerified": True})


CASES = {
    "help": Case(("--help",)),
    "help-login": Case(("login", "--help")),
    "help-signup": Case(("signup", "--help")),
    "help-whoami": Case(("whoami", "--help")),
    "help-logout": Case(("logout", "--help")),
    "whoami": Case(("whoami",), {WHO_AM_I: person("ada@example.com")}),
    "whoami-json": Case(("whoami", "--json"), {WHO_AM_I: person("ada@example.com")}),
    "whoami-hostile": Case(("whoami",), {WHO_AM_I: person(HOSTILE, HOSTILE)}),
    "whoami-hostile-json": Case(("whoami", "--json"), {WHO_AM_I: person(HOSTILE, HOSTILE)}),
    "no-key": Case(("whoami",), has_key=False),
    "no-key-json": Case(("whoami", "--json"), has_key=False),
    "refused-hostile": Case(("whoami",), {WHO_AM_I: Answer(403, {"error": HOSTILE})}),
    "refused-hostile-json": Case(("--json", "whoami"), {WHO_AM_I: Answer(403, {"error": HOSTILE})}),
    "wrong-password": Case(("login", "--email", "ada@example.com", "--password", "wrong"), has_key=False),
    "throttled": Case(
        ("login", "--email", "ada@example.com", "--password", "wrong"),
        {LOGIN: Answer(429, {"error": "too many attempts, try again later"}, {"retry-after": "600"})},
    ),
    "not-a-key": Case(("login", "--key", "two words")),
    "bad-key": Case(("login", "--key", KEY)),
    "unavailable": Case(("whoami", "--url", "http://127.0.0.1:1")),
    "plain-http": Case(("whoami", "--url", "http://api.example")),
    "bad-url": Case(("whoami", "--url", "[/x]\x1b[2J")),
    "logout": Case(("logout",), has_key=False),
    "logout-json": Case(("logout", "--json"), has_key=False),
    "no-such-command": Case(("logn",)),
    "no-such-option": Case(("login", "--emial", "x")),
    "device-refused": Case(
        ("login", "--no-browser"),
        {START: Answer(body=STARTED), POLL: Answer(body={"status": "expired"})},
        has_key=False,
    ),
}


@pytest.fixture(scope="module")
def api() -> Iterator[ContractApi]:
    with contract_api() as api:
        yield api


@pytest.fixture(scope="module")
def truetick(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Programs]:
    with programs("truetick", tmp_path_factory.mktemp("home"), {}) as running:
        yield running


@pytest.mark.parametrize("name", CASES)
def test_output(goldens: Goldens, truetick: Programs, api: ContractApi, name: str) -> None:
    case = CASES[name]

    def plan() -> None:
        api.planned.clear()
        for path, answer in case.answers.items():
            api.planned[path].append(answer)

    env = {URL_VARIABLE: api.url} | ({KEY_VARIABLE: KEY} if case.has_key else {})
    is_short = "--help" in case.arguments or POLL in case.answers  # a poll waits for a second
    without = FEW if is_short else frozenset()
    runs = every_way(truetick, *case.arguments, before=plan, env=env, without=without)
    assert KEY not in str(runs)
    goldens.check(f"truetick-{name}", runs)
