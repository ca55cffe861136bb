"""What the child process does with a policy file: it parses, checks and compares.

The process itself is `__main__.py`; `source.py` starts it.
"""

from dataclasses import dataclass
from pathlib import Path

from authz.adapters.policy_file.loader import load_files
from authz.adapters.policy_file.states import Signature
from authz.adapters.policy_file.yaml import rendered
from authz.core.errors import PolicyError
from authz.core.policy.effect import NO_EFFECT, Effect, effect
from authz.policy_reload.frames import Frames, framed, unframed

_FAULT_CHARS_MAX = 8_192


@dataclass(frozen=True, slots=True)
class ReadRequest:
    """The file to read, and the policy in force."""

    file: Path
    present: Frames


@dataclass(frozen=True, slots=True)
class Candidate:
    """What was read: `fault` says why it must not be used; otherwise `frames` is the policy, none if it is in force.

    `seen` are the files that it consists of, with their states before they were read; none if nothing was read.
    """

    fault: str = ""
    digest: str = ""
    acknowledges: tuple[str, ...] = ()
    effect: Effect = NO_EFFECT
    frames: Frames = ()
    seen: Signature = ()


def read(request: ReadRequest) -> Candidate:
    """Read and compare a policy."""
    present = unframed(request.present)
    try:
        policy, seen = load_files(request.file)
    except PolicyError as error:
        return Candidate(rendered(error)[:_FAULT_CHARS_MAX], seen=error.seen)
    if policy.digest == present.digest:
        return Candidate(digest=policy.digest, seen=seen)
    return Candidate("", policy.digest, policy.acknowledges, effect(present, policy), framed(policy), seen)
