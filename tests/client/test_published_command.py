"""What the published `truetick` command does, ours does as well: its words, its options, and the file they share."""

import json
from pathlib import Path

import pytest
from support.clients.terminal import at_a_terminal, running, truetick
from support.servers.truetick_api import Answer, ContractApi

EMAIL, PASSWORD = "ada@example.com", "correct horse battery"
FIXTURES = Path(__file__).parents[1] / "data" / "truetick_config"


def config(home: Path) -> Path:
    return home / ".truetick" / "config.json"


def saved(home: Path) -> dict[str, object]:
    fields: dict[str, object] = json.loads(config(home).read_text())
    return fields


def placed(home: Path, layout: str, api: ContractApi) -> str:
    """A file as one of the commands writes it, with a key that works; returns the key."""
    api.open_account(EMAIL, PASSWORD)
    key = api.mint(api.accounts[EMAIL])
    config(home).parent.mkdir(mode=0o700)
    text = (FIXTURES / f"{layout}.json").read_text().replace("ttk_KEY", key).replace("https://api.example", api.url)
    config(home).touch(mode=0o600)
    config(home).write_text(text)
    return key


def test_login_prints_where_to_enter_the_code_on_standard_output_at_once(home: Path, api: ContractApi) -> None:
    api.open_account(EMAIL, PASSWORD)
    with running(home, "login", "--url", api.url) as process:
        assert process.stdout
        line = process.stdout.readline()
        (device,) = api.devices.values()
        assert line == f"Visit {api.url}/device and enter {device.user_code}\n"
        api.approve(device.user_code, EMAIL)
        process.communicate(timeout=40)
    assert process.returncode == 0


def test_with_json_standard_output_stays_one_document(home: Path, api: ContractApi) -> None:
    api.open_account(EMAIL, PASSWORD)
    key = api.mint(api.accounts[EMAIL])
    api.planned["/v1/public/device/poll"] = [Answer(200, {"status": "approved", "api_key": key})]
    done = truetick(home, "--json", "login", "--url", api.url)
    assert json.loads(done.stdout)["accountId"] == "acct_1"
    assert "Visit " in done.stderr


@pytest.mark.parametrize("option", [("--password",), ()], ids=["bare", "left out"])
def test_a_bare_password_is_prompted_for(home: Path, api: ContractApi, option: tuple[str, ...]) -> None:
    api.open_account(EMAIL, PASSWORD)
    with at_a_terminal(home, "login", "--email", EMAIL, *option, "--url", api.url) as terminal:
        terminal.wait_for("Password: ")
        terminal.type(f"{PASSWORD}\n")
        assert terminal.exit_code() == 0
        assert PASSWORD not in terminal.seen


@pytest.mark.parametrize("option", [("--password",), ("--password", "-"), ()], ids=["bare", "dash", "left out"])
@pytest.mark.parametrize("command", ["login", "signup"])
def test_without_a_terminal_the_password_is_read_from_standard_input(
    home: Path, api: ContractApi, command: str, option: tuple[str, ...]
) -> None:
    if command == "login":
        api.open_account(EMAIL, PASSWORD)
    done = truetick(home, command, "--email", EMAIL, *option, "--url", api.url, stdin=f"{PASSWORD}\n")
    assert (done.returncode, done.stdout) == (0, f"logged in as {EMAIL} (acct_1)\n")
    assert saved(home)["apiKey"] in api.keys


def test_a_bare_password_before_other_options_takes_none_of_them(home: Path, api: ContractApi) -> None:
    api.open_account(EMAIL, PASSWORD)
    done = truetick(home, "login", "--password", "--email", EMAIL, "--url", api.url, stdin=PASSWORD)
    assert done.returncode == 0
    odd = truetick(home, "login", "--email", EMAIL, "--password=-x", "--url", api.url)
    assert (odd.returncode, odd.stderr) == (3, "error: invalid email or password\n")


def test_a_bare_key_is_prompted_for(home: Path, api: ContractApi) -> None:
    api.open_account(EMAIL, PASSWORD)
    key = api.mint(api.accounts[EMAIL])
    with at_a_terminal(home, "login", "--key", "--url", api.url) as terminal:
        terminal.wait_for("Key: ")
        terminal.type(f"{key}\n")
        assert terminal.exit_code() == 0
    assert saved(home)["apiKey"] == key


def test_a_bad_key_is_told_and_can_be_saved_unchecked(home: Path, api: ContractApi) -> None:
    told = truetick(home, "login", "--key", "ttk_bad", "--url", api.url)
    assert (told.returncode, told.stderr) == (4, "error: invalid or missing api key\n")
    assert not config(home).exists()
    asked = len(api.requests)
    done = truetick(home, "login", "--key", "ttk_bad", "--no-check", "--url", api.url)
    assert (done.returncode, saved(home)["apiKey"], len(api.requests)) == (0, "ttk_bad", asked)
    assert "has not been checked" in done.stderr


@pytest.mark.parametrize("arguments", [("--json", "whoami"), ("whoami", "--json"), ("--json", "whoami", "--json")])
def test_json_may_stand_before_the_subcommand_and_after_it(
    home: Path, api: ContractApi, arguments: tuple[str, ...]
) -> None:
    placed(home, "published", api)
    done = truetick(home, *arguments)
    assert json.loads(done.stdout) == {"accountId": "acct_1", "email": EMAIL, "emailVerified": False}
    failed = truetick(home, *arguments, TRUETICK_API_URL="http://127.0.0.1:1")
    assert "error" in json.loads(failed.stdout)


@pytest.mark.parametrize("layout", ["published", "published_without_url", "earlier", "both"])
def test_a_file_of_either_command_works(home: Path, api: ContractApi, layout: str) -> None:
    key = placed(home, layout, api)
    url = api.url if layout == "published_without_url" else ""
    assert truetick(home, "whoami", TRUETICK_API_URL=url).returncode == 0
    assert api.requests[-1].headers["x-api-key"] == key


def test_a_login_migrates_old_fields_and_keeps_unknown_ones(home: Path, api: ContractApi) -> None:
    placed(home, "earlier", api)
    assert truetick(home, "login", "--email", EMAIL, "--password", PASSWORD).returncode == 0
    fields = saved(home)
    assert fields.pop("apiKey") in api.keys
    assert fields == {"baseUrl": api.url, "theme": "dark"}


@pytest.mark.parametrize("layout", ["published", "earlier", "both"])
def test_a_logout_leaves_no_secret_in_the_file(home: Path, api: ContractApi, layout: str) -> None:
    key = placed(home, layout, api)
    done = truetick(home, "logout")
    assert (done.returncode, done.stdout) == (0, "logged out\n")
    text = config(home).read_text()
    for secret in (key, "ttk_", "s3cret"):
        assert secret not in text
    assert saved(home)["theme"] == "dark"
    assert str(saved(home)["baseUrl"]).rstrip("/") == api.url


def test_a_logout_without_a_login_is_quiet(home: Path) -> None:
    done = truetick(home, "logout")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not config(home).parent.exists()
    assert json.loads(truetick(home, "logout", "--json").stdout) == {"logged_out": False, "url": ""}
