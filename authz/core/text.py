"""Limits for text from clients: its size, before work that grows faster than its length, and what is shown or logged.

Normalisation itself is done where the meaning of the text is known: passwords in `owners.py`, addresses in an adapter.
"""

import re
from unicodedata import category, combining, decomposition

NONSTARTERS_MAX = 30
"""The longest run of combining characters in the Stream-Safe Text Format (Unicode UAX #15)."""

HIDDEN_KEY = "[api key]"
"""What a log has instead of a text that may hold an API key."""

CONTROL = re.compile(r"[\x00-\x1f\x7f]")
"""A control character of ASCII."""

_KEY_CHARS = 49  # of the secret and the checksum
_LONG_WORD = re.compile(rf"[0-~]{{{_KEY_CHARS}}}")
# Characters that Unicode calls letters or symbols, and that no font shows.
_BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0\U00013441\U00013442\U0001d159")
_JOINERS = frozenset("\u200c\u200d")
_FLAG, _TAGS = "\U0001f3f4", range(0xE0020, 0xE0080)


def is_bounded(text: str, bytes_max: int) -> bool:
    """Return whether a text has at most `bytes_max` bytes of UTF-8 and can be normalised in linear time.

    Normalisation sorts each run of combining characters, in quadratic time. The check itself is linear.
    """
    if len(text) > bytes_max:
        return False
    if text.isascii():
        return True
    return len(text.encode("utf-8", "surrogatepass")) <= bytes_max and _is_stream_safe(text)


def is_visible(text: str) -> bool:
    """Return whether people see each character of a text: not empty, no control, blank or formatting characters.

    Joiners between visible characters and the tags of flags are allowed, because emoji and some scripts need them.
    """
    if not any(category(char)[0] in "LNPS" and char not in _BLANK for char in text):
        return False
    return all(_is_shown(text, index) for index in range(len(text)))


def is_shown_alone(char: str) -> bool:
    """Return whether a terminal shows a character: no control, blank or formatting character, and no joiner."""
    return char.isprintable() and char not in _BLANK


def ascii_only(text: str) -> str:
    """Return a text with each control character and each character outside ASCII escaped."""
    return "".join(char if " " <= char <= "~" else ascii(char)[1:-1] for char in text)


def _is_shown(text: str, index: int) -> bool:
    char = text[index]
    if char in _JOINERS:
        return 0 < index < len(text) - 1 and text[index - 1] not in _JOINERS and not text[index - 1].isspace()
    if ord(char) in _TAGS:
        return _FLAG in text[:index]
    return is_shown_alone(char)


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


def without_key(text: str) -> str:
    """Return a text of a caller as it may be logged; one that can hold an API key in any spelling is replaced.

    A key has a word of 49 characters, or more where some are percent-encoded, whatever its prefix and the case of its
    letters. Envoy's access log (`envoy.yaml`) has the same rule.
    """
    is_encoded = "%" in text and len(text) > _KEY_CHARS
    return HIDDEN_KEY if is_encoded or _LONG_WORD.search(text) else text
