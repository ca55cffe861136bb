"""The subcommands of `truetick`: login, signup, whoami, logout.

The ways to get a key are `login.py`. Exit codes: 0 done, 1 failed or unavailable, 2 wrong usage, 3 refused by the API,
4 not logged in, 5 the device was not approved, 130 interrupted. Each subcommand imports what it needs, so that `--help`
is fast.
"""

import shutil
import sys
from typing import TYPE_CHECKING, Annotated

import typer

import authz
from authz.client.names import KEY_VARIABLE, PROMPT, URL_VARIABLE

if TYPE_CHECKING:
    from authz.client.screen import Screen

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help="Get an API key and show its account.")

_BOX_WIDTH_MIN = 60

Url = Annotated[str, typer.Option(help=f"The URL of the API; default: {URL_VARIABLE}, then the URL of the last login.")]
InsecureHttp = Annotated[
    bool, typer.Option("--insecure-http", help="Allow plain http to another machine, on which others can read secrets.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Password = Annotated[
    str,
    typer.Option(
        metavar="[TEXT]",
        help="The password; without a value it is prompted for, or read from standard input, as with -. "
        "A value on the command line is visible to other users of this machine.",
    ),
]


@app.callback(invoke_without_command=True)
def _global(
    context: typer.Context,
    *,
    version: Annotated[bool, typer.Option("--version", is_eager=True, help="Print the version.")] = False,
    as_json: AsJson = False,
) -> None:
    if version:
        typer.echo(authz.__version__)
        raise typer.Exit
    context.obj = as_json


@app.command()
def login(  # noqa: PLR0913 -- each parameter is an option
    context: typer.Context,
    *,
    email: Annotated[str, typer.Option(help="Log in with a password instead of a browser.")] = "",
    password: Password = "",
    key: Annotated[
        str, typer.Option(metavar="[TEXT]", help="Save an existing key; without a value or with -, as --password.")
    ] = "",
    check: Annotated[bool, typer.Option(help="With --key: save the key only if the API accepts it.")] = True,
    browser: Annotated[bool, typer.Option(help="Open the page if there is a desktop.")] = True,
    url: Url = "",
    insecure_http: InsecureHttp = False,
    as_json: AsJson = False,
) -> None:
    """Get a key and save it: approve this device in a browser, or use --email or --key."""
    from authz.client.choices import Choices  # noqa: PLC0415 -- see the module's docstring
    from authz.client.faults import WrongUsage  # noqa: PLC0415 -- the same
    from authz.client.login import Login  # noqa: PLC0415 -- the same

    screen = _screen(context, as_json=as_json)
    with screen.failing():
        if (key and email) or (password and not email):
            raise WrongUsage("give --email, alone or with --password, or --key, or none of them")
        if not check and not key:
            raise WrongUsage("--no-check belongs to --key")
        way = Login(Choices(url, insecure_http=insecure_http), screen)
        if key:
            way.with_key(key, check=check)
        elif email:
            way.with_password(email, password)
        else:
            way.with_device(browser=browser)


@app.command()
def signup(
    context: typer.Context,
    *,
    email: Annotated[str, typer.Option(help="Your e-mail address; prompted for if it is missing.")] = "",
    password: Password = "",
    url: Url = "",
    insecure_http: InsecureHttp = False,
    as_json: AsJson = False,
) -> None:
    """Create an account, and save its first key."""
    from authz.client.choices import Choices  # noqa: PLC0415 -- see the module's docstring
    from authz.client.login import Login  # noqa: PLC0415 -- the same

    screen = _screen(context, as_json=as_json)
    with screen.failing():
        Login(Choices(url, insecure_http=insecure_http), screen).by_signing_up(email, password)


@app.command()
def whoami(
    context: typer.Context, *, url: Url = "", insecure_http: InsecureHttp = False, as_json: AsJson = False
) -> None:
    """Show the account of the key in use."""
    from authz.client.api import Api  # noqa: PLC0415 -- see the module's docstring
    from authz.client.choices import Choices  # noqa: PLC0415 -- the same

    screen = _screen(context, as_json=as_json)
    with screen.failing():
        choices = Choices(url, insecure_http=insecure_http)
        address = choices.url()
        with Api(address) as api:
            person = api.who_am_i(choices.key(address))
        verified = "verified" if person.email_verified else "not verified"
        screen.result(f"{person.email} ({verified}), account {person.account_id}, at {address}", person.fields())


@app.command()
def logout(context: typer.Context, *, as_json: AsJson = False) -> None:
    """Delete the saved key and every other secret. The key works until it is revoked in the dashboard."""
    from authz.client.choices import Choices, environment_has_key  # noqa: PLC0415 -- see the module's docstring
    from authz.client.screen import hint  # noqa: PLC0415 -- the same

    screen = _screen(context, as_json=as_json)
    with screen.failing():
        saved = Choices().config().forget_secrets()
        if saved.api_key:
            screen.note(f"key {hint(saved.api_key)} works until it is revoked in the dashboard")
        if environment_has_key():
            screen.note(f"{KEY_VARIABLE} is still set, and still used")
        if saved.api_key or _is_json(context, as_json=as_json):
            screen.result("logged out", {"logged_out": bool(saved.api_key), "url": saved.url})


def with_prompts(arguments: list[str]) -> list[str]:
    """Return the arguments with a value for each `--password` and `--key` that has none, which asks for a prompt."""
    result: list[str] = []
    for index, argument in enumerate(arguments):
        if argument == "--":
            return [*result, *arguments[index:]]
        following = arguments[index + 1] if index + 1 < len(arguments) else "--"
        is_bare = argument in {"--password", "--key"} and following.startswith("-") and following != "-"
        result += [f"{argument}={PROMPT}"] if is_bare else [argument]
    return result


def plain_help_columns() -> int | None:
    """Return the width of help without boxes, which a narrow terminal would cut and a pipe has no use for, or None."""
    columns = shutil.get_terminal_size().columns
    is_terminal = sys.stdout is not None and sys.stdout.isatty()
    return None if is_terminal and columns >= _BOX_WIDTH_MIN else columns


def _is_json(context: typer.Context, *, as_json: bool) -> bool:
    return as_json or bool(context.obj)


def _screen(context: typer.Context, *, as_json: bool) -> "Screen":
    from authz.client.screen import Screen  # noqa: PLC0415 -- see the module's docstring

    return Screen(as_json=_is_json(context, as_json=as_json))
