"""The child process that reads a policy, so that no check waits for that.

It runs at a low priority, and it is the first process that the kernel ends if memory is short. What it does is
`child.py`.
"""

import os
import pickle
import sys
from contextlib import suppress
from pathlib import Path

from authz.policy_reload.child import read

_NICE = 5


def main() -> None:
    """Read a request from standard input, and write the candidate to standard output."""
    os.nice(_NICE)
    with suppress(OSError):  # not on every system
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    request = pickle.load(sys.stdin.buffer)  # noqa: S301 -- from the parent
    pickle.dump(read(request), sys.stdout.buffer)


if __name__ == "__main__":
    main()
