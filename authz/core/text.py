"""Limits for text from clients: checked before any work on it that grows faster than its length.

Normalisation itself is done where the meaning of the text is known: passwords in `owners.py`, addresses in an adapter.
"""

from unicodedata import combining, decomposition

NONSTARTERS_MAX = 30
"""The longest run of combining characters in the Stream-Safe Text Format (Unicode UAX #15)."""


def is_bounded(text: str, bytes_max: int) -> bool:
    """Return whether a text has at most `bytes_max` bytes of UTF-8 and can be normalised in linear time.

    Normalisation sorts each run of combining characters, in quadratic time. The check itself is linear.
    """
    if len(text) > bytes_max:
        return False
    if text.isascii():
        return True
    return len(text.encode("utf-8", "surrogatepass")) <= bytes_max and _is_stream_safe(text)


def _is_stream_safe(text: str) -> bool:
    run = 0
    for char in text:
        run = run + 1 if _is_nonstarter(char) else 0
        if run > NONSTARTERS_MAX:
            return False
    return True


def _is_nonstarter(char: str) -> bool:
    if char.isascii():
        return False
    if combining(char):
        return True
    # Some characters without a combining class decompose into combining ones: U+0F73, halfwidth U+FF9E.
    codes = [part for part in decomposition(char).split() if not part.startswith("<")]
    return bool(codes) and combining(chr(int(codes[0], 16))) != 0
