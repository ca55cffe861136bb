"""A listener that allows everything without looking: the floor under every check, on the same HTTP/2 core."""

import argparse
import asyncio

import uvloop
from capture import ALLOW

from authz.adapters.policy_file import load_policy
from authz.demo.servers import shipped
from authz.edge.check_listener import CheckListener
from authz.edge.checks import Checks


class NoChecker:
    """What a listener reads of a checker before the first check."""

    policy = load_policy(shipped("policies/truetick.yaml"))


async def main(port: int) -> None:
    listener = CheckListener(NoChecker(), f"127.0.0.1:{port}")  # type: ignore[arg-type]  # all that is asked of it
    await listener.start()
    listener.serve_health(serving=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    # Nothing is read and nothing is built: one answer, made once.
    Checks.check = lambda _checks, _request, reply: reply(ALLOW)  # type: ignore[method-assign,assignment]
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    uvloop.run(main(parser.parse_args().port))
