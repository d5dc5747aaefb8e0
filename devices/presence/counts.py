"""Count devices by what is known of their connections, in one query for any number of them."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from django.db.models import Count, Max, Q, QuerySet
from django.db.models.functions import Greatest
from django.utils import timezone

from devices.models import BrokerSession, Device
from devices.models.device import named_status
from devices.presence.coverage import current_cutoffs
from devices.presence.rules import Status
from tenants.models import Tenant

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


class Counted(NamedTuple):
    """How many devices of one tenant, connection type and status there are, how many of them sent
    their last heartbeat within a minute and an hour, and when one was last heard."""

    tenant: UUID
    connection_type: str
    status: Status
    devices: int
    last_minute: int
    last_hour: int
    heard_at: datetime | None


@dataclass(frozen=True)
class DeviceCounts:
    """Counts of devices. Those of a part are again counts."""

    rows: tuple[Counted, ...]

    @property
    def by_tenant(self) -> Mapping[UUID, "DeviceCounts"]:
        """Return the counts of each tenant, also of one without devices."""
        found: dict[UUID, list[Counted]] = {}
        for row in self.rows:
            found.setdefault(row.tenant, []).append(row)
        counts = {tenant: DeviceCounts(tuple(rows)) for tenant, rows in found.items()}
        return defaultdict(lambda: DeviceCounts(()), counts)

    def of_type(self, connection_type: str) -> "DeviceCounts":
        rows = (row for row in self.rows if row.connection_type == connection_type)
        return DeviceCounts(tuple(rows))

    @property
    def by_type(self) -> dict[str, "DeviceCounts"]:
        """Return the counts of each connection type; `unknown` is that of devices never heard."""
        types = sorted({row.connection_type for row in self.rows})
        return {each or "unknown": self.of_type(each) for each in types}

    @property
    def nats(self) -> "DeviceCounts":
        return self.of_type("nats")

    @property
    def node_red(self) -> "DeviceCounts":
        return self.of_type("node-red")

    @property
    def total(self) -> int:
        return sum(row.devices for row in self.rows)

    @property
    def online(self) -> int:
        return self._having(Status.ONLINE)

    @property
    def stale(self) -> int:
        return self._having(Status.STALE)

    @property
    def offline(self) -> int:
        return self._having(Status.OFFLINE)

    @property
    def unknown(self) -> int:
        return self._having(Status.UNKNOWN)

    @property
    def heartbeats_last_minute(self) -> int:
        return sum(row.last_minute for row in self.rows)

    @property
    def heartbeats_last_hour(self) -> int:
        return sum(row.last_hour for row in self.rows)

    @property
    def last_activity(self) -> datetime | None:
        return max((row.heard_at for row in self.rows if row.heard_at), default=None)

    def _having(self, status: Status) -> int:
        return sum(row.devices for row in self.rows if row.status is status)


def count_devices(tenants: QuerySet[Tenant]) -> DeviceCounts:
    """Count the devices of these tenants that are not archived."""
    now = timezone.now()
    # Postgres leaves nulls out of GREATEST.
    heard_at = Greatest("connectivity__last_seen_online", "connectivity__http_heartbeat_at")
    rows = (
        Device.objects.in_fleet()
        .filter(tenant__in=tenants.order_by())
        .order_by()
        .values_list("tenant", "connectivity__connection_type", named_status(current_cutoffs()))
        .annotate(
            counted=Count("pk"),
            last_minute=Count("pk", filter=_heartbeat_since(now - MINUTE)),
            last_hour=Count("pk", filter=_heartbeat_since(now - HOUR)),
            heard_at=Max(heard_at),
        )
    )
    return DeviceCounts(
        tuple(
            Counted(tenant, kind or "", Status(status), *counts)
            for tenant, kind, status, *counts in rows
        )
    )


def _heartbeat_since(moment: datetime) -> Q:
    over_nats = Q(connectivity__last_heartbeat__gte=moment)
    return over_nats | Q(connectivity__http_heartbeat_at__gte=moment)


class OpenConnections(NamedTuple):
    """How many connections to the broker devices have open, and how many devices have one."""

    connections: int
    devices: int


def open_connections() -> OpenConnections:
    found = BrokerSession.objects.filter(ended_at=None).aggregate(
        connections=Count("pk"), devices=Count("device", distinct=True)
    )
    return OpenConnections(**found)
