"""The use cases that the portal's endpoints call, in one value.

Who puts them together is `authz/portal_app.py`.
"""

from dataclasses import dataclass

from authz.core.policy.policy import Policy
from authz.service.portal.accounts import Accounts
from authz.service.portal.device import DeviceFlow
from authz.service.portal.login import Login
from authz.service.portal.minting import Minting
from authz.service.portal.owner_keys import OwnerKeys
from authz.service.portal.ports import NormaliseEmail, PortalObserver
from authz.service.portal.sessions import Sessions
from authz.service.portal.throttling import Gate
from authz.service.portal.verification import EmailVerification


@dataclass(frozen=True, slots=True)
class Services:
    """Use cases, and what the endpoints must know themselves. `public_url` is where people find the portal."""

    policy: Policy
    public_url: str
    normalise_email: NormaliseEmail
    gate: Gate
    accounts: Accounts
    login: Login
    verification: EmailVerification
    minting: Minting
    keys: OwnerKeys
    device: DeviceFlow
    sessions: Sessions
    observer: PortalObserver
