"""The `truetick` command: log in, sign up, see whose key it is, log out.

How a key is got is `login.py`. Exit codes: 0 done, 1 failed or out of reach, 2 wrong usage, 3 refused by the API, 4 not
logged in, 5 the device was not approved, 130 interrupted.
"""

from dataclasses import asdict
from typing import Annotated

import typer

from authz import __version__
from authz.client.api import Api
from authz.client.choices import KEY_VARIABLE, URL_VARIABLE, Choices, brings_key
from authz.client.faults import NotLoggedIn, WrongUsage
from authz.client.login import Login
from authz.client.screen import Screen, hint

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help="Get an API key, and see whose it is.")

Url = Annotated[str, typer.Option(help=f"Where the API is; else {URL_VARIABLE}, else where the last login was.")]
InsecureHttp = Annotated[
    bool, typer.Option("--insecure-http", help="Send secrets over plain http to another machine, readable on the way.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Password = Annotated[
    str,
    typer.Option(help="Asked for when left out; - reads standard input. Given here, others on this machine see it."),
]


@app.callback(invoke_without_command=True)
def _version(
    *, version: Annotated[bool, typer.Option("--version", is_eager=True, help="Print the version.")] = False
) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


@app.command()
def login(
    *,
    email: Annotated[str, typer.Option(help="Log in with a password instead of a browser.")] = "",
    password: Password = "",
    key: Annotated[str, typer.Option(help="Save a key that you have; - asks for it or reads standard input.")] = "",
    browser: Annotated[bool, typer.Option(help="Open the page where there is a desktop.")] = True,
    url: Url = "",
    insecure_http: InsecureHttp = False,
    as_json: AsJson = False,
) -> None:
    """Get a key and save it: approve this device in a browser, on any machine, or give --email, or --key."""
    screen = Screen(as_json=as_json)
    with screen.failing():
        if (key and email) or (password and not email):
            raise WrongUsage("give --email, alone or with --password, or --key, or none of them")
        way = Login(Choices(url, insecure_http=insecure_http), screen)
        if key:
            way.with_key(key)
        elif email:
            way.with_password(email, password)
        else:
            way.with_device(browser=browser)


@app.command()
def signup(
    *,
    email: Annotated[str, typer.Option(help="Your address; asked for when left out.")] = "",
    password: Password = "",
    url: Url = "",
    insecure_http: InsecureHttp = False,
    as_json: AsJson = False,
) -> None:
    """Open an account, get its first key and save it."""
    screen = Screen(as_json=as_json)
    with screen.failing():
        Login(Choices(url, insecure_http=insecure_http), screen).by_signing_up(email, password)


@app.command()
def whoami(*, url: Url = "", insecure_http: InsecureHttp = False, as_json: AsJson = False) -> None:
    """Ask the API whose key is in use."""
    screen = Screen(as_json=as_json)
    with screen.failing():
        choices = Choices(url, insecure_http=insecure_http)
        address = choices.url()
        with Api(address) as api:
            person = api.who_am_i(choices.key(address))
        verified = "verified" if person.email_verified else "not verified"
        screen.result(f"{person.email} ({verified}), account {person.account_id}, at {address}", asdict(person))


@app.command()
def logout(*, as_json: AsJson = False) -> None:
    """Forget the saved key. It keeps working until it is revoked in the dashboard."""
    screen = Screen(as_json=as_json)
    with screen.failing():
        config = Choices().config()
        saved = config.load()
        if not saved.api_key:
            raise NotLoggedIn("not logged in")
        config.forget_key()
        screen.note(f"key {hint(saved.api_key)} keeps working until it is revoked in the dashboard")
        if brings_key():
            screen.note(f"{KEY_VARIABLE} is still set, and still used")
        screen.result("logged out", {"logged_out": True, "url": saved.url})
