from datetime import datetime
from typing import Self

from django.db import models
from django.db.models import Exists, F, OuterRef, Q
from django.utils import timezone

from devices.models.device import Device
from devices.models.fields import WrittenJSONField
from devices.presence.rules import Known, Presence, Reporter
from tenants.models import TenantOwnedQuerySet

PRESENCES = [(each.value, each.value.capitalize()) for each in Presence]
REPORTERS = [(each.value, each.spelt_out) for each in Reporter]


class ConnectivityQuerySet(TenantOwnedQuerySet["Connectivity"]):
    tenant_path = "device__tenant"

    def giving_receipts(self) -> Self:
        """Return those whose agent gives receipts over the connection that it has now.

        A heartbeat claims receipts for the connection it came over, which it does not name. So the
        claim is uncertain once another connection has begun, if two were open when it came, or if
        a heartbeat that does not mention receipts came after the claimant's connection had ended.
        """
        claimed_at = OuterRef("capabilities_at")
        connections = BrokerSession.objects.filter(device=OuterRef("device"))
        begun_since = connections.filter(started_at__gt=claimed_at)
        open_then = connections.filter(
            Q(ended_at=None) | Q(ended_at__gt=claimed_at), started_at__lte=claimed_at
        )
        # When an unannounced end happened is not known; it was before it was noticed.
        doubtful = open_then.exclude(end_reason__in=BrokerSession.UNANNOUNCED)[1:2]
        spoke_last = open_then.filter(
            Q(ended_at=None) | Q(ended_at__gte=OuterRef("last_heartbeat"))
        )
        return self.filter(
            ~Exists(begun_since),
            ~Exists(doubtful),
            Q(last_heartbeat=None)
            | Q(last_heartbeat__lte=F("capabilities_at"))
            | Exists(spoke_last),
            capabilities__receipts=True,
            capabilities_at__isnull=False,
        )

    def that_may_claim_receipts_again(self, *, since: datetime) -> Self:
        """Return those that gave receipts before, and whose connection is so new that its first
        heartbeat may still be on its way."""
        young = BrokerSession.objects.filter(device=OuterRef("device"), started_at__gte=since)
        return self.filter(Exists(young), capabilities__receipts=True)


class Connectivity(models.Model):
    """The last value of each part of a device's heartbeats, and its presence.

    It is written once a minute for each device. So it is apart from Device, has room on each page
    (fillfactor 70), and no index on a column that heartbeats write.
    """

    device = models.OneToOneField(
        Device, primary_key=True, on_delete=models.CASCADE, related_name="connectivity"
    )
    connection_type = models.CharField(max_length=20, default="nats")
    # Times are the server's: when the broker stored the message.
    last_heartbeat = models.DateTimeField(null=True)
    last_seen_online = models.DateTimeField(null=True)
    # The last heartbeat over HTTP, by the server's clock. It is apart from those above, which
    # decide presence, the order of heartbeats over NATS, and which commands are delivered.
    http_heartbeat_at = models.DateTimeField(null=True)
    agent_version = models.CharField(max_length=64, blank=True)
    session_id = models.CharField(max_length=128, blank=True)
    # The body's `system_info` and `status`, as the agent sent them.
    connection_info = WrittenJSONField(default=dict)
    capabilities = models.JSONField(default=dict)
    # When the heartbeat came that named them; others leave them as they are.
    capabilities_at = models.DateTimeField(null=True)
    # The device's clock minus the server's.
    clock_offset_seconds = models.FloatField(null=True)
    # The reported presence, since when, and what reported it. Empty until something has; then only
    # heartbeats count.
    presence = models.CharField(max_length=7, choices=PRESENCES, blank=True, db_default="")
    presence_at = models.DateTimeField(null=True)
    presence_by = models.CharField(max_length=14, choices=REPORTERS, blank=True, db_default="")
    # The end of the grace after its last connection ended.
    offline_due_at = models.DateTimeField(null=True)
    # Its link is unstable: until then its grace is longer.
    unstable_until = models.DateTimeField(null=True)

    objects = ConnectivityQuerySet.as_manager()

    class Meta:
        verbose_name_plural = "connectivities"
        indexes = [
            models.Index(
                fields=["offline_due_at"],
                name="connectivity_due",
                condition=models.Q(offline_due_at__isnull=False),
            )
        ]

    def __str__(self) -> str:
        return f"connectivity of {self.device_id}"

    @property
    def known(self) -> Known:
        return Known(
            presence=Presence(self.presence) if self.presence else None,
            at=self.presence_at,
            by=Reporter(self.presence_by) if self.presence_by else None,
            last_seen=self.last_seen_online,
            offline_due_at=self.offline_due_at,
            unstable_until=self.unstable_until,
        )

    @property
    def newest_heartbeat(self) -> datetime | None:
        """Return when the last heartbeat came, over NATS or HTTP."""
        known = [at for at in (self.last_heartbeat, self.http_heartbeat_at) if at is not None]
        return max(known, default=None)

    @property
    def heartbeat_by(self) -> str | None:
        """Return how the last heartbeat came: `nats` or `http`, None without any."""
        newest = self.newest_heartbeat
        if newest is None:
            return None
        return "http" if newest == self.http_heartbeat_at else "nats"

    @property
    def clock_is_off(self) -> bool:
        return self.clock_offset_seconds is not None and abs(self.clock_offset_seconds) > 300

    @property
    def is_unstable(self) -> bool:
        return self.unstable_until is not None and self.unstable_until > timezone.now()


