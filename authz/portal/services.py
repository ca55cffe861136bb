"""The use cases that the endpoints of the portal call, in one value.

`authz/portal_app.py` composes them.
"""

from dataclasses import dataclass

from authz.core.policy.policy import Policy
from authz.service.portal.accounts import Accounts
from authz.service.portal.device import DeviceFlow
from authz.service.portal.email_change import EmailChanges
from authz.service.portal.login import Login
from authz.service.portal.minting import Minting
from authz.service.portal.notices import Notices
from authz.service.portal.outgoing import OutgoingMail
from authz.service.portal.owner_keys import OwnerKeys
from authz.service.portal.password_reset import PasswordReset
from authz.service.portal.ports import PortalObserver
from authz.service.portal.sessions import Sessions
from authz.service.portal.throttling import Gate
from authz.service.portal.verification import EmailVerification


@dataclass(frozen=True, slots=True)
class Services:
    """Use cases and the facts that endpoints need. `public_url` is the public origin of the portal."""

    policy: Policy
    public_url: str
    gate: Gate
    accounts: Accounts
    login: Login
    outgoing: OutgoingMail
    notices: Notices
    password_reset: PasswordReset
    email_changes: EmailChanges
    verification: EmailVerification
    minting: Minting
    keys: OwnerKeys
    device: DeviceFlow
    sessions: Sessions
    observer: PortalObserver
