"""Checks from Envoy's request messages to response messages, the same for every listener.

The transport is in the listeners. An exception on the way leads to an error response: never an allow, and never an
aborted call, which Envoy would retry.
"""

import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from typing import TypeAlias

from google.protobuf.message import DecodeError

from authz._pb.check_pb2 import CheckRequest
from authz.core.check import Decision, Deny, RequestAttributes
from authz.core.errors import DenyReason
from authz.core.policy.policy import Policy
from authz.core.traces.context import Traced
from authz.edge.check.readers import reader_of
from authz.edge.check.responses import ResponseWriter, writer_of
from authz.service.check.checker import Checker
from authz.service.ports import Decided

SERVICE = "envoy.service.auth.v3.Authorization"
BATCH_MAX = 256

Answer: TypeAlias = Callable[[ResponseWriter, Sequence[Decided]], bool | None]
"""Callback with a response writer and decisions; returns False where the only call is already closed."""

_INTERNAL_ERROR = Deny(DenyReason.INTERNAL, retry_after_s=1)
_UNKNOWN_REQUEST = RequestAttributes(request_id="", method="", target="")

_log = logging.getLogger("authz.check")


class Checks:
    """The checks of one checker. `batches` counts batches by their number of checks, the last also larger ones."""

    def __init__(self, checker: Checker) -> None:
        self._checker = checker
        self.batches = [0] * (BATCH_MAX + 1)
        self._begin(checker.policy)

    def check(
        self,
        calls: Iterable[tuple[int, CheckRequest, Traced | None]],
        answer: Answer,
        sampled: Collection[int] | None = None,
    ) -> bool:
        """Decide calls that arrived together, with ids and trace contexts; return whether a store request is in flight.

        `answer` is called once for each call, before or after this returns; `sampled` is as in `Checker.check`.
        """
        if self._answers.policy is not self._checker.policy:
            self._begin(self._checker.policy)
        answers, read = self._answers, self._reader.read
        batch: list[tuple[int, RequestAttributes]] = []
        for call_id, request, traced in calls:
            try:
                batch.append((call_id, read(request, traced)))
            except DecodeError as error:  # an error of the sender: no traceback
                _log.warning("a check request cannot be read: %s", error)
                answer(answers, [(call_id, _UNKNOWN_REQUEST, _INTERNAL_ERROR)])
            except Exception:  # noqa: BLE001 -- the response is an error, and the log has the reason
                _log.exception("a check request cannot be read")
                answer(answers, [(call_id, _UNKNOWN_REQUEST, _INTERNAL_ERROR)])
        self.batches[min(len(batch), BATCH_MAX)] += 1
        try:
            return self._checker.check(batch, partial(answer, answers), sampled)
        except Exception:  # noqa: BLE001 -- as above; a call with a response ignores a second one
            _log.exception("checks failed")
            answer(answers, [(call_id, attributes, _INTERNAL_ERROR) for call_id, attributes in batch])
            return False

    def _begin(self, policy: Policy) -> None:
        self._reader, self._answers = reader_of(policy), writer_of(policy)


def write_all(answers: ResponseWriter, decided: Sequence[Decided]) -> list[tuple[int, bytes]]:
    """Serialise the CheckResponses to several calls; return each with the id of its call."""
    write_one = answers.write
    try:
        return [(call_id, write_one(attributes, decision)) for call_id, attributes, decision in decided]
    except Exception:  # noqa: BLE001 -- once more and one by one, so that the others are as they would be without it
        return [(call_id, write(answers, attributes, decision)) for call_id, attributes, decision in decided]


def write(answers: ResponseWriter, attributes: RequestAttributes, decision: Decision) -> bytes:
    """Serialise the CheckResponse to one call."""
    try:
        return answers.write(attributes, decision)
    except Exception:  # noqa: BLE001 -- as above
        _log.exception("a check response cannot be serialised", extra={"request_id": attributes.logged_id})
        return answers.write(attributes, _INTERNAL_ERROR)
