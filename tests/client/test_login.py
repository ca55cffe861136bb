"""`truetick` from the outside, in processes of its own, against a server that keeps to the contract."""

import json
from pathlib import Path

import pytest
from support.clients.terminal import running, truetick
from support.servers.truetick_api import Answer, ContractApi

from authz import __version__

EMAIL, PASSWORD = "ada@example.com", "correct horse battery"
BY_PASSWORD = ("login", "--email", EMAIL, "--password", PASSWORD)


def saved(home: Path) -> dict[str, str]:
    fields: dict[str, str] = json.loads((home / ".truetick" / "config.json").read_text())
    return fields


def test_a_device_that_is_approved_is_logged_in(home: Path, api: ContractApi) -> None:
    api.open_account(EMAIL, PASSWORD)
    with running(home, "login", "--url", f"{api.url}/") as process:
        assert process.stderr
        shown = ""
        while "waiting" not in shown:
            shown += process.stderr.readline()
        (device,) = api.devices.values()
        assert f"    {device.user_code}\n" in shown
        assert f"{api.url}/device?code={device.user_code}" in shown
        api.approve(device.user_code, EMAIL)
        out, _ = process.communicate(timeout=40)
    assert (process.returncode, out) == (
        0,
        f"Visit {api.url}/device and enter {device.user_code}\nlogged in as {EMAIL} (acct_1)\n",
    )
    assert saved(home) == {"baseUrl": api.url, "apiKey": next(iter(api.keys))}
    assert truetick(home, "whoami").stdout == f"{EMAIL} (not verified), account acct_1, at {api.url}\n"


def test_a_devices_key_is_saved_even_when_its_owner_is_unknown(home: Path, api: ContractApi) -> None:
    api.open_account(EMAIL, PASSWORD)
    key = api.mint(api.accounts[EMAIL])
    api.planned["/v1/public/device/poll"] = [Answer(200, {"status": "approved", "api_key": key})]
    api.planned["/v1/whoami"] = [Answer(503, {"code": 14, "message": "unavailable", "details": []})]
    done = truetick(home, "login", "--url", api.url)
    assert (done.returncode, done.stdout.splitlines()[1:]) == (0, ["logged in"])
    assert "the key is saved, but its account is unknown: unavailable\n" in done.stderr
    assert saved(home)["apiKey"] == key


def test_a_code_that_nobody_approves_runs_out(home: Path, api: ContractApi) -> None:
    api.expires_in = 2
    api.planned["/v1/public/device/poll"] = [Answer(429, {"error": "slow down"}, {"retry-after": "5"})]
    done = truetick(home, "login", "--url", api.url)
    assert done.returncode == 5
    assert done.stderr.endswith("error: nobody approved the code in time (slow down): run truetick login again\n")


def test_a_password_logs_in(home: Path, api: ContractApi) -> None:
    api.open_account(EMAIL, PASSWORD)
    done = truetick(home, *BY_PASSWORD, "--url", api.url, "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout) == {
        "url": api.url,
        "config": str(home / ".truetick" / "config.json"),
        "accountId": "acct_1",
        "email": EMAIL,
        "emailVerified": False,
    }
    assert saved(home)["apiKey"] in api.keys


def test_a_password_may_come_from_standard_input(home: Path, api: ContractApi) -> None:
    api.open_account(EMAIL, PASSWORD)
    arguments = ("login", "--email", EMAIL, "--password", "-", "--url", api.url)
    assert truetick(home, *arguments, stdin=f"{PASSWORD}\n").returncode == 0
    for nothing in ("", "\n"):
        done = truetick(home, *arguments, stdin=nothing)
        assert done.returncode == 2
        assert "error: " in done.stderr


def test_a_signup_opens_an_account_and_logs_in(home: Path, api: ContractApi) -> None:
    arguments = ("signup", "--email", EMAIL, "--password", PASSWORD, "--url", api.url)
    done = truetick(home, *arguments)
    assert (done.returncode, done.stdout) == (0, f"logged in as {EMAIL} (acct_1)\n")
    assert truetick(home, "whoami", "--json").returncode == 0
    again = truetick(home, *arguments)
    assert (again.returncode, again.stderr) == (3, "error: email already registered\n")


