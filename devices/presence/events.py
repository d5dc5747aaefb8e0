"""Record the broker's events of connections: presence, use of credentials, audit log.

The broker vouches for the account, which is in the subject, and for the name, which the account's
own key has signed. A name alone is never enough: the device must be one of the tenant's.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import transaction

from devices.enrolment import refused_logins
from devices.models import Device, Reporter
from devices.presence import sessions
from devices.presence.sessions import Session
from natsbridge.errors import MalformedMessage
from natsbridge.identity.usernames import tenant_username
from natsbridge.protocol import broker_events
from natsbridge.protocol.broker_events import (
    ACCOUNT_FULL,
    TENANT_SUSPENDED,
    BrokerConnection,
    BrokerUser,
)
from natsbridge.protocol.envelope import RawMessage
from natsbridge.registry import Rejection
from tenants.audit.coalescing import CoalescedEvents, Connecting, others_of
from tenants.audit.writer import Actor, AuditEvent, device_actor
from tenants.credentials.use import JwtUse, record_jwt_uses
from tenants.models import Action, ActorKind, AuditEntry, BrokerAccount, BrokerKey, Tenant

# Shared in this process by the presence consumer and the periodic job `refused logins`.
connection_events = CoalescedEvents(others=others_of)

# How far the server's clock may be behind ours.
_CLOCKS_DIFFER = timedelta(seconds=5)
# The platform's own users, which connect for each piece of work; the audit log leaves them out.
_OWN_USERS = ("subscriber", "provisioner", "callout", "sentinel")


@dataclass(frozen=True)
class Tenancy:
    """The tenants of accounts, the names of the devices that they really have, the auth callout's
    account, and since when tenants are suspended."""

    tenants: dict[str, UUID]
    devices: dict[tuple[UUID, UUID], str]
    callout: str | None = None
    suspended: dict[UUID, datetime] = field(default_factory=dict)

    def tenant(self, user: BrokerUser) -> UUID | None:
        return self.tenants.get(user.account)

    def device(self, user: BrokerUser) -> UUID | None:
        """Return the device that the user names, if it belongs to the user's tenant."""
        named = _uuid(user.name)
        tenant = self.tenant(user)
        return named if named and tenant and (tenant, named) in self.devices else None

    def explained(self, event: BrokerConnection) -> BrokerConnection:
        """Return the event with its real reason: the server calls a suspended account full,
        since it allows no connections."""
        if event.reason == ACCOUNT_FULL and event.stopped_at:
            tenant = self.tenant(event.user)
            since = self.suspended.get(tenant) if tenant else None
            if since and since - _CLOCKS_DIFFER < event.stopped_at:
                return event._replace(reason=TENANT_SUSPENDED)
        return event


def record_events(messages: Sequence[RawMessage]) -> list[Rejection]:
    """Record a batch of connections that began or ended, each once however often it is delivered.
    Count refused logins."""
    rejected: list[Rejection] = []
    events: list[tuple[RawMessage, BrokerConnection]] = []
    for message in messages:
        try:
            event = broker_events.read_event(message.subject, message.data)
        except MalformedMessage as error:
            # Unauthenticated connections must not fill the dead-letter queue.
            if not broker_events.is_unauthenticated(message.subject):
                rejected.append(Rejection(message, error.reason, str(error)))
        else:
            if not event.never_logged_in:
                events.append((message, event))
    tenancy = tenancy_of(event.user for _, event in events)
    events = [(message, tenancy.explained(event)) for message, event in events]
    refused = [event for _, event in events if event.is_refused(tenancy.callout)]
    came_or_went = [pair for pair in events if not pair[1].is_refused(tenancy.callout)]
    with transaction.atomic():
        found = device_sessions((event for _, event in came_or_went), tenancy)
        sessions.record(found, by=Reporter.CONNECT)
        count_connections = connection_events.stage(_news(came_or_went, tenancy))
        record_jwt_uses([use for _, event in came_or_went if (use := _use(event, tenancy))])
        # The auth callout has recorded those in its own account.
        told = [event for event in refused if event.user.account != tenancy.callout]
        count_refusals = refused_logins.stage(told, tenancy.tenants)
    # Only after the commit, since a batch that is rolled back comes again.
    count_connections()
    count_refusals()
    return rejected


