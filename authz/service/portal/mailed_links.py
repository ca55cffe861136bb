"""What the use cases behind mailed links share: `password_reset.py` and `email_change.py`.

The link of a signup is `verification.py`: it needs no throttle and no notice.
"""

from dataclasses import dataclass

from authz.service.portal.accounts import Accounts
from authz.service.portal.codes import Codes
from authz.service.portal.notices import Notices
from authz.service.portal.outgoing import OutgoingMail
from authz.service.portal.ports import LinkLedger
from authz.service.portal.throttling import Gate


@dataclass(frozen=True, slots=True)
class MailedLinks:
    """The dependencies: `ledger` stores the digests of codes, `codes` creates them, `outgoing` sends them."""

    ledger: LinkLedger
    accounts: Accounts
    gate: Gate
    outgoing: OutgoingMail
    notices: Notices
    codes: Codes
