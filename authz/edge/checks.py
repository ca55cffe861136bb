"""One check from Envoy's message to the answer's message, the same for every listener.

Which bytes carry them is the listeners' business. Whatever breaks on the way is answered as an error: never an allow,
and never an aborted call, which Envoy would ask again.
"""

from collections.abc import Callable
from functools import partial

import structlog

from authz._pb.check_pb2 import CheckRequest, CheckResponse
from authz.core.check import Decision, Deny, RequestAttributes
from authz.core.errors import DenyReason
from authz.core.policy import Policy
from authz.edge.codec import decode, encode
from authz.service.checker import Checker

SERVICE = "envoy.service.auth.v3.Authorization"

_log = structlog.stdlib.get_logger("authz.check")
_UNREAD = RequestAttributes(request_id="", method="", target="")


def check(checker: Checker, request: CheckRequest, reply: Callable[[CheckResponse], None]) -> None:
    """Decide one request; `reply` is called exactly once, before or after this returns."""
    policy = checker.policy
    attributes = _UNREAD
    try:
        attributes = decode(request, policy.keys.header)
        checker.check(attributes, partial(_answer, policy, attributes, reply))
    except Exception:  # noqa: BLE001 -- whatever broke, the answer is an error and the log has the reason
        _fail(policy, attributes, reply)


def _answer(
    policy: Policy, attributes: RequestAttributes, reply: Callable[[CheckResponse], None], decision: Decision
) -> None:
    try:
        answer = encode(policy, attributes, decision)
    except Exception:  # noqa: BLE001 -- as above
        _fail(policy, attributes, reply)
    else:
        reply(answer)


def _fail(policy: Policy, attributes: RequestAttributes, reply: Callable[[CheckResponse], None]) -> None:
    _log.exception("check failed", request_id=attributes.request_id)
    reply(encode(policy, attributes, Deny(DenyReason.INTERNAL, retry_after_s=1)))
