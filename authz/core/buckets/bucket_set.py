"""The limits of all buckets of one check, and which of them is shown.

Which limits apply to a key is `core/limits.py`.
"""

from authz.core.check import Bucket, BucketLimits, Quotas
from authz.core.limits import ACCOUNT_ITEM, KEY_ITEM, Limit, NamedLimit
from authz.core.value import Value


class BucketSet(Value):
    """The limits of all buckets of a check: those of the key and its row, the first one first, then the account's."""

    items: tuple[NamedLimit, ...]
    account: Limit | None

    @property
    def listed(self) -> tuple[NamedLimit, ...]:
        """Every limit in its order."""
        return self.items if self.account is None else (*self.items, NamedLimit(ACCOUNT_ITEM, self.account))

    def bucket(self, index: int, remaining: float) -> Bucket:
        """Return the bucket to show; raises IndexError."""
        return Bucket(self.shown(index), remaining)

    def shown(self, index: int) -> BucketLimits:
        """Return what is shown if that is the bucket with this index; raises IndexError."""
        listed, account = self.listed, self.account
        shown = listed[index]
        is_usual = len(self.items) == 1 and self.items[0].name == KEY_ITEM
        quotas = None if is_usual else Quotas(listed, shown.name)
        if index == len(self.items):
            return BucketLimits(shown.limit, self.items[0].limit, is_account=True, quotas=quotas)
        return BucketLimits(shown.limit, account, quotas=quotas)