def test_a_key_is_saved_once_the_api_has_taken_it(home: Path, api: ContractApi) -> None:
    api.open_account(EMAIL, PASSWORD)
    key = api.mint(api.accounts[EMAIL])
    for argument, stdin in ((key, ""), ("-", f" {key}\n")):
        done = truetick(home, "login", "--key", argument, "--url", api.url, stdin=stdin)
        assert (done.returncode, saved(home)["apiKey"]) == (0, key)
    other = truetick(home, "login", "--key", "ttk_unknown", "--url", api.url)
    assert (other.returncode, other.stderr) == (4, "error: invalid or missing api key\n")
    assert saved(home)["apiKey"] == key


def test_what_the_api_refuses_is_said_in_its_own_words(home: Path, api: ContractApi) -> None:
    refusals = (
        ("/v1/public/login", 401, "invalid email or password", "", 3),
        ("/v1/public/login", 429, "too many attempts, try again later", "600", 3),
        ("/v1/public/login", 429, "api key limit reached (max 25 per account); revoke an unused key first", "", 3),
        ("/v1/public/login", 503, "unavailable", "1", 1),
    )
    for path, status, words, wait, code in refusals:
        for as_json in (False, True):
            api.planned[path] = [Answer(status, {"error": words}, {"retry-after": wait} if wait else {})]
            done = truetick(home, *BY_PASSWORD, "--url", api.url, *(("--json",) if as_json else ()))
            assert done.returncode == code
            if as_json:
                waits = {"retry_after_s": int(wait)} if wait else {}
                assert json.loads(done.stdout) == {"error": words, "status": status} | waits
            else:
                duration_text = {"600": "; wait 10 minutes", "1": "; wait 1 s"}.get(wait, "")
                assert (done.stdout, done.stderr) == ("", f"error: {words}{duration_text}\n")
    assert not (home / ".truetick" / "config.json").exists()


def test_the_environment_comes_before_what_is_saved(home: Path, api: ContractApi) -> None:
    api.open_account(EMAIL, PASSWORD)
    api.open_account("grace@example.com", PASSWORD)
    truetick(home, *BY_PASSWORD, "--url", api.url)
    other = api.mint(api.accounts["grace@example.com"])
    done = truetick(home, "whoami", "--json", TRUETICK_API_KEY=other)
    assert json.loads(done.stdout)["email"] == "grace@example.com"
    assert truetick(home / "none", "whoami", TRUETICK_API_KEY=other, TRUETICK_API_URL=api.url).returncode == 0
    assert truetick(home, "whoami", TRUETICK_API_URL="http://127.0.0.1:1").returncode == 4
    assert truetick(home, "whoami", "--url", api.url, TRUETICK_API_URL="http://127.0.0.1:1").returncode == 0
    assert truetick(home, "whoami", TRUETICK_API_KEY="two words").returncode == 2
    again = truetick(home, *BY_PASSWORD, TRUETICK_API_KEY=other)
    assert "TRUETICK_API_KEY is set and overrides the saved key" in again.stderr


def test_a_saved_key_goes_to_the_api_that_gave_it_and_nowhere_else(home: Path, api: ContractApi) -> None:
    api.open_account(EMAIL, PASSWORD)
    truetick(home, *BY_PASSWORD, "--url", api.url)
    request = len(api.requests)
    elsewhere = api.url.replace("127.0.0.1", "localhost")
    done = truetick(home, "whoami", "--url", elsewhere)
    assert (done.returncode, len(api.requests)) == (4, request)
    assert done.stderr == f"error: not logged in at {elsewhere}: the saved key is for {api.url}\n"


def test_a_redirect_is_not_followed(home: Path, api: ContractApi) -> None:
    api.open_account(EMAIL, PASSWORD)
    key = api.mint(api.accounts[EMAIL])
    api.planned["/v1/whoami"] = [Answer(307, {}, {"location": f"{api.url}/elsewhere"})]
    done = truetick(home, "whoami", "--url", api.url, TRUETICK_API_KEY=key)
    assert (done.returncode, done.stderr) == (1, "error: unexpected response: 307 Temporary Redirect\n")
    assert api.paths() == ["/v1/whoami"]


