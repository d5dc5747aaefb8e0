"""Find the connections of passwords that have ended.

No revocation ends them, since each login by password has a key of its own.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.db.models import Max, Q
from django.utils import timezone

from natsbridge.client.system_account import ClientConnection
from natsbridge.identity.usernames import tenant_username
from tenants.models import Action, AuditEntry, Credential

# No connection is left of a password that ended before that.
ENDED_WITHIN = timedelta(days=1)
# The broker's clock may be behind ours.
CLOCKS_APART = timedelta(seconds=2)
LOGINS_LOOKED_AT = 20_000


@dataclass(frozen=True)
class EndedPasswords:
    """Which connections to end.

    The broker does not say by which password a connection logged in. So every connection of the
    user that began before the password ended goes, except for those known to belong to another
    password. One that is ended in error comes back by itself, and is not ended again.
    """

    by_user: dict[str, datetime]
    # By server and number.
    spared: frozenset[tuple[str, int]]

    def ends(self, connection: ClientConnection) -> bool:
        ended_at = self.by_user.get(connection.user)
        if ended_at is None or (connection.server_id, connection.number) in self.spared:
            return False
        return connection.started_at < ended_at + CLOCKS_APART


def ended_passwords(tenant: UUID) -> EndedPasswords:
    rows = Credential.objects.filter(tenant=tenant, kind=Credential.Kind.PASSWORD).order_by()
    ended = rows.filter(ended_at__gte=timezone.now() - ENDED_WITHIN).values_list("device_uuid")
    by_user = {
        str(device) if device else tenant_username(tenant): at
        for device, at in ended.annotate(Max("ended_at"))
    }
    if not by_user:
        return EndedPasswords({}, frozenset())
    live = rows.live().filter(_of(by_user, tenant)).values_list("pk", "issued_at")
    return EndedPasswords(by_user, _connections_of(tenant, dict(live)))


def _of(users: Iterable[str], tenant: UUID) -> Q:
    """Select the credentials of these users."""
    own = tenant_username(tenant)
    of_devices = Q(device_uuid__in=[user for user in users if user != own])
    return of_devices | Q(device_uuid=None) if own in users else of_devices


def _connections_of(tenant: UUID, live: dict[int, datetime]) -> frozenset[tuple[str, int]]:
    """Return by server and number the newest connections that logged in by these passwords."""
    if not live:
        return frozenset()
    logins = AuditEntry.objects.filter(
        tenant_uuid=tenant,
        action=Action.BROKER_LOGIN,
        at__gte=min(live.values()),
        detail__credential__in=list(live),
        detail__has_keys=["server", "client"],
    )
    found = logins.order_by("-id").values_list("detail__server", "detail__client")
    return frozenset(found[:LOGINS_LOOKED_AT])
