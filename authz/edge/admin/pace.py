"""A limit on the CPU time of one thread, so that it leaves the interpreter lock to others.

What the thread does in its time is up to its owner.
"""

import time


class CpuPace:
    """Keeps the calling thread under `share` of one CPU, after `burst_s` seconds of CPU time at once."""

    def __init__(self, share: float, burst_s: float) -> None:
        self._share = share
        self._burst_s = burst_s
        self._left_s = burst_s
        self._seen_s = time.monotonic()
        self._used_s = time.thread_time()

    def wait(self) -> None:
        """Sleep as long as the thread has used more than its share."""
        now_s, used_s = time.monotonic(), time.thread_time()
        self._left_s = min(self._burst_s, self._left_s + (now_s - self._seen_s) * self._share)
        self._left_s -= used_s - self._used_s
        self._seen_s, self._used_s = now_s, used_s
        if self._left_s < 0:
            time.sleep(-self._left_s / self._share)

    def exempt(self) -> None:
        """Exclude the CPU time since the last `wait`: its amount is limited elsewhere."""
        self._used_s = time.thread_time()
