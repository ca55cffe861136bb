"""Published test vectors of rate limiters, which every bucket of ours must satisfy."""

from authz.core.limits import Limit

FIVE = Limit(capacity=5, refill_per_s=1)

# (time in s, tokens asked for, tokens left, refused): as throttled and redis-cell publish them for five at once, one a
# second.
VECTORS = [
    (0, 6, 5, True),
    (0, 1, 4, False),
    (0, 1, 3, False),
    (0, 1, 2, False),
    (0, 1, 1, False),
    (0, 1, 0, False),
    (0, 1, 0, True),
    (3.0, 1, 2, False),
    (3.1, 1, 1, False),
    (4.0, 1, 1, False),
    (8.0, 1, 4, False),
    (9.5, 1, 4, False),
    (9.5, 0, 4, False),
    (9.5, 2, 2, False),
    (9.5, 5, 2, True),
    (15, 6, 5, True),
]
