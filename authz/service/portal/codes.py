"""The secret codes of mailed links: 256 random bits, stored as a digest, valid until a time.

What a code permits is decided by the use case that mails it.
"""

from base64 import urlsafe_b64encode
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256

_BYTES = 32


@dataclass(frozen=True, slots=True)
class Codes:
    """Creates codes. `entropy(n)` returns n random bytes."""

    entropy: Callable[[int], bytes]
    now: Callable[[], datetime]

    def new(self) -> str:
        """Return a new code, of characters that need no escape in a URL."""
        return urlsafe_b64encode(self.entropy(_BYTES)).decode().rstrip("=")

    def end(self, life: timedelta) -> datetime:
        """Return when a code that is created now expires."""
        return self.now() + life


def digest(code: str) -> bytes:
    """Return what is stored of a code (32 bytes)."""
    return sha256(code.encode("utf-8", "surrogatepass")).digest()
