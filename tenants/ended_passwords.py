"""Whose connections are to be ended since a password of theirs has: no revocation does that, as
each login by password has a key of its own."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.db.models import Max
from django.utils import timezone

from natsbridge.accounts import ClientConnection
from tenants.models import Action, AuditEntry, Credential

# Of a password that ended longer ago no connection is left.
ENDED_WITHIN = timedelta(days=1)
# The broker's clock may be behind ours.
CLOCKS_APART = timedelta(seconds=2)
LOGINS_LOOKED_AT = 2_000


@dataclass(frozen=True)
class EndedPasswords:
    """The broker does not say by which password a connection logged in. So all of the user's that
    began before the password ended go, but for those that are known to be another one's: who is
    ended with no need comes back by itself, and is not ended again."""

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
        str(device) if device else f"tenant_{tenant}": at
        for device, at in ended.annotate(Max("ended_at"))
    }
    if not by_user:
        return EndedPasswords({}, frozenset())
    live = set(rows.live().values_list("pk", flat=True))
    logins = AuditEntry.objects.filter(tenant_uuid=tenant).order_by("-id")[:LOGINS_LOOKED_AT]
    details = [entry.detail for entry in logins if entry.action == Action.BROKER_LOGIN]
    spared = {
        (each["server"], each["client"])
        for each in details
        if each.get("credential") in live and "client" in each
    }
    return EndedPasswords(by_user, frozenset(spared))
