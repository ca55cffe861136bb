"""The policy file of a process: whether it has changed, and what it says, read by a child process.

A child, because parsing 10,000 rows takes seconds, and a thread would take them from the checks: it shares their
interpreter lock. What is done with a policy is `reload.py`.
"""

import os
import pickle
import subprocess
import sys
from pathlib import Path

from authz.adapters.policy_file.states import Signature, signature
from authz.policy_reload.child import Candidate, ReadRequest
from authz.policy_reload.frames import Frames

READ_S_MAX = 600.0
_MODULE = "authz.policy_reload"


class PolicySource:
    """One policy file, with the files that it includes. All methods block: call them on a thread."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._files: tuple[Path, ...] = (file,)
        self._child: subprocess.Popen[bytes] | None = None
        self._is_closed = False

    def follow(self, seen: Signature) -> None:
        """Take the files that a policy was read from for those that make a new policy when they change."""
        # A file that cannot be read may name no others; a change of any former one may repair it.
        self._files = tuple(file for file, _ in seen) or self._files

    def signature(self) -> Signature:
        """Return the present state of the files."""
        return signature(self._files)

    def read(self, present: Frames) -> Candidate:
        """Read the file, and compare it with the policy in force; never raises."""
        try:
            return self._run(ReadRequest(self._file, present))
        except subprocess.TimeoutExpired:
            return Candidate(f"{self._file}: reading took more than {READ_S_MAX:g} s")
        except (OSError, EOFError, pickle.UnpicklingError) as error:
            ended = "" if self._child is None else f" (status {self._child.returncode})"
            return Candidate(f"{self._file}: the process that reads it failed: {type(error).__name__}{ended}")
        finally:
            self._child = None

    def close(self) -> None:
        """End a read that is under way."""
        self._is_closed = True
        if (child := self._child) is not None:
            child.kill()

    def _run(self, request: ReadRequest) -> Candidate:
        # The same code as here, and no secret of the environment.
        environment = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path), "PYTHONUTF8": "1"}
        command = [sys.executable, "-P", "-m", _MODULE]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, env=environment) as child:  # noqa: S603 -- ourselves
            self._child = child
            if self._is_closed:
                child.kill()
            try:
                output, _ = child.communicate(pickle.dumps(request), READ_S_MAX)
            except BaseException:
                child.kill()
                raise
        found: Candidate = pickle.loads(output)  # noqa: S301 -- from our own child
        return found