def test_a_logout_forgets_the_key_and_says_what_it_does_not_do(home: Path, api: ContractApi) -> None:
    api.open_account(EMAIL, PASSWORD)
    truetick(home, *BY_PASSWORD, "--url", api.url)
    key = saved(home)["apiKey"]
    done = truetick(home, "logout")
    assert (done.returncode, done.stdout) == (0, "logged out\n")
    assert done.stderr == f"key ttk_…{key[-4:]} works until it is revoked in the dashboard\n"
    assert saved(home) == {"baseUrl": api.url}
    assert truetick(home, "whoami").returncode == 4
    again = truetick(home, "logout")
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")
    assert truetick(home, *BY_PASSWORD).returncode == 0  # the address is remembered


def test_logging_out_while_the_environment_holds_a_key_says_so(home: Path, api: ContractApi) -> None:
    api.open_account(EMAIL, PASSWORD)
    truetick(home, *BY_PASSWORD, "--url", api.url)
    assert "TRUETICK_API_KEY is still set" in truetick(home, "logout", TRUETICK_API_KEY="ttk_x").stderr


def test_a_key_that_a_new_login_replaces_is_named(home: Path, api: ContractApi) -> None:
    api.open_account(EMAIL, PASSWORD)
    truetick(home, *BY_PASSWORD, "--url", api.url)
    before = saved(home)["apiKey"]
    done = truetick(home, *BY_PASSWORD)
    assert f"it replaces ttk_…{before[-4:]}, which works until it is revoked\n" in done.stderr


def test_no_secret_is_ever_shown(home: Path, api: ContractApi) -> None:
    shown = [truetick(home, "signup", "--email", EMAIL, "--password", PASSWORD, "--url", api.url)]
    for arguments in (BY_PASSWORD, ("whoami",), ("login", "--key", next(iter(api.keys))), ("logout",)):
        shown += [truetick(home, *arguments), truetick(home, *arguments, "--json")]
    api.planned["/v1/public/login"] = [Answer(500, b"\xff"), Answer(200, [])]
    shown += [truetick(home, *BY_PASSWORD) for _ in range(2)]
    shown.append(truetick(home, *BY_PASSWORD, "--url", "http://127.0.0.1:1"))
    text = "".join(done.stdout + done.stderr for done in shown)
    assert len(api.keys) > 2
    for secret in (*api.keys, PASSWORD):
        assert secret not in text
    assert "Traceback" not in text


@pytest.mark.parametrize(
    "arguments",
    [
        ("login", "--password", "x"),
        ("login", "--key", "ttk_x", "--email", EMAIL),
        ("login", "--key", "two words"),
        ("login", "--url", "http://api.example"),
        ("login", "--url", "api.example"),
        ("login", "--email", EMAIL),
        ("signup", "--email", EMAIL),
        ("signup",),
        ("no-such-command",),
    ],
)
def test_wrong_usage_exits_with_two_and_sends_no_request(
    home: Path, api: ContractApi, arguments: tuple[str, ...]
) -> None:
    assert truetick(home, *arguments, TRUETICK_API_URL=api.url).returncode == 2
    assert not api.requests
    assert not (home / ".truetick" / "config.json").exists()


def test_without_an_address_no_store_is_called(home: Path) -> None:
    done = truetick(home, "login")
    assert done.returncode == 2
    assert done.stderr.startswith("error: the URL of the API is unknown: give --url or set TRUETICK_API_URL")
    assert truetick(home, "--version").stdout == f"{__version__}\n"


def test_no_login_starts_when_the_key_could_not_be_saved(home: Path, api: ContractApi) -> None:
    (home / ".truetick").write_text("in the way")
    done = truetick(home, "login", "--url", api.url)
    assert (done.returncode, done.stderr.startswith("error: cannot read")) == (1, True)
    assert not api.requests
