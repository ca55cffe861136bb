"""One check from Envoy's message to the answer's message, the same for every listener.

Which bytes carry them is the listeners' business. Whatever breaks on the way is answered as an error: never an allow,
and never an aborted call, which Envoy would ask again.
"""

import logging
from collections.abc import Callable
from functools import partial

from authz._pb.check_pb2 import CheckRequest
from authz.core.check import Decision, Deny, RequestAttributes
from authz.core.errors import DenyReason
from authz.edge.answers import Answers
from authz.edge.codec import decode
from authz.service.checker import Checker

SERVICE = "envoy.service.auth.v3.Authorization"

Reply = Callable[[bytes], bool]
"""Called exactly once, with a CheckResponse as bytes; returns False where nobody waits for it any more."""

_log = logging.getLogger("authz.check")
_UNREAD = RequestAttributes(request_id="", method="", target="")


class Checks:
    """Answers the checks of one checker."""

    def __init__(self, checker: Checker) -> None:
        self._checker = checker
        self._answers = Answers(checker.policy)

    def check(self, request: CheckRequest, reply: Reply) -> None:
        """Decide one request; `reply` is called before or after this returns."""
        answers = self._answers
        if answers.policy is not self._checker.policy:
            answers = self._answers = Answers(self._checker.policy)
        attributes = _UNREAD
        try:
            attributes = decode(request, answers.policy.keys.header)
            self._checker.check(attributes, partial(_answer, answers, attributes, reply))
        except Exception:  # noqa: BLE001 -- whatever broke, the answer is an error and the log has the reason
            _fail(answers, attributes, reply)


def _answer(answers: Answers, attributes: RequestAttributes, reply: Reply, decision: Decision) -> bool:
    try:
        answer = answers.write(attributes, decision)
    except Exception:  # noqa: BLE001 -- as above
        _fail(answers, attributes, reply)
        return False
    return reply(answer)


def _fail(answers: Answers, attributes: RequestAttributes, reply: Reply) -> None:
    _log.exception("check failed", extra={"request_id": attributes.request_id})
    reply(answers.write(attributes, Deny(DenyReason.INTERNAL, retry_after_s=1)))
