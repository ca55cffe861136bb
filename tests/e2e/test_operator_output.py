"""What an operator's terminal, script or log receives: readable, complete, without secrets, and never a traceback."""

import json
import os
import subprocess
import sys

import pytest
from support.clients.golden_terminal import commands
from support.clients.raw_http import send_settled

from authz.demo.servers import shipped
from authz.demo.stack import Stack

ZWJ_FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467 team"
SECRET = "ttk_" + "0" * 49


def environment(stack: Stack | None, **env: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AUTHZ_", "COLUMNS"))}
    if stack is not None:
        kept |= {
            "AUTHZ_REDIS_URL": stack.redis.url,
            "AUTHZ_POSTGRES_URL": stack.postgres.url,
            "AUTHZ_POLICY_FILE": str(shipped("policies/truetick.yaml")),
        }
    return kept | env


def authz(
    stack: Stack | None, *arguments: str, stdin: str = "", redirection: str = "", **env: str
) -> subprocess.CompletedProcess[str]:
    """Run a command with pipes; `redirection` is the shell's, such as >/dev/full.

    What depends on how a process starts, its encoding and its descriptors, runs in a new process.
    """
    given = environment(stack, **env)
    if not redirection and not env.keys() & {"LC_ALL", "PYTHONIOENCODING"}:
        ran = commands("authz").in_pipes(*arguments, env=given, stdin=stdin.encode())
        return subprocess.CompletedProcess(arguments, ran.code, ran.out, ran.err)
    command = [sys.executable, "-m", "authz", *arguments]
    if redirection:
        command = ["/bin/sh", "-c", f'"$@" {redirection}', "sh", *command]
    return subprocess.run(command, env=given, input=stdin, capture_output=True, text=True, check=False)


def at_a_terminal(stack: Stack, columns: int, *arguments: str) -> str:
    ran = commands("authz").at_a_terminal(
        *arguments, columns=columns, env=environment(stack, TERM="xterm", NO_COLOR="1")
    )
    assert ran.code == 0
    return ran.screen


@pytest.fixture
def stack(portal_stack: Stack) -> Stack:
    """One stack for all: the listener of checks makes no difference to a terminal."""
    return portal_stack


@pytest.fixture
def account(stack: Stack) -> str:
    return authz(stack, "accounts", "create", "Terminal").stdout.strip()


def create(stack: Stack, account: str, *options: str, **named: str) -> subprocess.CompletedProcess[str]:
    return authz(stack, "keys", "create", account, "--name", "ci", "--scope", "servers:read", *options, **named)


def test_a_pipe_receives_whole_lines_of_tab_separated_fields(stack: Stack, account: str) -> None:
    key_id = create(stack, account, "--scope", "console").stderr.partition(":")[0]
    for columns in ("20", "200"):
        done = authz(stack, "keys", "list", account, COLUMNS=columns)
        (line,) = done.stdout.splitlines()
        fields = line.split("\t")
        assert (fields[0], fields[1], fields[3]) == (key_id, "ci", "console servers:read")
        assert "\u2026" not in done.stdout.replace("ttk_\u2026", "")


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_a_terminal_of_any_width_shows_whole_ids(stack: Stack, account: str, columns: int) -> None:
    key_id = create(stack, account).stderr.partition(":")[0]
    seen = at_a_terminal(stack, columns, "keys", "list", account)
    assert key_id in seen
    assert "created_at" in seen
    assert account in at_a_terminal(stack, columns, "accounts", "list")


@pytest.mark.parametrize("locale", [{"LC_ALL": "C"}, {"PYTHONIOENCODING": "ascii"}, {"PYTHONIOENCODING": "latin-1"}])
def test_any_encoding_shows_every_name(stack: Stack, locale: dict[str, str]) -> None:
    created = authz(stack, "accounts", "create", ZWJ_FAMILY)
    listed = authz(stack, "accounts", "list", **locale)
    assert (created.returncode, listed.returncode, listed.stderr) == (0, 0, "")
    assert created.stdout.strip() in listed.stdout


def test_a_users_text_is_never_markup(stack: Stack, account: str) -> None:
    named = authz(stack, "keys", "create", account, "--name", "[bold]x[/nope] :on:", "--scope", "console")
    assert named.returncode == 0
    for shown in (authz(stack, "keys", "list", account).stdout, at_a_terminal(stack, 200, "keys", "list", account)):
        assert "[bold]x[/nope] :on:" in shown
    refused = authz(stack, "keys", "create", account, "--name", "x", "--scope", "[/x]")
    assert (refused.returncode, refused.stderr) == (3, "refused: there is no scope [/x]\n")
    unknown = authz(stack, "keys", "show", "[/x]\x1b[2J")
    assert (unknown.returncode, unknown.stderr) == (3, "refused: there is no key [/x]\\x1b[2J\n")


@pytest.mark.parametrize("name", ["", " ", "\u3164", "\u2800", "a\u3164b", "a\u202eb", "a\x07b", "\u200d", "a\u2066b"])
def test_a_name_that_people_cannot_see_is_refused(stack: Stack, account: str, name: str) -> None:
    assert authz(stack, "accounts", "create", name).returncode == 3
    assert authz(stack, "keys", "create", account, "--name", name, "--scope", "console").returncode == 3


@pytest.mark.parametrize(
    "name", [ZWJ_FAMILY, "\u2764\ufe0f", "na\u00efve", "\u0646\u0627\u0645\u0647\u200c\u0647\u0627"]
)
def test_a_name_with_joiners_is_accepted(stack: Stack, name: str) -> None:
    assert authz(stack, "accounts", "create", name).returncode == 0


@pytest.mark.parametrize("redirection", [">/dev/full", ">&-"])
@pytest.mark.parametrize("options", [(), ("--json",)])
def test_a_key_whose_secret_nobody_saw_does_not_work(
    stack: Stack, account: str, redirection: str, options: tuple[str, ...]
) -> None:
    done = create(stack, account, *options, redirection=redirection)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    keys = json.loads(authz(stack, "keys", "list", account, "--json").stdout)
    assert all(key["revoked_at"] for key in keys)


def test_a_closed_pipe_is_no_traceback(stack: Stack) -> None:
    done = authz(stack, "settings", redirection="| head -1")
    assert done.stdout.startswith("AUTHZ_POLICY_FILE\t")
    assert "Traceback" not in done.stderr


def test_a_secret_is_never_echoed(stack: Stack) -> None:
    for arguments in (
        ("keys", "revoke", SECRET),
        ("keys", "show", SECRET),
        ("keys", "find", SECRET),
        ("keys", "list", SECRET),
        ("keys", "revoke", "--secret", SECRET),
        ("keys", "rotate", SECRET, "--overlap", "0"),
        ("accounts", "suspend", SECRET),
        ("keys", SECRET),
        (SECRET,),
        ("keys", "create", "acct_1", "--name", "x", "--scope", SECRET),
        ("keys", "create", "acct_1", "--name", "x", "--scope", "console", "--expires", SECRET),
        ("streams", "list", "--account", SECRET),
        ("policy", "explain", "GET", SECRET),
    ):
        for options in ((), ("--json",)):
            done = authz(stack, *arguments, *options)
            assert done.returncode in {1, 2, 3}, arguments
            assert SECRET not in done.stdout + done.stderr, arguments
            assert "Traceback" not in done.stderr


def test_a_key_is_found_by_its_secret_its_hint_and_its_id(stack: Stack, account: str) -> None:
    made = create(stack, account)
    secret, key_id = made.stdout.strip(), made.stderr.partition(":")[0]
    for what, stdin in (("-", secret), (f"ttk_\u2026{secret[-4:]}", ""), (secret[-4:], ""), (key_id, "")):
        found = authz(stack, "keys", "find", what, stdin=stdin)
        assert found.stdout.splitlines()[0].split("\t")[:2] == [key_id, account], what
    assert authz(stack, "keys", "find", "-", stdin=SECRET).returncode == 3
    assert authz(stack, "keys", "find", "key_none").returncode == 3
    revoked = authz(stack, "keys", "revoke", "--secret", "-", stdin=f"{secret}\n")
    assert (revoked.returncode, revoked.stdout) == (0, f"{key_id} revoked\n")
    assert send_settled(stack.url, "GET", "/v1/servers", ("x-api-key", secret)).status == 401


@pytest.mark.parametrize(
    ("text", "expires_at"),
    [
        ("2099-01-31", "2099-01-31T23:59:59+00:00"),
        ("2099-01-31T12:00:00+02:00", "2099-01-31T10:00:00+00:00"),
        ("2099-01-31T12:00:00Z", "2099-01-31T12:00:00+00:00"),
    ],
)
def test_a_day_ends_in_utc_and_the_answer_says_so(stack: Stack, account: str, text: str, expires_at: str) -> None:
    made = create(stack, account, "--expires", text)
    assert f"it expires {expires_at.removesuffix('+00:00')}Z" in made.stderr
    (key,) = json.loads(authz(stack, "keys", "list", account, "--json").stdout)
    assert key["expires_at"] == expires_at


@pytest.mark.parametrize("text", ["30m", "2h", "1w", "30d"])
def test_a_duration_is_from_now_on(stack: Stack, account: str, text: str) -> None:
    assert create(stack, account, "--expires", text).returncode == 0


@pytest.mark.parametrize("text", ["2027-02-30", "soon", "2027-01-31T25:00", "999999w", "-1d", "30"])
def test_a_wrong_time_names_its_option(stack: Stack, account: str, text: str) -> None:
    done = create(stack, account, f"--expires={text}")
    assert (done.returncode, "--expires" in done.stderr) == (2, True)


def test_an_unknown_account_is_refused_everywhere(stack: Stack) -> None:
    for arguments in (("keys", "list", "acct_none"), ("streams", "list", "--account", "acct_none")):
        done = authz(stack, *arguments)
        assert (done.returncode, done.stderr) == (3, "refused: there is no account acct_none\n")
        as_json = authz(stack, *arguments, "--json")
        assert json.loads(as_json.stdout) == {"error": "there is no account acct_none"}


def test_an_address_that_is_none_is_refused(stack: Stack) -> None:
    done = authz(stack, "accounts", "create", "Ada", "--email", "ada at example")
    assert (done.returncode, done.stderr) == (3, "refused: invalid email\n")


def test_a_user_without_a_name_is_named_by_its_number(stack: Stack) -> None:
    # A number without a name, as a container has; the audit log receives it.
    program = (
        "import os, sys; os.getuid = lambda: 54321; "
        "sys.argv = ['authz', 'accounts', 'create', 'Nameless']; "
        "from authz.cli.use_cases import actor; print(actor().name, flush=True); "
        "from authz.cli.app import main; main()"
    )
    names = {"USER", "LOGNAME", "LNAME", "USERNAME"}
    env = {name: value for name, value in environment(stack).items() if name not in names}
    done = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, check=False)
    name, account_id = done.stdout.splitlines()
    assert (done.returncode, name, account_id[:5], done.stderr) == (0, "operator:uid-54321", "acct_", "")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("policy", "explain", "get", "/v1/servers"), "did you mean GET?"),
        (("policy", "explain", "GET", "v1/servers"), "did you mean /v1/servers?"),
        (("keys", "revok", "x"), "Did you mean 'revoke'?"),
        (("keys", "list", "--jsn"), "--json"),
    ],
)
def test_a_wrong_command_line_names_what_was_meant(arguments: tuple[str, ...], words: str) -> None:
    done = authz(None, *arguments)
    assert (done.returncode, words in done.stderr) == (2, True), done.stderr


