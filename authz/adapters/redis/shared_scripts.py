"""Which checks share a script of Redis, and the command for them (`lua/check_many.lua`).

Checks with equal arguments are a group, which has them once. Where keys have limits or revisions of their own, nearly
every check is alone in its group.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import chain, islice
from typing import TypeAlias

from authz.adapters.redis.records import CHECK_MANY, encoded_words

MANY_MAX = 64
"""How many checks share a script: Redis answers nobody else meanwhile, and more would save nothing."""

Arguments: TypeAlias = tuple[bytes, bytes]
"""The encoded arguments of a check, that of the key and that of the account."""

_HEAD = b"*%%d\r\n$7\r\nEVALSHA\r\n$40\r\n%b\r\n" % CHECK_MANY.sha.encode()
_COUNTS = [encoded_words(b"%d" % count) for count in range(MANY_MAX + 1)]


def divided(
    once: dict[Arguments, int], again: Mapping[Arguments, list[int]]
) -> Iterator[tuple[list[int], list[bytes]]]:
    """Divide checks into scripts of at most `MANY_MAX`; yield their indices, and their arguments (check_many.lua).

    `once` has the first check with its arguments, which are removed if there are more, and `again` those further ones.
    """
    indices: list[int] = []
    words: list[bytes] = []
    for arguments, others in again.items():
        same = [once.pop(arguments), *others]
        for start in range(0, len(same), MANY_MAX):
            part = same[start : start + MANY_MAX]
            if len(indices) + len(part) > MANY_MAX:
                yield indices, [_COUNTS[len(words) // 3], *words]
                indices, words = [], []
            indices += part
            words += (*arguments, _COUNTS[len(part)])
    several = len(words) // 3
    arguments_of, first_of = iter(once), iter(once.values())
    while True:
        room = MANY_MAX - len(indices)
        indices += islice(first_of, room)
        if not indices:
            return
        words += chain.from_iterable(islice(arguments_of, room))
        yield indices, [_COUNTS[several], *words]
        indices, words, several = [], [], 0


def command(keys: Sequence[bytes], arguments: Sequence[bytes]) -> bytes:
    """Encode the command for several checks from their encoded keys, in pairs, and arguments."""
    return b"".join((_head(len(keys), len(arguments)), *keys, *arguments))


@cache
def _head(checks: int, arguments: int) -> bytes:
    return _HEAD % (3 + 2 * checks + arguments) + encoded_words(b"%d" % (2 * checks))
