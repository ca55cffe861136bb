"""The use cases that the portal's endpoints call, in one value.

Who puts them together is `authz/portal_app.py`.
"""

from dataclasses import dataclass

from authz.core.policy import Policy
from authz.service.accounts import Accounts
from authz.service.device import DeviceFlow
from authz.service.login import Login
from authz.service.minting import Minting
from authz.service.owner_keys import OwnerKeys
from authz.service.portal_ports import NormaliseEmail, PortalObserver
from authz.service.sessions import Sessions
from authz.service.throttling import Gate
from authz.service.verification import EmailVerification


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
