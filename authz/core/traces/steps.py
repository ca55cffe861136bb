"""What is measured of a check whose caller records its trace."""

from collections.abc import Sequence

from authz.core.check import Decision, RequestAttributes
from authz.core.value import Value


class Step(Value):
    """A part of a check: its times are of `perf_counter`; `end_s` is 0 until its end."""

    name: str
    start_s: float
    end_s: float = 0.0


class SampledCheck(Value):
    """A decided check with its steps."""

    attributes: RequestAttributes
    decision: Decision
    steps: Sequence[Step]