def test_a_policy_that_does_not_exist_is_said_not_to() -> None:
    done = authz(None, "policy", "lint", "/nope")
    assert (done.returncode, done.stderr) == (1, "/nope:0:0: cannot be read: no such file or directory\n")


def test_settings_in_force_have_a_source_and_no_secret() -> None:
    env = {"AUTHZ_POSTGRES_URL": "postgresql://u:hunter2@h/x", "AUTHZ_PORTAL_PROXY_SECRET": "hunter2" * 8}
    done = authz(None, "settings", AUTHZ_REDIS_ULR="x", AUTHZ_SERVICE_HOST="10.0.0.1", AUTHZ_PORT_9001_TCP="x", **env)
    rows = {line.split("\t")[0]: line.split("\t")[1:3] for line in done.stdout.splitlines()}
    assert rows["AUTHZ_POSTGRES_URL"] == ["postgresql://u:***@h/x", "environment"]
    assert rows["AUTHZ_PORTAL_PROXY_SECRET"] == ["***", "environment"]
    assert rows["AUTHZ_REDIS_DEADLINE_S"][1] == "default"
    assert "hunter2" not in done.stdout + done.stderr
    assert done.stderr == "warning: there is no setting AUTHZ_REDIS_ULR; did you mean AUTHZ_REDIS_URL?\n"


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("AUTHZ_POSTGRES_URL", "nonsense"),
        ("AUTHZ_POSTGRES_URL", "postgresql://h:99999/x"),
        ("AUTHZ_POSTGRES_URL", "postgresql://[::1/x"),
        ("AUTHZ_REDIS_URL", "redis://h:port"),
        ("AUTHZ_MAIL_URL", "smtp://h:99999"),
        ("AUTHZ_MAIL_URL", "smtp://["),
        ("AUTHZ_MAIL_FROM", "nobody"),
        ("AUTHZ_PUBLIC_URL", "https://h:x"),
    ],
)
def test_a_setting_that_cannot_be_used_is_one_line(variable: str, value: str) -> None:
    done = authz(None, "accounts", "list", **{variable: value})
    assert (done.returncode, done.stderr.startswith(f"error: {variable}: ")) == (1, True), done.stderr
    assert done.stderr.count("\n") == 1


def test_help_topics_and_quiet(stack: Stack, account: str) -> None:
    assert "4 durable but not effective yet" in authz(None, "help", "exit-codes").stdout
    assert "--expires" in authz(None, "help", "keys", "create", COLUMNS="200").stdout
    made = authz(stack, "--quiet", "keys", "create", account, "--name", "q", "--scope", "console")
    assert (made.returncode, made.stderr) == (0, "")