class RealtimeDataQuerySet(TenantOwnedQuerySet["RealtimeData"]):
    tenant_path = "device__tenant"


class RealtimeData(models.Model):
    """The latest message of each kind from each device."""

    device = models.ForeignKey(Device, on_delete=models.CASCADE, related_name="realtime_data")
    # `status`, `sysinfo`, or `monitoring:` and the body's `monitoring_type`.
    kind = models.CharField(max_length=128)
    data = models.JSONField()
    received_at = models.DateTimeField()

    objects = RealtimeDataQuerySet.as_manager()

    class Meta:
        verbose_name_plural = "realtime data"
        constraints = [
            models.UniqueConstraint(fields=["device", "kind"], name="latest_of_each_kind")
        ]

    def __str__(self) -> str:
        return f"{self.kind} of {self.device_id}"


class BrokerSessionQuerySet(TenantOwnedQuerySet["BrokerSession"]):
    tenant_path = "device__tenant"


class BrokerSession(models.Model):
    """One connection of a device to one nats-server, from the broker's events and lists.

    Ended ones are kept for a while, since events of one connection may arrive in the wrong order.
    """

    # Ends that the broker did not announce, found by its list of connections; the broker's own
    # reason replaces them if it comes.
    UNLISTED = "no longer among the broker's connections"
    SERVER_GONE = "its server went away"
    UNANNOUNCED = (UNLISTED, SERVER_GONE)

    # The server's id changes at each of its starts, so `client_id` never means two clients.
    server_id = models.CharField(max_length=56)
    client_id = models.BigIntegerField()
    device = models.ForeignKey(Device, on_delete=models.CASCADE, related_name="broker_sessions")
    address = models.CharField(max_length=64, blank=True)
    started_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)
    end_reason = models.CharField(max_length=100, blank=True)

    objects = BrokerSessionQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["server_id", "client_id"], name="one_broker_session")
        ]
        indexes = [
            models.Index(fields=["device", "ended_at"], name="broker_session_of"),
            models.Index(fields=["ended_at"], name="broker_session_ended"),
        ]

    def __str__(self) -> str:
        return f"connection {self.client_id} of {self.device_id}"


class PresenceChangeQuerySet(TenantOwnedQuerySet["PresenceChange"]):
    tenant_path = "device__tenant"


class PresenceChange(models.Model):
    """A change in a device's presence history."""

    device = models.ForeignKey(Device, on_delete=models.CASCADE, related_name="presence_changes")
    presence = models.CharField(max_length=7, choices=PRESENCES)
    at = models.DateTimeField()
    reported_by = models.CharField(max_length=14, choices=REPORTERS)
    # The broker's words: "Client Closed", "Stale Connection".
    reason = models.CharField(max_length=100, blank=True)

    objects = PresenceChangeQuerySet.as_manager()

    class Meta:
        ordering = ["-at", "-id"]
        indexes = [
            models.Index(fields=["device", "-at"], name="presence_history"),
            models.Index(fields=["at"], name="presence_change_at"),
        ]

    def __str__(self) -> str:
        return f"{self.device_id} {self.presence} at {self.at}"
