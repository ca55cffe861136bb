"""Checks from Envoy's messages to the answers' messages, the same for every listener.

Which bytes carry them is the listeners' business. Whatever breaks on the way is answered as an error: never an allow,
and never an aborted call, which Envoy would ask again.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TypeAlias

from google.protobuf.message import DecodeError

from authz._pb.check_pb2 import CheckRequest
from authz.core.check import Decision, Deny, RequestAttributes
from authz.core.errors import DenyReason
from authz.core.policy.policy import Policy
from authz.edge.check.attributes import AttributesReader
from authz.edge.check.responses import Answers
from authz.service.check.checker import Checker
from authz.service.ports import Decided

SERVICE = "envoy.service.auth.v3.Authorization"

Answer: TypeAlias = Callable[[Answers, Sequence[Decided]], bool | None]
"""Told what was decided on some calls, and what writes answers; returns False where nobody waits for the only one."""

_BROKEN = Deny(DenyReason.INTERNAL, retry_after_s=1)
_UNREAD = RequestAttributes(request_id="", method="", target="")

_log = logging.getLogger("authz.check")


class Checks:
    """Has the checks of one checker decided."""

    def __init__(self, checker: Checker) -> None:
        self._checker = checker
        self._begin(checker.policy)

    def check(self, asked: Iterable[tuple[int, CheckRequest]], answer: Answer) -> bool:
        """Decide calls that came together, given with their ids; tell whether a store had to be asked.

        `answer` is called with each of them once, before or after this returns (`Checker.check`).
        """
        if self._answers.policy is not self._checker.policy:
            self._begin(self._checker.policy)
        answers, read = self._answers, self._reader.read
        batch: list[tuple[int, RequestAttributes]] = []
        for call_id, request in asked:
            try:
                batch.append((call_id, read(request)))
            except DecodeError as error:  # its sender's fault, which has no traceback here
                _log.warning("a check could not be read: %s", error)
                answer(answers, [(call_id, _UNREAD, _BROKEN)])
            except Exception:  # noqa: BLE001 -- whatever broke, the answer is an error and the log has the reason
                _log.exception("a check could not be read")
                answer(answers, [(call_id, _UNREAD, _BROKEN)])
        try:
            return self._checker.check(batch, partial(answer, answers))
        except Exception:  # noqa: BLE001 -- as above; who has an answer already ignores a second
            _log.exception("checks failed")
            answer(answers, [(call_id, attributes, _BROKEN) for call_id, attributes in batch])
            return False

    def _begin(self, policy: Policy) -> None:
        self._reader, self._answers = AttributesReader(policy.keys), Answers(policy)


def write(answers: Answers, attributes: RequestAttributes, decision: Decision) -> bytes:
    """Write the answer to one call: a CheckResponse."""
    try:
        return answers.write(attributes, decision)
    except Exception:  # noqa: BLE001 -- as above
        _log.exception("an answer could not be written", extra={"request_id": attributes.request_id})
        return answers.write(attributes, _BROKEN)
