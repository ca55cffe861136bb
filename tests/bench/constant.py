"""A listener that allows everything without looking: the floor under every check, on the same HTTP/2 core.

Its one answer is as long as a real one, and gives Envoy the same headers to apply: what is compared is the thinking.
"""

import argparse
import asyncio

import uvloop

from authz.adapters.policy_file import load_policy
from authz.core.check import Allow, Bucket, Principal, RequestAttributes
from authz.demo.servers import shipped
from authz.edge.answers import Answers
from authz.edge.check_listener import CheckListener
from authz.edge.checks import Checks


class NoChecker:
    """What a listener reads of a checker before the first check."""

    policy = load_policy(shipped("policies/truetick.yaml"))


def typical_answer() -> bytes:
    """Write the answer to an allowed check by a key with all scopes."""
    policy = NoChecker.policy
    principal = Principal("acct_3f9d2c81b6a04e57", "key_8c1e5d90a7b34f26", frozenset(policy.scopes))
    allow = Allow(policy.routes[0], principal, Bucket(policy.limit, 93.5))
    return Answers(policy).write(RequestAttributes("1", "GET", "/"), allow)


async def main(port: int) -> None:
    checker = NoChecker()
    listener = CheckListener(checker, f"127.0.0.1:{port}", check_s_max=0)  # type: ignore[arg-type]  # all that it reads
    await listener.start()
    listener.serve_health(serving=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    # Nothing is read and nothing is built: one answer, made once.
    answer = typical_answer()
    Checks.check = lambda _checks, _request, reply: reply(answer)  # type: ignore[method-assign,assignment]
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    uvloop.run(main(parser.parse_args().port))
