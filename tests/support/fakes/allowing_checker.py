"""The check listener with a checker that allows everything after a given delay."""

import asyncio
from collections.abc import Callable, Sequence

from support.builders import policy

from authz._pb.check_pb2 import CheckRequest
from authz.core.check import Allow, Principal, RequestAttributes
from authz.edge.check.listener import CheckListener
from authz.edge.check.messages import SERVICE
from authz.service.check.batch import Answer

ROUTE = policy().routes[0]
GRPC_CALL = {
    ":method": "POST",
    ":scheme": "http",
    ":path": f"/{SERVICE}/Check",
    ":authority": "a",
    "content-type": "application/grpc",
}
"""The header fields of a check, for peers that write HTTP/2 themselves."""


class AllowingChecker:
    """Allows every check after `delay_s`; the account id is the requested target."""

    policy = policy()

    def __init__(self) -> None:
        self.delay_s: Callable[[], float] = lambda: 0
        self.failure: Exception | None = None

    def check(self, asked: Sequence[tuple[int, RequestAttributes]], answer: Answer, *_: object) -> None:
        if self.failure is not None:
            raise self.failure
        for number, attributes in asked:
            decision = Allow(ROUTE, Principal(attributes.target, "key_1", frozenset()))
            if delay_s := self.delay_s():
                asyncio.get_running_loop().call_later(delay_s, answer, [(number, attributes, decision)])
            else:
                answer([(number, attributes, decision)])


def listener_on(checker: AllowingChecker, listen: str) -> CheckListener:
    return CheckListener(checker, listen, check_s_max=0.2)  # type: ignore[arg-type]  # all it asks of a checker


def check_request(target: str) -> CheckRequest:
    request = CheckRequest()
    request.attributes.request.http.path = target
    return request
