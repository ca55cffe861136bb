"""A listener that allows everything without a decision: the lowest possible cost of a check on the same HTTP/2 core.

Its one response is as long as a real one and has the same headers, so that the difference is the cost of deciding.
"""

import argparse
import asyncio
from collections.abc import Collection, Iterable, Sequence

import uvloop

from authz._pb.check_pb2 import CheckRequest
from authz.adapters.policy_file.loader import load_policy
from authz.core.check import Allow, Bucket, Principal, RequestAttributes
from authz.core.traces.context import Traced
from authz.demo.servers import shipped
from authz.edge.check import peer
from authz.edge.check.listener import CheckListener
from authz.edge.check.messages import Answer, Checks
from authz.edge.check.responses import ResponseWriter
from authz.service.ports import Decided

POLICY = load_policy(shipped("policies/truetick.yaml"))
ANSWERS = ResponseWriter(POLICY)
REQUEST = RequestAttributes("1", "GET", "/")
CALLER = Principal("acct_3f9d2c81b6a04e57", "key_8c1e5d90a7b34f26", frozenset(POLICY.scopes))
ALLOW = Allow(POLICY.routes[0], CALLER, Bucket.of(POLICY.limit, 93.5))
ANSWER = ANSWERS.write(REQUEST, ALLOW)


class NoChecker:
    """The attributes that a listener reads from a checker before the first check."""

    policy = POLICY


def check(
    self: Checks,  # noqa: ARG001
    calls: Iterable[tuple[int, CheckRequest, Traced | None]],
    answer: Answer,
    sampled: Collection[int] | None = None,  # noqa: ARG001
) -> bool:
    answer(ANSWERS, [(call_id, REQUEST, ALLOW) for call_id, _, _ in calls])
    return False


def write_all(answers: ResponseWriter, decided: Sequence[Decided]) -> list[tuple[int, bytes]]:  # noqa: ARG001
    return [(call_id, ANSWER) for call_id, _, _ in decided]


async def main(port: int) -> None:
    checker = NoChecker()
    listener = CheckListener(checker, f"127.0.0.1:{port}", check_s_max=0)  # type: ignore[arg-type]  # all that it reads
    await listener.start()
    listener.serve_health(serving=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    # Nothing is read and nothing is built: one answer, made once.
    Checks.check = check  # type: ignore[method-assign]
    peer.write_all = write_all  # type: ignore[attr-defined]
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    uvloop.run(main(parser.parse_args().port))
