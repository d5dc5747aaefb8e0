"""Record logins that the server itself refused, for the tenant whose credential was presented.

The server only says "Authentication Failure", so the cause is looked up here. The JWT may have been
presented by somebody who does not hold its key. The auth callout records refused passwords; but a
login with the right password may find its tenant's account full.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple
from uuid import UUID

from devices.models import Device
from natsbridge.identity.usernames import parse_username, username_of
from natsbridge.protocol.broker_events import BrokerConnection, Offer
from natsbridge.protocol.subjects import UNAUTHENTICATED
from tenants.callout.refusals import RefusedLogins
from tenants.callout.rules import Refusal
from tenants.models import BrokerKey, Credential

# Shared in this process by the presence consumer and the periodic job `refused logins`.
book = RefusedLogins()


class Owner(NamedTuple):
    """The owner of a JWT; `device` is None for the tenant's own."""

    tenant: UUID
    device: UUID | None = None

    @property
    def username(self) -> str:
        return username_of(self.tenant, self.device)


def stage(events: Sequence[BrokerConnection], tenants: Mapping[str, UUID]) -> Callable[[], None]:
    """Record refused logins in the caller's transaction; see `RefusedLogins.stage`. `tenants` are
    the owners of the accounts that the server has named."""
    if not events:
        return book.stage([])
    presented = [event.offer for event in events if event.offer]
    issuers = dict(
        BrokerKey.objects.exclude(tenant=None)
        .filter(public_key__in={offer.issuer for offer in presented})
        .values_list("public_key", "tenant")
    )
    issued: dict[str, list[Credential]] = defaultdict(list)
    for row in Credential.objects.filter(public_key__in={offer.public for offer in presented}):
        issued[row.public_key].append(row)
    theirs = _named(presented, issuers)
    return book.stage([_refusal(event, tenants, issuers, issued, theirs) for event in events])


def _named(presented: Iterable[Offer], issuers: Mapping[str, UUID]) -> set[tuple[UUID, UUID]]:
    """Return the tenant and UUID of each device that one of our own JWTs names."""
    names = {uuid for offer in presented if offer.issuer in issuers and (uuid := _uuid(offer.name))}
    rows = Device.objects.filter(pk__in=names, tenant__in=set(issuers.values()))
    return set(rows.values_list("tenant", "pk"))


def _refusal(
    event: BrokerConnection,
    tenants: Mapping[str, UUID],
    issuers: Mapping[str, UUID],
    issued: Mapping[str, list[Credential]],
    theirs: set[tuple[UUID, UUID]],
) -> Refusal:
    offer = event.offer
    if offer is None:
        return _without_jwt(event, tenants.get(event.user.account))
    rows, signer = issued.get(offer.public, []), issuers.get(offer.issuer)
    if rows:
        owner = Owner(rows[0].tenant_id, rows[0].device_uuid)
    elif signer:
        # Its row is gone: the device was deleted, or a backup of the database was restored.
        device = _uuid(offer.name)
        owner = Owner(signer, device if (signer, device) in theirs else None)
    else:
        return Refusal("unknown JWT", event.reason, event.address)
    # The server checks an account's limit only once it knows the user.
    proven = (
        event.user.account != UNAUTHENTICATED and tenants.get(event.user.account) == owner.tenant
    )
    reason = event.reason if proven else _cause(offer, owner, rows, signer) or event.reason
    return Refusal(owner.username, reason, event.address, owner.tenant, owner.device, proven=proven)


def _without_jwt(event: BrokerConnection, tenant: UUID | None) -> Refusal:
    named = parse_username(event.user.name)
    if tenant is None or named is None:
        return Refusal("anonymous", event.reason, event.address)
    owner = Owner(tenant, named.device)
    return Refusal(owner.username, event.reason, event.address, tenant, owner.device, proven=True)


def _cause(offer: Offer, owner: Owner, rows: Iterable[Credential], signer: UUID | None) -> str:
    """Return the likely cause of the refusal, or an empty text."""
    void = [row for row in rows if row.ended_at and row.issued_at.timestamp() >= offer.issued_at]
    if signer != owner.tenant:
        return "the JWT is not signed by a key of the tenant"
    if void:
        return "the JWT has been revoked or has ended"
    if offer.expires_at is not None and offer.expires_at <= time.time():
        return "the JWT has expired"
    return ""


def _uuid(name: str) -> UUID | None:
    try:
        return UUID(name)
    except ValueError:
        return None
