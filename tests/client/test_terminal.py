"""`truetick` at a terminal: its prompts, its output, and its exit on Ctrl-C."""

import json
import signal
import subprocess
from pathlib import Path

import pytest
from support.clients.terminal import PROGRAM, at_a_terminal, environment, names, running, truetick
from support.servers.truetick_api import ContractApi

from authz.client import browser, command
from authz.client.__main__ import main

EMAIL, PASSWORD = "ada@example.com", "correct horse battery"


def test_a_signup_asks_for_what_is_missing_and_shows_no_password(home: Path, api: ContractApi) -> None:
    with at_a_terminal(home, "signup", "--url", api.url) as terminal:
        terminal.wait_for("E-mail: ")
        terminal.type(f"{EMAIL}\n")
        terminal.wait_for("Password: ")
        terminal.type(f"{PASSWORD}\n")
        terminal.wait_for("Repeat the password: ")
        terminal.type(f"{PASSWORD}\n")
        assert terminal.exit_code() == 0
        assert f"logged in as {EMAIL}" in terminal.seen
        assert PASSWORD not in terminal.seen
    assert api.accounts[EMAIL].password == PASSWORD


def test_passwords_that_differ_open_no_account(home: Path, api: ContractApi) -> None:
    with at_a_terminal(home, "signup", "--email", EMAIL, "--url", api.url) as terminal:
        terminal.wait_for("Password: ")
        terminal.type(f"{PASSWORD}\n")
        terminal.wait_for("Repeat the password: ")
        terminal.type("something else\n")
        assert terminal.exit_code() == 2
        assert "error: the passwords differ" in terminal.seen
    assert not api.requests


@pytest.mark.parametrize("given", [(), ("--password", "-")])
def test_a_login_asks_for_its_password_once(home: Path, api: ContractApi, given: tuple[str, ...]) -> None:
    api.open_account(EMAIL, PASSWORD)
    with at_a_terminal(home, "login", "--email", EMAIL, *given, "--url", api.url) as terminal:
        terminal.wait_for("Password: ")
        terminal.type(f"{PASSWORD}\n")
        assert terminal.exit_code() == 0
        assert PASSWORD not in terminal.seen


def test_a_key_can_be_typed_without_showing(home: Path, api: ContractApi) -> None:
    api.open_account(EMAIL, PASSWORD)
    key = api.mint(api.accounts[EMAIL])
    with at_a_terminal(home, "login", "--key", "-", "--url", api.url) as terminal:
        terminal.wait_for("Key: ")
        terminal.type(f"{key}\n")
        assert terminal.exit_code() == 0
        assert key not in terminal.seen


def test_the_code_is_shown_large_with_time_running_down(home: Path, api: ContractApi) -> None:
    api.open_account(EMAIL, PASSWORD)
    with at_a_terminal(home, "login", "--url", api.url) as terminal:
        terminal.wait_for("0:59 left")
        (device,) = api.devices.values()
        assert terminal.seen.count("█") > 60
        assert device.user_code in terminal.seen
        assert "Open this page in a browser" in terminal.seen
        api.approve(device.user_code, EMAIL)
        assert terminal.exit_code() == 0
        assert f"logged in as {EMAIL} (acct_1)" in terminal.seen