def tenancy_of(users: Iterable[BrokerUser]) -> Tenancy:
    named = {(user.account, _uuid(user.name)) for user in users}
    tenants = dict(
        BrokerAccount.objects.filter(public_key__in={account for account, _ in named}).values_list(
            "public_key", "tenant"
        )
    )
    rows = Device.objects.filter(
        pk__in={device for _, device in named if device}, tenant__in=tenants.values()
    )
    devices = {(tenant, pk): name for tenant, pk, name in rows.values_list("tenant", "pk", "name")}
    suspended = Tenant.objects.filter(pk__in=tenants.values(), suspended_at__isnull=False)
    callout = BrokerKey.objects.filter(purpose=BrokerKey.Purpose.CALLOUT, retires_at=None)
    return Tenancy(
        tenants,
        devices,
        callout.values_list("public_key", flat=True).first(),
        {row.pk: row.suspended_at for row in suspended if row.suspended_at},
    )


def device_sessions(connections: Iterable[BrokerConnection], tenancy: Tenancy) -> list[Session]:
    return [
        Session(
            each.server,
            each.client,
            device,
            each.address,
            each.started_at,
            each.stopped_at,
            each.reason,
        )
        for each in connections
        if (device := tenancy.device(each.user))
    ]


def _news(
    events: Iterable[tuple[RawMessage, BrokerConnection]], tenancy: Tenancy
) -> list[tuple[Connecting, AuditEvent]]:
    news: list[tuple[Connecting, AuditEvent]] = []
    for message, event in events:
        entry = _entry(event, tenancy)
        if entry and not (message.deliveries > 1 and _is_recorded(entry)):
            holder = entry.detail.get("credential") or entry.detail.get("user", "")
            kind = Connecting(
                entry.action, entry.tenant, entry.actor.name, entry.address, str(holder)
            )
            news.append((kind, entry))
    return news


def _entry(event: BrokerConnection, tenancy: Tenancy) -> AuditEvent | None:
    """Return the event for the audit log, or None for the platform's own users."""
    user, tenant = event.user, tenancy.tenant(event.user)
    if user.account == tenancy.callout:
        return None
    if tenant and not user.public and not event.stopped_at:
        # The auth callout admitted it, and has recorded it with its credential.
        return None
    named, known = _uuid(user.name), tenancy.device(user)
    if tenant and named:
        actor = device_actor(named)
        name = tenancy.devices.get((tenant, named))
        target = f"device {name}" if known else "a device that the tenant has not"
    elif tenant and user.name == tenant_username(tenant):
        actor, target = Actor(ActorKind.CREDENTIAL, user.name), "the tenant's credential"
    elif user.name in _OWN_USERS:
        return None
    else:
        actor, target = Actor(ActorKind.UNKNOWN, user.name or user.public), ""
    detail: dict[str, Any] = {"server": event.server, "connection": event.client}
    if event.reason:
        detail["reason"] = event.reason
    if tag := next((tag for tag in user.tags if tag.startswith("credential:")), None):
        detail["credential"] = tag.removeprefix("credential:")
    if user.public:
        detail["user"] = user.public
    return AuditEvent(
        Action.BROKER_DISCONNECTED if event.stopped_at else Action.BROKER_LOGIN,
        tenant,
        actor,
        device=named if tenant else None,
        target=target,
        address=event.address,
        via="broker",
        at=event.stopped_at or event.started_at,
        detail=detail,
    )


def _is_recorded(entry: AuditEvent) -> bool:
    """Return whether the audit log has the event; only asked if it was delivered before."""
    return AuditEntry.objects.filter(
        at__in=[entry.at],
        action=entry.action,
        detail__server=entry.detail["server"],
        detail__connection=entry.detail["connection"],
    ).exists()


def _use(event: BrokerConnection, tenancy: Tenancy) -> JwtUse | None:
    user = event.user
    if event.stopped_at or not user.public or user.issued_at is None or not tenancy.tenant(user):
        return None
    return JwtUse(user.public, user.issued_at, event.started_at)


def _uuid(name: str) -> UUID | None:
    """Return the UUID of a device's user name; only devices have a bare UUID as their name."""
    try:
        value = UUID(name)
    except ValueError:
        return None
    return value if str(value) == name else None
