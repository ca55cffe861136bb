"""The policy file of a process: whether it has changed, and what it says, read by a child process.

A child, because parsing 10,000 rows takes seconds, and a thread would take them from the checks: it shares their
interpreter lock. What is done with a policy is `reload.py`.
"""

import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import TypeAlias

from authz.policy_reload.child import Candidate, ReadRequest
from authz.policy_reload.frames import Frames

READ_S_MAX = 600.0
_MODULE = "authz.policy_reload"

Signature: TypeAlias = tuple[object, ...]
"""What distinguishes two states of a file."""


class PolicySource:
    """One policy file. All methods block: call them on a thread."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._child: subprocess.Popen[bytes] | None = None
        self._is_closed = False

    def signature(self) -> Signature:
        """Return the present state of the file: where its symbolic links lead, and what the file system says.

        A ConfigMap is replaced by renaming the symbolic link `..data`, so the file has another path then.
        """
        try:
            found = self._file.stat()
            real = os.path.realpath(self._file)
        except (OSError, RuntimeError) as error:  # RuntimeError: a cycle of links
            return (type(error).__name__,)
        return real, found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns

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
