"""Models of how web frameworks read parameters, written from their public documentation and observable behaviour.

Each reader returns every value that a handler may get for `account_id` or `accountId`. Where versions or settings of a
framework differ, a model returns the values of all of them. The models share no code with `authz`.
"""

from support.readers.frameworks import READERS, Reader

__all__ = ["READERS", "Reader"]
