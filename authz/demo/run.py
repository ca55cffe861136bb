"""`authz demo`: starts the stack, prints its addresses, and waits for a signal.

The stack itself is `stack.py`.
"""

import json
import os
import signal
import time
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from authz.cli.own_api.stack_files import first_scopes
from authz.demo.own_api import OwnApi, welcome
from authz.demo.servers import ServerFailed
from authz.demo.stack import Stack
from authz.demo.tour import walk

_SCOPES = ("servers:read", "servers:write", "console", "files:read", "files:write", "backups", "billing:read")


class _Stopped(BaseException):
    """Ctrl-C or SIGTERM, as an exception, so that all servers are stopped."""


def run_demo(*, port: int, tour: bool, ready_file: Path | None, own: OwnApi | None = None) -> int:
    """Run the demo until Ctrl-C or SIGTERM, or the tour to its end; returns the exit code.

    With an `own` API, that one runs behind Envoy, without the portal.
    """
    console = Console(highlight=False)
    for number in (signal.SIGINT, signal.SIGTERM):  # a shell starts background jobs with SIGINT ignored
        signal.signal(number, _stop)
    stack = Stack(port=port, portal=own is None, own=own)
    try:
        with console.status("starting") as status:
            stack.start(lambda step: status.update(f"starting {step}"))
        if tour:
            return walk(stack, console)
        if own is None:
            secret = stack.create_key("demo", *_SCOPES).secret
            _welcome(console, stack, secret)
        else:
            secret = stack.create_key("demo", *first_scopes(own.policy)).secret
            welcome(console, stack.url, own.policy, secret)
        if ready_file is not None:
            _write_ready(ready_file, stack, secret)
        while True:  # not signal.pause(): a signal that arrives just before it would be missed
            time.sleep(0.5)
    except _Stopped:
        console.print("stopping")
    except ServerFailed as error:
        console.print(f"error: {error}", style="red", markup=False)
        return 1
    finally:
        stack.stop()
    return 0


def _stop(_number: int, _frame: object) -> None:
    raise _Stopped


def _welcome(console: Console, stack: Stack, secret: str) -> None:
    server = f"{stack.url}/v1/servers"
    header = f"-H 'x-api-key: {secret}'"
    console.print(f"\n[bold]Envoy answers on {stack.url}[/bold] · metrics on {stack.admin_url}/metrics\n")
    for comment, arguments in (
        ("a request with the key", f"{header} {server}"),
        ("the account of the key", f"{header} {stack.url}/v1/whoami"),
        ("a log stream", f"-N {header} '{server}/s1/logs/stream?tail=3'"),
        ("no key", server),
        ("barred for every key", f"{header} {stack.url}/v1/admin/users"),
        ("more requests than the bucket admits", f"-o /dev/null -s -w '%{{http_code}}\\n' {header} '{server}?[1-130]'"),
    ):
        console.print(f"# {comment}", style="dim")
        console.print(f"curl -i {arguments}", soft_wrap=True, markup=False)
    if stack.owner is not None:
        where = f"{stack.url}/dashboard[/bold] · metrics on {stack.portal_admin_url}/metrics"
        console.print(f"\n[bold]The dashboard is at {where}", soft_wrap=True)
        console.print(f"log in as {stack.owner.email} with the password {stack.owner.password}", markup=False)
        console.print(f"its mails are in {stack.folder}/portal.log", markup=False)
        console.print(f"log in from a terminal: truetick login --url {stack.url}", soft_wrap=True, markup=False)
    console.print("\nCtrl-C stops everything.")


def _write_ready(path: Path, stack: Stack, secret: str) -> None:
    """Write the addresses atomically, with mode 0600, because the file contains a key."""
    ready = {
        "envoy": stack.url,
        "admin": stack.admin_url,
        "portal_admin": stack.portal_admin_url,
        "redis": stack.redis.url,
        "postgres": stack.postgres.url,
        "pids": stack.pids,
        "account_id": stack.account_id,
        "api_key": secret,
        "owner": asdict(stack.owner) if stack.owner else None,
    }
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    draft.touch(mode=0o600)
    draft.write_text(json.dumps(ready, indent=2) + "\n")
    draft.replace(path)