@pytest.mark.parametrize(("columns", "encoding"), [("40", "utf-8"), ("100", "ascii")])
def test_a_code_that_does_not_fit_is_written_plainly(home: Path, api: ContractApi, columns: str, encoding: str) -> None:
    env = {"COLUMNS": columns, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0", "LC_ALL": "C"}
    with at_a_terminal(home, "login", "--url", api.url, **env) as terminal:
        terminal.wait_for("-1234\r\n")
        assert "█" not in terminal.seen
        terminal.interrupt()
        assert terminal.exit_code() == 130


def test_ctrl_c_while_waiting_leaves_nothing_behind(home: Path, api: ContractApi) -> None:
    with at_a_terminal(home, "login", "--url", api.url) as terminal:
        terminal.wait_for("waiting for approval")
        terminal.interrupt()
        assert terminal.exit_code() == 130
        assert "Traceback" not in terminal.seen
    assert names(home / ".truetick") == []


@pytest.mark.parametrize("question", ["E-mail: ", "Password: "])
def test_ctrl_c_at_a_question_leaves_nothing_behind(home: Path, api: ContractApi, question: str) -> None:
    arguments = () if question == "E-mail: " else ("--email", EMAIL)
    with at_a_terminal(home, "signup", *arguments, "--url", api.url) as terminal:
        terminal.wait_for(question)
        terminal.interrupt()
        assert terminal.exit_code() == 130
        assert "Traceback" not in terminal.seen
    assert (names(home / ".truetick"), api.requests) == ([], [])


def test_ctrl_c_before_anything_has_begun_is_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(**_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "app", interrupted)
    with pytest.raises(SystemExit) as raised:
        main()
    assert raised.value.code == 130


@pytest.mark.parametrize("question", ["E-mail: ", "Password: "])
def test_the_end_of_input_at_a_question_is_no_answer(home: Path, api: ContractApi, question: str) -> None:
    arguments = () if question == "E-mail: " else ("--email", EMAIL)
    with at_a_terminal(home, "signup", *arguments, "--url", api.url) as terminal:
        terminal.wait_for(question)
        terminal.type("\x04")
        assert terminal.exit_code() == 2
        assert "error: no input" in terminal.seen


def test_an_interrupted_process_keeps_the_key_that_was_saved_before(home: Path, api: ContractApi) -> None:
    api.open_account(EMAIL, PASSWORD)
    truetick(home, "login", "--email", EMAIL, "--password", PASSWORD, "--url", api.url)
    before = (home / ".truetick" / "config.json").read_bytes()
    with running(home, "login", "--json") as process:
        assert process.stderr
        while "waiting" not in process.stderr.readline():
            pass
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=40)
    assert (process.returncode, out, "Traceback" in err) == (130, "", False)
    assert (home / ".truetick" / "config.json").read_bytes() == before
    assert names(home / ".truetick") == ["config.json"]


def test_the_browser_opens_the_page_with_the_code_where_there_is_a_desktop(home: Path, api: ContractApi) -> None:
    opened = home / "opened"
    browser = home / "browser"
    browser.write_text(f'#!/bin/sh\necho "noise"\necho "$1" > {opened}.part && mv {opened}.part {opened}\n')
    browser.chmod(0o755)
    with running(home, "login", "--url", api.url, "--json", BROWSER=f"{browser} %s") as process:
        assert process.stderr
        shown = ""
        while "waiting" not in shown:
            shown += process.stderr.readline()
        assert "Your browser opens this page" in shown
        while not opened.exists():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=40)
    (device,) = api.devices.values()
    assert opened.read_text() == f"{api.url}/device?code={device.user_code}\n"
    assert out == ""


@pytest.mark.parametrize("case", ["--no-browser", "http://portal.example/device", "file:///etc/passwd"])
def test_the_browser_opens_nothing_else(home: Path, api: ContractApi, case: str) -> None:
    api.browser_url = "" if case.startswith("-") else case
    arguments = ("--no-browser",) if case.startswith("-") else ()
    with running(home, "login", "--url", api.url, *arguments, BROWSER="touch %s") as process:
        assert process.stderr
        shown = ""
        while "waiting" not in shown:
            shown += process.stderr.readline()
        assert "Open this page in a browser" in shown


def test_a_browser_that_cannot_be_started_is_not_promised(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object, **__: object) -> None:
        raise OSError

    monkeypatch.setenv("BROWSER", "x")
    monkeypatch.setattr(subprocess, "Popen", failing)
    assert not browser.open_page("https://portal.example/device")


def test_what_the_api_sends_cannot_write_to_the_terminal(home: Path, api: ContractApi) -> None:
    api.open_account("ada\x1b[2J@example.com\u202e", PASSWORD)
    done = truetick(home, "login", "--email", "ada\x1b[2J@example.com\u202e", "--password", PASSWORD, "--url", api.url)
    assert done.returncode == 0
    assert json.dumps(done.stdout) == json.dumps("logged in as ada�[2J@example.com� (acct_1)\n")


@pytest.mark.parametrize("arguments", [("--version",), ("--help",), ("logout", "--json"), ("login", "--help")])
def test_a_full_disk_is_one_line(home: Path, arguments: tuple[str, ...]) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*PROGRAM, *arguments], env=environment(home), stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert (done.returncode, done.stderr) == (1, "error: cannot write: No space left on device\n")
