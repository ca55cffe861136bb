"""API keys as text: minting, the format check without I/O, the digest and the hint.

Ownership and validity are the store's; this module never keeps a secret.
"""

import re
from binascii import crc32
from dataclasses import dataclass, field
from hashlib import sha256
from math import log2

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
ENTROPY_BYTES = 32
DIGEST_BYTES = 32
_SECRET_CHARS = 43  # 62**43 > 2**256
_CHECKSUM_CHARS = 6  # 62**6 > 2**32
_UNCHECKED = slice(-_CHECKSUM_CHARS)
_PAIRS = [(high + low).encode() for high in ALPHABET for low in ALPHABET]
_PAIR_COUNT = len(_PAIRS)


@dataclass(frozen=True, slots=True)
class KeyFormat:
    """The format of one API's keys: `prefix` + 43 base62 characters of secret + 6 of CRC-32 over all that precedes."""

    prefix: str
    chars: int = field(init=False, compare=False)
    _head: bytes = field(init=False, repr=False, compare=False)
    _behind_head: slice = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Compute what every check compares with: the length of a key and its first bytes."""
        object.__setattr__(self, "_head", self.prefix.encode())
        object.__setattr__(self, "_behind_head", slice(len(self._head), None))
        object.__setattr__(self, "chars", len(self._head) + _SECRET_CHARS + _CHECKSUM_CHARS)

    @property
    def prefixes(self) -> tuple[str, ...]:
        """The prefixes of all keys: one."""
        return (self.prefix,)

    def form_of(self, text: str) -> "KeyFormat":
        """Return the format that a key or its hint has by its beginning: this one, because there is no other."""
        del text
        return self

    @property
    def pattern(self) -> str:
        """The regular expression for secret scanners; a match still has to pass the checksum."""
        return re.escape(self.prefix) + f"[0-9A-Za-z]{{{_SECRET_CHARS + _CHECKSUM_CHARS}}}"

    def mint(self, entropy: bytes) -> str:
        """Make a key from 32 random bytes."""
        if len(entropy) != ENTROPY_BYTES:
            raise ValueError(f"a key takes {ENTROPY_BYTES} bytes of entropy")
        unchecked = self.prefix + _base62(int.from_bytes(entropy), _SECRET_CHARS)
        return unchecked + _checksum(unchecked.encode()).decode()

    def is_well_formed(self, presented: bytes) -> bool:
        """Tell whether length, prefix, alphabet and checksum are right, without I/O."""
        return (
            len(presented) == self.chars
            and presented.startswith(self._head)
            and presented[self._behind_head].isalnum()  # of bytes, that is base62 and nothing else
            and presented.endswith(_checksum(presented[_UNCHECKED]))
        )

    def hint(self, key: str) -> str:
        """Shorten a key to what may be displayed: its prefix and last four characters."""
        return f"{self.prefix}…{key[-4:]}"


_FOREIGN_ALPHABETS = {
    "hex": "0123456789abcdefABCDEF",
    "base62": ALPHABET,
    "base64url": f"{ALPHABET}-_",
    "base64": f"{ALPHABET}+/=",
}


@dataclass(frozen=True, slots=True)
class ForeignFormat:
    """The format of keys that another system has made: `prefix`, then characters of an alphabet, and no checksum.

    `chars_min` and `chars_max` count the characters behind the prefix. `alphabet` is hex, base62, base64url or base64.
    """

    prefix: str
    chars_min: int
    chars_max: int
    alphabet: str

    def matches(self, presented: bytes) -> bool:
        """Tell whether a key has the format, without I/O; that it exists is for the store to say."""
        head = len(self.prefix)
        return (
            self.chars_min <= len(presented) - head <= self.chars_max
            and presented.startswith(self.prefix.encode())
            and not presented[head:].translate(None, _FOREIGN_ALPHABETS[self.alphabet].encode())
        )

    @property
    def pattern(self) -> str:
        """The regular expression for secret scanners; "" without a prefix, because it would match any long word."""
        if not self.prefix:
            return ""
        letters = re.escape(_FOREIGN_ALPHABETS[self.alphabet])
        return f"{re.escape(self.prefix)}[{letters}]{{{self.chars_min},{self.chars_max}}}"

    @property
    def entropy_bits(self) -> float:
        """The entropy of the shortest key, if its characters are random."""
        return self.chars_min * log2(min(len(_FOREIGN_ALPHABETS[self.alphabet]), 16 if self.alphabet == "hex" else 64))


@dataclass(frozen=True, slots=True)
class KeyFormats:
    """The formats of an API whose keys have several prefixes. New keys have the first one unless another is chosen."""

    formats: tuple[KeyFormat, ...]

    @property
    def prefix(self) -> str:
        """The prefix of new keys."""
        return self.formats[0].prefix

    @property
    def prefixes(self) -> tuple[str, ...]:
        """The prefixes of all keys."""
        return tuple(it.prefix for it in self.formats)

    @property
    def chars(self) -> int:
        """The length of new keys."""
        return self.formats[0].chars

    @property
    def pattern(self) -> str:
        """The regular expression for secret scanners."""
        return "|".join(f"(?:{it.pattern})" for it in self.formats)

    def mint(self, entropy: bytes) -> str:
        """Make a key from 32 random bytes."""
        return self.formats[0].mint(entropy)

    def is_well_formed(self, presented: bytes) -> bool:
        """Tell whether a key has one of the formats."""
        return any(it.is_well_formed(presented) for it in self.formats)

    def hint(self, key: str) -> str:
        """Shorten a key to what may be displayed."""
        return self.form_of(key).hint(key)

    def form_of(self, text: str) -> KeyFormat:
        """Return the format that a key or its hint has by its beginning; the first where none fits."""
        # A secret has no underscore, so at most the longest prefix that fits is the right one.
        fitting = [it for it in self.formats if text.startswith(it.prefix)]
        return max(fitting, key=lambda it: len(it.prefix), default=self.formats[0])


def digest(presented: bytes) -> bytes:
    """Return the SHA-256 of a key (32 bytes), which is stored and looked up instead of the key.

    A plain hash is enough, because a secret of 256 random bits cannot be guessed.
    """
    return sha256(presented).digest()


def _checksum(unchecked: bytes) -> bytes:
    # Two digits at a time: this runs for every request that carries a key.
    number = crc32(unchecked)
    upper = number // _PAIR_COUNT
    return _PAIRS[upper // _PAIR_COUNT] + _PAIRS[upper % _PAIR_COUNT] + _PAIRS[number % _PAIR_COUNT]


def _base62(number: int, chars: int) -> str:
    digits = []
    for _ in range(chars):
        number, remainder = divmod(number, 62)
        digits.append(ALPHABET[remainder])
    return "".join(reversed(digits))
